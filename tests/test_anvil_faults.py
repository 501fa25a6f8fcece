"""A node that lies, lags or fails before a real one: late is allowed, wrong and missed are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.harness import faults
from tests.harness.anvil import EPOCH, anvil
from tests.harness.contracts import Deployed, contracts
from tests.harness.faults import Fault
from tests.harness.forgery import Forged
from tests.harness.oracle import Identity, Oracle
from tests.harness.proxy import proxy
from tests.harness.world import World, identity, world

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("impatient")]

ALICE = "0x" + "a1" * 20
HITS = 8  # times that a fault must strike: an endpoint has to pass its check again
LOOK = 0.05  # seconds between two looks at what the engine believes meanwhile

P = pytest.param

CONTENT = [
    P(faults.EmptyLogs, marks=pytest.mark.pitfall("P55", "P56"), id="empty logs at the head"),
    P(faults.ReceiptMissing, marks=pytest.mark.pitfall("P56"), id="one receipt missing"),
    P(faults.LogDropped, marks=pytest.mark.pitfall("P56"), id="one log dropped"),
    P(faults.AmountAltered, marks=pytest.mark.pitfall("P56"), id="an amount altered"),
    P(faults.StatusFlipped, marks=pytest.mark.pitfall("P56"), id="a status flipped"),
    P(faults.ReceiptsSwapped, marks=pytest.mark.pitfall("P56"), id="receipts swapped"),
    P(faults.ReceiptOfAnother, marks=pytest.mark.pitfall("P23"), id="a receipt of another"),
    P(faults.ForeignBlockHash, marks=pytest.mark.pitfall("P57"), id="a foreign block hash"),
    P(faults.ValueAltered, marks=pytest.mark.pitfall("P65"), id="a transaction's value altered"),
    P(faults.BloomZero, marks=pytest.mark.pitfall("P59"), id="a bloom of zeros"),
]
SERVICE = [
    P(lambda: faults.Lag(2), marks=pytest.mark.pitfall("P61"), id="lag"),
    P(faults.NullBlock, marks=pytest.mark.pitfall("P57"), id="null for a block"),
    P(faults.Html, marks=pytest.mark.pitfall("P128"), id="HTML instead of JSON"),
    P(faults.TooMany, marks=pytest.mark.pitfall("P128"), id="too many requests"),
    P(faults.Dead, marks=pytest.mark.pitfall("P128"), id="nothing at all"),
    P(
        lambda: faults.Silence(0.5, faults.RECEIPTS),
        marks=pytest.mark.pitfall("P128"),
        id="a gateway's time-out",
    ),
]


async def _pay(w: World, token: Deployed) -> None:
    """A block with native and token deposits, and some that fail."""
    await w.node.pay(ALICE, 1)
    await token.send("transfer", ALICE, 2)
    await token.send("repeat", ALICE, 3, 2)
    await token.send("payRated", ALICE)
    await token.send("transfer", ALICE, 10**40)
    await w.node.mine()


async def _truth(w: World) -> dict[Identity, int]:
    """Units of every deposit that the honest chain has."""
    found = await Oracle(w.node, w.watched, {"native": 0, **w.coins}).read()
    return {name: each.units for name, each in found.items()}


async def _nothing_wrong(w: World) -> None:
    truth = await _truth(w)
    for row in await w.deposits():
        assert truth.get(identity(row)) == int(row["amountUnits"]), row
        assert row["status"] != "orphaned"


async def _while_it_lasts(w: World, fault: Fault, hits: int = HITS) -> None:
    """Wait until the fault has struck; all the while the engine must believe nothing wrong."""
    async with asyncio.timeout(20):
        while fault.hits < hits:
            await _nothing_wrong(w)
            await asyncio.sleep(LOOK)
    await _nothing_wrong(w)


@pytest.mark.parametrize("make", [*CONTENT, *SERVICE])
async def test_after_the_fault_every_deposit_is_there_once_and_during_it_none_is_wrong(
    dsn: str, tmp_path: Path, make: Callable[[], Fault]
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        await _pay(w, token)
        await w.follow()
        fault = make()
        with w.proxy.fault(fault):
            await _pay(w, token)
            await _while_it_lasts(w, fault)
        await w.follow()
        await w.confirm()
        assert len(await w.agree()) == 8
        for row in await w.deposits():
            assert await w.types(row["id"]) == ["detected", "confirmed"]


@pytest.mark.pitfall("P56", "P122")
@pytest.mark.parametrize("make", [*CONTENT[::3], *SERVICE[1:5]])  # one that lags is merely late
async def test_another_endpoint_stands_in_while_the_fault_lasts(
    dsn: str, tmp_path: Path, make: Callable[[], Fault]
) -> None:
    async with world(dsn, tmp_path, honest=True) as w:
        token = await w.token()
        await w.watch(ALICE)
        await w.follow()
        fault = make()
        with w.proxy.fault(fault):
            await _pay(w, token)
            await _while_it_lasts(w, fault, hits=1)
            await w.follow()
            assert len(await w.agree()) == 4


@pytest.mark.pitfall("P55", "P59")
@pytest.mark.parametrize("make", [faults.EmptyLogs, faults.LogDropped])
async def test_with_blooms_alone_missing_logs_are_noticed(
    dsn: str, tmp_path: Path, make: Callable[[], Fault]
) -> None:
    async with world(dsn, tmp_path, verify="bloom", native="off") as w:
        token = await w.token()
        await w.watch(ALICE)
        fault = make()
        with w.proxy.fault(fault):
            await token.send("transfer", ALICE, 2)
            await w.node.mine()
            async with asyncio.timeout(20):
                while fault.hits < HITS:
                    assert await w.deposits() == []
                    await asyncio.sleep(LOOK)
        await w.follow()
        assert [row["amountUnits"] for row in await w.deposits()] == ["2"]


@pytest.mark.pitfall("P62")
async def test_a_forged_block_that_proves_needs_a_second_witness(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, honest=True, quorum=2) as w:
        token = await w.token()
        await w.watch(ALICE)
        await w.follow()
        with ExitStack() as lies:
            async with w.proxy.paused():
                await _pay(w, token)
                forged = lies.enter_context(w.proxy.fault(Forged(await w.node.height())))
            await _while_it_lasts(w, forged)
            await asyncio.sleep(1)
            await _nothing_wrong(w)
        await w.follow()
        assert len(await w.agree()) == 4


@pytest.mark.pitfall("P62")
async def test_what_a_single_forger_was_believed_is_taken_back(dsn: str, tmp_path: Path) -> None:
    """Without a quorum a self-consistent lie is a block like any other, until the chain goes on."""
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        with ExitStack() as lies:
            async with w.proxy.paused():
                await token.send("transfer", ALICE, 2)
                lies.enter_context(w.proxy.fault(Forged(await w.node.mine())))

            async def believed() -> bool:
                return bool(await w.deposits())

            await w.until(believed, "the forged block was not read")
            assert [row["amountUnits"] for row in await w.deposits()] == ["2000000"]
            assert [row["status"] for row in await w.deposits()] == ["detected"]
        await w.mine()
        await w.agree()
        row = (await w.deposits())[0]
        assert await w.types(row["id"]) == ["detected", "orphaned", "detected", "confirmed"]


@pytest.mark.pitfall("P58")
async def test_an_answer_of_exactly_as_many_logs_as_a_cap_is_not_believed(
    dsn: str, tmp_path: Path
) -> None:
    async with anvil() as node, proxy(node.url) as lying:
        spam = await node.deploy(contracts()["Emitter"])
        for _ in range(4):
            for _ in range(3):
                await spam.send("spam", node.accounts[0], ALICE, 5, 150)
            await node.mine()
        head = await node.mine(2 * EPOCH + 5)
        settings: dict[str, Any] = {"verify": "off", "native": "off", "start": 1, "reorg_window": 8}
        capped = faults.Capped(1000)
        with lying.fault(capped):
            async with world(dsn, tmp_path, chain=(node, lying), **settings) as w:
                await w.watch(ALICE, fromBlock=0)
                await w.list_coin(spam, fromBlock=0)
                await w.follow()
                assert await node.height() == head
                assert capped.hits
                rows = await w.deposits()
                assert len({identity(row) for row in rows}) == len(rows) == 1800


@pytest.mark.pitfall("P66")
async def test_replies_of_a_batch_may_come_in_any_order_and_partly_as_errors(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        with w.proxy.fault(faults.Shuffled()) as shuffled:
            async with w.proxy.paused():
                for _ in range(6):
                    await _pay(w, token)
            await w.follow()
            assert shuffled.hits
        with w.proxy.fault(faults.PartlyErrors()) as errors:
            async with w.proxy.paused():
                for _ in range(6):
                    await _pay(w, token)
            async with asyncio.timeout(20):
                while errors.hits < HITS:
                    await asyncio.sleep(LOOK)
        await w.follow()
        await w.confirm()
        assert len(await w.agree()) == 48


@pytest.mark.pitfall("P57", "P122")
async def test_an_endpoint_that_dies_between_header_and_receipts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, honest=True) as w:
        token = await w.token()
        await w.watch(ALICE)
        await w.follow()
        with w.proxy.fault(faults.Dead(faults.RECEIPTS)) as fault:
            await _pay(w, token)
            await w.follow()
            assert fault.hits
            assert len(await w.agree()) == 4


@pytest.mark.pitfall("P128")
async def test_an_endpoint_that_falls_silent_is_given_up_after_its_time(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.chains.rpc.SILENCE_SECONDS", 1.5)
    async with world(dsn, tmp_path, honest=True) as w:
        await w.watch(ALICE)
        await w.follow()
        with w.proxy.fault(faults.Silence(40.0, faults.RECEIPTS)) as fault:
            await w.node.pay(ALICE, 1)
            await w.node.mine()
            await w.follow()
            assert fault.hits
            assert len(await w.agree()) == 1


@pytest.mark.pitfall("P57", "P122")
async def test_a_reorg_between_two_questions_gives_no_half_of_each(
    dsn: str, tmp_path: Path
) -> None:
    """The node swaps its head right after it was asked for the block, before its receipts."""
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        swapping = _SwapBefore(faults.RECEIPTS, w)
        with w.proxy.fault(swapping):
            await token.send("transfer", ALICE, 2)
            await w.node.mine()
            async with asyncio.timeout(20):
                while not swapping.hits:
                    await asyncio.sleep(LOOK)
        await w.follow()
        await w.agree()
        assert [row["amountUnits"] for row in await w.deposits()] == ["4"]


class _SwapBefore(Fault):
    """Replaces the node's head by another when it is asked for a method, once."""

    def __init__(self, method: str, w: World) -> None:
        super().__init__()
        self._method = method
        self._world = w
        self._swapping = False

    async def question(self, call: faults.Call, node: object) -> faults.Call:
        if call["method"] == self._method and not self._swapping:
            self._swapping = True
            await self._world.node.rollback(1)
            await self._world.node.pay(ALICE, 4, sender=1)
            await self._world.node.mine()
            self.hits += 1  # only now: whoever waits for it finds the new head
        return call


@pytest.mark.pitfall("P128")
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_field_that_is_missing_never_costs_a_deposit(
    dsn: str, tmp_path: Path, seed: int
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        for round_ in range(3):
            with w.proxy.fault(faults.FieldLost(seed * 100 + round_)) as fault:
                await _pay(w, token)
                await _while_it_lasts(w, fault)
            await w.follow()
        assert len(await w.agree()) == 12
