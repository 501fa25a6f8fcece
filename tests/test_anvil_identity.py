"""Which chain is it, does it prove, what is final: what a node is asked before it is believed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.harness import faults
from tests.harness.anvil import EPOCH, anvil
from tests.harness.engine import Engine
from tests.harness.proxy import proxy
from tests.harness.world import NETWORK, network, world

pytestmark = pytest.mark.node

ALICE = "0x" + "a1" * 20


@pytest.mark.pitfall("P39")
async def test_a_network_with_the_wrong_chain_behind_it_is_refused(
    dsn: str, tmp_path: Path
) -> None:
    async with anvil() as node, proxy(node.url) as lying:
        await node.mine()
        with lying.fault(faults.WrongChain(1)) as fault:
            wrong = Engine(tmp_path, dsn, {NETWORK: network(lying.url)})
            await wrong.launch()
            assert await wrong.ended() == 1
            assert fault.hits
        assert "serves chain 1, not 31337" in wrong.log
        assert "Traceback" not in wrong.log


@pytest.mark.pitfall("P39", "P122")
async def test_an_endpoint_that_turns_into_another_chain_is_left(dsn: str, tmp_path: Path) -> None:
    async with anvil() as elsewhere, world(dsn, tmp_path, honest=True) as w:
        await elsewhere.pay(ALICE, 666)
        await elsewhere.mine(40)
        await w.watch(ALICE)
        w.proxy.redirect(elsewhere.url)
        with w.proxy.fault(faults.WrongChain(5)):
            for units in (1, 2, 3):
                await w.node.pay(ALICE, units)
                await w.mine()
            assert len(await w.agree()) == 3


@pytest.mark.pitfall("P39")
async def test_another_chain_with_the_same_id_is_refused_ever_after(
    dsn: str, tmp_path: Path
) -> None:
    async with anvil(timestamp=1_700_000_000) as first, anvil(timestamp=1_700_000_001) as other:
        begun = Engine(tmp_path, dsn, {NETWORK: network(first.url)})
        await begun.start()
        async with asyncio.timeout(20):
            while "following" not in begun.log:
                await asyncio.sleep(0.05)
        await begun.stop()
        moved = Engine(tmp_path, dsn, {NETWORK: network(other.url)})
        await moved.launch()
        assert await moved.ended() == 1
        assert "refused" in moved.log
        assert "Traceback" not in moved.log


@pytest.mark.pitfall("P64")
async def test_a_chain_that_does_not_prove_is_refused_and_the_setting_named(
    dsn: str, tmp_path: Path
) -> None:
    def other_headers(call: faults.Call, result: Any) -> Any:
        if call["method"] in faults.BLOCKS and result:
            result["extraData"] = "0x01"
        return result

    fault = faults.Scripted(other_headers)
    async with anvil() as node, proxy(node.url) as strange:
        await node.mine(3)
        with strange.fault(fault):
            strict = Engine(tmp_path, dsn, {NETWORK: network(strange.url)})
            await strict.launch()
            assert await strict.ended() == 1
            assert "may need another `verify`" in strict.log
            async with world(dsn, tmp_path, chain=(node, strange), verify="bloom") as w:
                await w.watch(ALICE)
                await w.node.pay(ALICE, 1)
                await w.mine()
                assert [row["amountUnits"] for row in await w.deposits()] == ["1"]
    assert fault.hits


@pytest.mark.pitfall("P46")
async def test_while_finality_stalls_nothing_is_credited_by_depth(dsn: str, tmp_path: Path) -> None:
    def stalled(call: faults.Call, result: Any) -> Any:
        if call["params"] and call["params"][0] == "finalized":
            return faults.Error(-39001, "Unknown block")
        return result

    async with world(dsn, tmp_path, confirmations="finalized") as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        with w.proxy.fault(faults.Scripted(stalled)) as fault:
            await w.mine(2 * EPOCH + 10)

            async def asked() -> bool:
                return bool(fault.hits)

            await w.until(asked, "nobody asked what is final")
            assert [row["status"] for row in await w.deposits()] == ["detected"]
        await w.mine()
        await w.until_all("finalized")
