"""kill -9 at random moments while a TRON chain goes on and forks: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from indexer.devnet.tron_traffic import TronTraffic
from tests.harness.tron import tron_world
from tests.test_crash import ALIVE, EXPIRE, NEXT, SOAK

KILLS = 100 if SOAK else 5
QUIET_BLOCKS = 2
# What may follow what where some transfers are in another shape, and held.
FOLLOWS = {
    **NEXT,
    None: NEXT[None] | {"held"},
    "held": {"orphaned"},
    "orphaned": NEXT["orphaned"] | {"held"},
}

pytestmark = [pytest.mark.timeout(1800 if SOAK else 180)]


async def live(traffic: TronTraffic, stop: asyncio.Event) -> None:
    while not stop.is_set():
        traffic.step()
        await asyncio.sleep(0.15)


@pytest.mark.pitfall("P114", "P120")
async def test_kill_9_at_random_moments_loses_and_doubles_nothing(dsn: str, tmp_path: Path) -> None:
    rng = random.Random(9)
    async with tron_world(dsn, tmp_path, inside=False, fail=0.2, delay=0.1) as w:
        keys = [w.chain.wallet(f"watched {n}").address for n in range(4)]
        traffic = TronTraffic(w.chain, keys, random.Random(4))
        await w.watch(*keys)
        for asset in traffic.assets:
            await w.list_coin(asset)
        stop = asyncio.Event()
        living = asyncio.create_task(live(traffic, stop))
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
        await w.mine(QUIET_BLOCKS)
        assert len(await w.agree()) > 10
        for types in (await w.histories()).values():
            for before, after in zip([None, *types], types, strict=False):
                assert after in FOLLOWS[before], types
        w.receiver.fail = 0.0
        await w.delivered()
        events = await w.account.events()
        assert [each["position"] for each in events] == list(range(1, len(events) + 1))
        accepted = {received.id for received in w.receiver.accepted}
        assert accepted == {e["id"] for e in events if e["type"] != "deposit.finalized"}
