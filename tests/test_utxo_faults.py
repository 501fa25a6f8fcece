"""Faults of a Bitcoin-like node: nothing wrong is believed meanwhile, all is there once after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from aiohttp import web

from indexer.devnet.utxo_block import sized
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_wallet import SIGNATURE, Kind
from tests.harness import faults, utxo_faults
from tests.harness.faults import Fault
from tests.harness.scene import LOOK
from tests.harness.utxo import SimulatedWorld, simulated_world

pytestmark = pytest.mark.usefixtures("impatient")

HITS: Final = 8  # times that a fault must strike: an endpoint has to pass its check again
FEW: Final = {"the hash of no block": 2}  # its check finds it too, and leaves it out for long
SECONDS: Final = 20.0  # that it has for it
UNITS: Final = 123_456
QUIET: Final = {("detected",), ("detected", "confirmed")}  # what is told where nothing is undone

Make: TypeAlias = Callable[[SimulatedWorld], Fault]


def paid(units: int, script: bytes) -> bytes:
    """An output as it is serialised."""
    return units.to_bytes(8, "little") + sized(script)


def alice(w: SimulatedWorld) -> bytes:
    return w.chain.wallet("alice", Kind.P2WPKH).script


def stranger(w: SimulatedWorld) -> bytes:
    return w.chain.wallet("stranger", Kind.P2WPKH).script


def replaced(
    old: Callable[[SimulatedWorld], bytes], new: Callable[[SimulatedWorld], bytes]
) -> Make:
    return lambda w: utxo_faults.body(utxo_faults.replaced(old(w), new(w)))


def body(change: Callable[[bytes], bytes]) -> Make:
    return lambda w: utxo_faults.body(change)


def named(method: str) -> Make:
    """A hash that is no block's."""
    return lambda w: utxo_faults.Twisted(method, lambda said: "ff" * 32)


def misplaced(by: int) -> Make:
    """The newest block is said to stand at another height."""

    def change(said: Any) -> Any:
        return said | {"height": said["height"] + by} if isinstance(said, dict) else said

    return lambda w: utxo_faults.Twisted("getblockheader", change)


def stale(w: SimulatedWorld) -> Fault:
    """The hash of a block that was replaced, at the height that it had."""
    gone = w.chain.mine()
    w.chain.rewind(1)

    def change(said: Any) -> Any:
        return gone.hash.hex() if said == w.chain.branch(gone.number)[0].hash.hex() else said

    return utxo_faults.Twisted("getblockhash", change)


def refusing(error: faults.Error, *methods: str) -> Make:
    return lambda w: utxo_faults.Refusing(error, *methods)


def answering(make: Callable[[], web.Response]) -> Make:
    return lambda w: utxo_faults.Always(make)


CONTENT: Final[dict[str, Make]] = {
    "an amount raised": replaced(
        lambda w: paid(UNITS, alice(w)), lambda w: paid(UNITS * 1000, alice(w))
    ),
    "another's output said to be ours": replaced(stranger, alice),
    "our output said to be another's": replaced(alice, stranger),
    "a transaction left out": lambda w: utxo_faults.body(utxo_faults.without_last(w.chain.network)),
    "the last transaction twice": lambda w: utxo_faults.body(
        utxo_faults.last_doubled(w.chain.network)
    ),
    "another witness": replaced(lambda w: SIGNATURE, lambda w: SIGNATURE[:-1] + b"\0"),
    "a block that breaks off": body(lambda raw: raw[:-7]),
    "a byte too many": body(lambda raw: raw + b"\0"),
    "a header instead of a block": body(lambda raw: raw[:80]),
    "another block": lambda w: utxo_faults.body(lambda raw: w.chain.branch(1)[0].raw),
    "a header with another nonce": lambda w: utxo_faults.header(lambda raw: raw[:76] + b"\xff" * 4),
    "the hash of a stale block": stale,
    "the hash of no block": named("getblockhash"),
    "a best block that is none": named("getbestblockhash"),
    "a head said to be lower": misplaced(-3),
    "a head said to be higher": misplaced(1000),
}
SERVICE: Final[dict[str, Make]] = {
    "lag": lambda w: utxo_faults.Lag(2),
    "a block missing": refusing(utxo_faults.NOT_FOUND, "getblock"),
    "a block pruned": refusing(utxo_faults.PRUNED, "getblock"),
    "a node that starts": refusing(
        utxo_faults.WARMING_UP, "getbestblockhash", "getblockhash", "getblockcount"
    ),
    "a full work queue": answering(
        lambda: web.Response(status=503, text="Work queue depth exceeded")
    ),
    "too many requests": lambda w: faults.TooMany(0),
    "HTML instead of JSON": lambda w: faults.Html(),
    "half an answer": answering(utxo_faults.half_json),
    "nothing at all": lambda w: faults.Dead(),
    "a gateway's time-out": lambda w: faults.Silence(0.3),
}
FAULTS: Final = CONTENT | SERVICE


async def prepare(w: SimulatedWorld) -> None:
    await w.watch(w.chain.wallet("alice", Kind.P2WPKH))
    pay(w)
    await w.follow()


def pay(w: SimulatedWorld) -> None:
    """Two blocks of three transactions, two of which pay Alice."""
    payer = w.chain.wallet("payer", Kind.P2WPKH)
    for _ in range(2):
        w.chain.pay(payer, (alice(w), UNITS))
        w.chain.pay(payer, (stranger(w), UNITS + 1), (alice(w), UNITS))
        w.chain.mine()


async def struck(w: SimulatedWorld, fault: Fault, hits: int = HITS) -> None:
    """Wait until the fault has struck; all the while the engine must believe nothing wrong."""
    async with asyncio.timeout(SECONDS):
        while fault.hits < hits:
            await w.nothing_wrong()
            await asyncio.sleep(LOOK)
    await w.nothing_wrong()


@pytest.mark.pitfall("P96", "P99", "P100", "P107", "P108", "P128")
@pytest.mark.parametrize("name", FAULTS)
async def test_after_the_fault_every_deposit_is_there_once_and_during_it_none_is_wrong(
    dsn: str, tmp_path: Path, name: str
) -> None:
    async with simulated_world(dsn, tmp_path) as w:
        await prepare(w)
        fault = FAULTS[name](w)
        with w.proxies[0].fault(fault):
            pay(w)
            await struck(w, fault, FEW.get(name, HITS))
        await w.mine(2)
        assert len(await w.agree()) == 8
        assert set(map(tuple, (await w.histories()).values())) == {("detected", "confirmed")}
        await w.delivered()


@pytest.mark.pitfall("P100", "P107", "P108")
@pytest.mark.parametrize("name", [*list(CONTENT)[::3], *list(SERVICE)[2::3]])
async def test_another_endpoint_stands_in_while_the_fault_lasts(
    dsn: str, tmp_path: Path, name: str
) -> None:
    async with simulated_world(dsn, tmp_path, nodes=2) as w:
        await prepare(w)
        fault = FAULTS[name](w)
        with w.proxies[0].fault(fault):
            pay(w)
            await w.follow()
            assert len(await w.agree()) == 8
            await struck(w, fault, hits=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: web.Response(status=404),
        lambda: web.Response(status=403),
        lambda: web.Response(text="<html>Welcome!</html>", content_type="text/html"),
    ],
)
async def test_blocks_come_by_json_where_there_is_no_rest(
    dsn: str, tmp_path: Path, make: Callable[[], web.Response]
) -> None:
    async with simulated_world(dsn, tmp_path) as w:
        await prepare(w)
        with w.proxies[0].fault(utxo_faults.WithoutRest(make)) as fault:
            pay(w)
            await w.follow()
            assert fault.hits == 1  # then it is not asked for again
            assert len(await w.agree()) == 8


@pytest.mark.pitfall("P106")
async def test_another_chain_at_the_same_url_is_not_read(dsn: str, tmp_path: Path) -> None:
    async with simulated_world(dsn, tmp_path) as w:
        await prepare(w)
        other = SimulatedUtxoChain(1, "ltc")
        for _ in range(30):
            other.pay(w.chain.wallet("payer"), (alice(w), 1))
            other.mine()
        async with UtxoNode(other) as node:
            w.proxies[0].redirect(node.url)
            pay(w)
            await w.until_state("unreachable")
            assert len(await w.nothing_wrong()) == 4
            w.proxies[0].redirect(w.nodes[0].url)
            await w.follow()
        assert len(await w.agree()) == 8


def private(w: SimulatedWorld, blocks: int, twist: Callable[[bytes], bytes] = bytes) -> Fault:
    """Blocks that pay Alice what nobody else will see."""
    first = w.chain.head.number + 1
    w.chain.pay(w.chain.wallet("payer"), (alice(w), 10**15))
    raws = [w.chain.mine().raw for _ in range(blocks)]
    (tx,) = w.chain.rewind(blocks)
    w.chain.send(tx.inputs, (stranger(w), 1))  # spent otherwise on the branch that stays
    return utxo_faults.Private(first, *raws[:-1], twist(raws[-1]))


@pytest.mark.pitfall("P108")
@pytest.mark.parametrize("twist", [utxo_faults.unworked, utxo_faults.eased])
async def test_a_block_that_nobody_worked_for_is_not_believed(
    dsn: str, tmp_path: Path, twist: Callable[[bytes], bytes]
) -> None:
    async with simulated_world(dsn, tmp_path) as w:
        await prepare(w)
        fault = private(w, 1, twist)
        with w.proxies[0].fault(fault):
            await struck(w, fault)
        pay(w)
        await w.follow()
        assert len(await w.agree()) == 8


@pytest.mark.pitfall("P108")
async def test_a_private_branch_needs_a_second_witness(dsn: str, tmp_path: Path) -> None:
    async with simulated_world(dsn, tmp_path, nodes=2, quorum=2) as w:
        await prepare(w)
        fault = private(w, 3)
        with w.proxies[0].fault(fault):
            await struck(w, fault)
        pay(w)
        await w.follow()
        assert len(await w.agree()) == 8
        assert set(map(tuple, (await w.histories()).values())) <= QUIET


@pytest.mark.pitfall("P108")
async def test_what_a_single_liar_was_believed_is_taken_back(dsn: str, tmp_path: Path) -> None:
    """Worked blocks are worked blocks: without a quorum only more work says which ones count."""
    async with simulated_world(dsn, tmp_path) as w:
        await prepare(w)
        with w.proxies[0].fault(private(w, 1)):

            async def believed() -> bool:
                return len(await w.deposits()) == 5

            await w.until(believed, "the private block was not read")
            (row,) = [row for row in await w.deposits() if row["amountUnits"] == str(10**15)]
            assert row["status"] == "detected"
        pay(w)
        await w.follow()
        assert len(await w.agree()) == 8
        assert await w.types(row["id"]) == ["detected", "orphaned"]


@pytest.mark.pitfall("P128")
async def test_an_endpoint_that_falls_silent_is_given_up_after_its_time(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.chains.rpc.SILENCE_SECONDS", 1.0)
    async with simulated_world(dsn, tmp_path, nodes=2) as w:
        await prepare(w)
        with w.proxies[0].fault(faults.Silence(40.0, "getblock")) as fault:
            pay(w)
            await w.follow()
            assert fault.hits
            assert len(await w.agree()) == 8
