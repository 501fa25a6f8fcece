"""kill -9 at random moments, and two processes at once: the design's promises 1 to 4 hold.

For a network of each family, while its chain goes on and forks.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.harness.faults import Dead
from tests.harness.life import EXPIRE, PATIENCE, Open, evm, promises, tron, utxo
from tests.harness.world import world

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
KILLS: Final = 100 if SOAK else 6
ALIVE: Final = 1.2  # seconds that a process lives at most

pytestmark = pytest.mark.timeout(1800 if SOAK else 240)

EVM: Final = pytest.param(evm, marks=pytest.mark.node)


@pytest.mark.pitfall("P114", "P120")
@pytest.mark.parametrize("family", [EVM, tron, utxo])
async def test_kill_9_at_random_moments_loses_and_doubles_nothing(
    dsn: str, tmp_path: Path, family: Open
) -> None:
    rng = random.Random(9)
    async with family(dsn, tmp_path, seed=1, fail=0.2, delay=0.1) as life:
        w, stop = life.scene, asyncio.Event()
        living = asyncio.create_task(life.run(stop))
        for _ in range(KILLS):
            await asyncio.sleep(rng.random() * ALIVE)
            await w.engine.kill()
            await w.database.execute(EXPIRE)
            await w.engine.launch()
            if rng.random() < 0.8:  # else it is killed again while it starts
                await w.engine.ready()
        await w.engine.ready()
        stop.set()
        await living
        await promises(life)


@pytest.mark.pitfall("P114", "P120")
@pytest.mark.parametrize("family", [EVM, utxo])
async def test_two_processes_on_one_database_do_each_thing_once(
    dsn: str, tmp_path: Path, family: Open
) -> None:
    async with family(dsn, tmp_path, seed=2, fail=0.1, delay=0.05) as life:
        w, stop = life.scene, asyncio.Event()
        second = w.engine.another()
        try:
            await second.start()
            living = asyncio.create_task(life.run(stop))
            for victim in (w.engine, second) * (10 if SOAK else 2):
                await asyncio.sleep(1.5)
                await victim.kill()  # the other takes over within the lease
                await asyncio.sleep(0.5)
                await victim.start()
            stop.set()
            await living
            await second.stop()
            await w.engine.stop()
            await w.database.execute(EXPIRE)
            await w.engine.start()
            await promises(life)
        finally:
            await second.kill()
        assert "Traceback" not in second.log


@pytest.mark.node
@pytest.mark.pitfall("P120")
async def test_sigterm_finishes_what_is_in_hand_though_node_and_receiver_stall(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path, inside=False, delay=6.0) as w:
        address = "0x" + "a1" * 20
        await w.watch(address)
        await w.node.pay(address, 1)
        await w.mine()

        async def called() -> bool:
            return bool(w.receiver.requests)

        await w.until(called, "no callback came")
        with w.proxy.fault(Dead()):
            await w.engine.stop()
        w.receiver.delay = 0.0
        await w.engine.start()
        await w.confirm()
        await w.delivered(PATIENCE)
        assert [row["status"] for row in await w.deposits()] == ["confirmed"]
