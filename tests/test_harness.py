"""The harness tells the truth: anvil's blocks prove, and each fault is one that a proof refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from indexer.chains.evm_proof import prove
from indexer.chains.evm_wire import WireBlock, WireReceipt
from indexer.model import Unavailable
from tests.harness import faults
from tests.harness.anvil import EPOCH, Anvil, anvil
from tests.harness.contracts import contracts
from tests.harness.forgery import TIMES, Forged
from tests.harness.oracle import Identity, Oracle
from tests.harness.proxy import Proxy, proxy
from tests.harness.rpc import Rpc

pytestmark = pytest.mark.node

PAYEE = "0x" + "77" * 20


@asynccontextmanager
async def _scene() -> AsyncIterator[tuple[Anvil, Proxy, Rpc]]:
    """A chain whose head has a native payment, two token payments and a failed transaction."""
    async with anvil() as node, proxy(node.url) as lying, Rpc(lying.url) as through:
        token = await node.deploy(contracts()["Token"], "Tether", "USDT", 6)
        await token.send("mint", node.accounts[0], 10**12)
        await node.mine()
        await node.pay(PAYEE, 5)
        await token.send("transfer", PAYEE, 6)
        await token.send("repeat", PAYEE, 7, 2)
        await token.send("payRated", PAYEE)
        await node.mine()
        yield node, lying, through


async def _prove(node: Rpc, at: int | str = "latest") -> list[Any]:
    block = await node.block(at)
    receipts = await node.call("eth_getBlockReceipts", block and block["hash"])
    return prove(msgspec.convert(block, WireBlock), msgspec.convert(receipts, list[WireReceipt]))


async def test_every_block_of_anvil_proves() -> None:
    async with _scene() as (node, _, through):
        for height in range(await node.height() + 1):
            await _prove(node, height)
        executions = await _prove(through)
        assert [execution.status for execution in executions] == [True, True, True, False]
        assert [len(execution.logs) for execution in executions] == [0, 1, 2, 0]


@pytest.mark.parametrize(
    "fault",
    [
        faults.EmptyLogs(),
        faults.LogDropped(),
        faults.ReceiptMissing(),
        faults.AmountAltered(),
        faults.StatusFlipped(),
        faults.ReceiptsSwapped(),
        faults.ForeignBlockHash(),
        faults.ReceiptOfAnother(),
        faults.ValueAltered(),
        faults.BloomZero(),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_each_false_answer_breaks_the_proof_while_it_lasts(fault: faults.Fault) -> None:
    async with _scene() as (_, lying, through):
        with lying.fault(fault), pytest.raises(Unavailable):
            await _prove(through)
        assert fault.hits
        await _prove(through)


@pytest.mark.pitfall("P128")
@pytest.mark.parametrize("seed", range(40))
async def test_a_lost_field_breaks_the_proof_or_changes_nothing(seed: int) -> None:
    async with _scene() as (_, lying, through):
        honest = await _prove(through)
        with lying.fault(faults.FieldLost(seed)) as fault:
            try:
                seen = await _prove(through)
            except (Unavailable, msgspec.ValidationError, KeyError):
                seen = []
        assert fault.hits
        assert not seen or [(e.hash, e.status, e.logs) for e in seen] == [
            (e.hash, e.status, e.logs) for e in honest
        ]


async def test_a_forged_block_proves_and_pays_more() -> None:
    async with _scene() as (node, lying, through):
        height = await node.height()
        with lying.fault(Forged(height)) as fault:
            executions = await _prove(through)
        assert fault.hits
        assert int.from_bytes(executions[1].logs[0].data, "big") == 6 * TIMES
        await node.mine()
        with lying.fault(Forged(height)):
            assert (await through.head())["number"] == hex(height)
            assert await through.block(height + 1) is None


async def test_a_lagging_node_knows_nothing_above_its_head() -> None:
    async with _scene() as (node, lying, through):
        height = await node.height()
        with lying.fault(faults.Lag(2)) as fault:
            assert await through.height() == height - 2
            assert (await through.head())["number"] == hex(height - 2)
            assert await through.block(height - 1) is None
        assert fault.hits == 3


async def test_transactions_can_be_mined_again_on_another_branch() -> None:
    async with _scene() as (node, _, _):
        height = await node.height()
        old = await node.head()
        raw = [await node.raw(each["hash"]) for each in old["transactions"]]
        await node.rollback(1)
        assert await node.height() == height - 1
        await node.mine()
        await node.put(raw[:1])
        await node.mine()
        new = await node.head()
        assert new["hash"] != old["hash"]
        assert [each["hash"] for each in new["transactions"]] == [old["transactions"][0]["hash"]]
        await _prove(node)
        assert await node.call("eth_getBlockByHash", old["hash"], False) is None


async def test_finalized_is_two_epochs_behind() -> None:
    async with _scene() as (node, _, _):
        assert await node.finalized() == 0
        height = await node.mine(2 * EPOCH + 3)
        assert await node.finalized() == height - 2 * EPOCH


async def test_the_oracle_reads_what_was_paid_and_nothing_that_failed() -> None:
    async with _scene() as (node, _, _):
        token = (await node.head())["transactions"][1]["to"]
        found = await Oracle(node, {PAYEE: 0}, {"native": 0, token: 0}).read()
        hashes = [each["hash"] for each in (await node.head())["transactions"]]
        assert {identity: each.units for identity, each in found.items()} == {
            Identity(hashes[0], PAYEE, "native", 0): 5,
            Identity(hashes[1], PAYEE, token, 0): 6,
            Identity(hashes[2], PAYEE, token, 0): 7,
            Identity(hashes[2], PAYEE, token, 1): 7,
        }
