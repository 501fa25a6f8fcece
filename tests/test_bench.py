"""The benchmarks at their smallest: they run, they find what is there, and their blocks prove."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec
import pytest

from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import prove
from indexer.chains.evm_transaction import recover_sender
from indexer.chains.evm_wire import WireBlock, WireReceipt, octets
from tests.bench import (
    addresses,
    callbacks,
    catch_up,
    deposits,
    latency,
    parse,
    scans,
    tron,
    utxo,
    watchset,
)
from tests.bench.__main__ import page, tables
from tests.bench.blocks import CHAIN_ID, MAINNET, Shape, make_chain, watched_addresses
from tests.bench.process import ONE, Served, run_alone
from tests.bench.recording import Entry, Recording, record
from tests.bench.replay import TOO_LARGE, replay
from tests.bench.results import Delay, Figure
from tests.bench.suite import Sizes, Suite
from tests.conftest import Server

SMALL = Shape(payments=8, failed=1, calls=8, transfers=20, collectibles=2, others=10)
SMALLEST = Sizes(
    blocks=4,
    dense_blocks=3,
    utxo_blocks=3,
    callbacks=60,
    offered_seconds=0.1,
    registered=30,
    loaded=900,
    rounds=1,
    watched=50,
    shape=SMALL,
    utxo_transactions=20,
    parse_seconds=0.001,
    endpoints=(3,),
    many=100,
    grown=3,
)

T = TypeVar("T")

_block = msgspec.json.Decoder(WireBlock)
_receipts = msgspec.json.Decoder(list[WireReceipt])


def in_place(
    measure: Callable[..., Coroutine[Any, Any, T]], *arguments: object, cores: str = ONE
) -> T:
    """In this process: starting others is most of a small measurement's time."""
    return asyncio.run(measure(*arguments))


@pytest.fixture
def suite(server: Server, tmp_path: Path) -> Suite:
    return Suite(server.dsn, tmp_path, SMALLEST, in_place)


def read(recording: Recording, entry: Entry) -> tuple[WireBlock, list[WireReceipt]]:
    return (
        _block.decode(recording.read(entry.full)),
        _receipts.decode(recording.read(entry.receipts)),
    )


@pytest.mark.parametrize(
    "measure",
    [
        each.figures
        for each in (catch_up, tron, utxo, deposits, callbacks, addresses, latency, scans, watchset)
    ],
    ids=lambda f: f.__module__,
)
def test_every_benchmark_finds_all_deposits_and_gives_a_figure(
    suite: Suite, measure: Callable[[Suite], Iterator[Figure | Delay]]
) -> None:
    found = list(measure(suite))
    assert found
    for each in found:
        if isinstance(each, Delay):
            assert 0 < each.rounds[0].median <= each.rounds[0].p99
        else:
            assert each.engine[0].rate > 0
            assert each.floor[0].rate > 0
        assert each.name in tables([each], markdown=True)


@pytest.mark.usefixtures("chain_fixtures")
def test_recorded_blocks_are_named_by_height_and_held_against_floor_and_electrumx(
    suite: Suite,
) -> None:
    figures = {(each.name, each.beside): each for each in parse.figures(suite)}
    dense = "block 702,861, {}"
    for how, beside in (
        (parse.IDS, parse.PEER),
        (parse.IDS, parse.FLOOR),
        (parse.PROVED, parse.FLOOR),
    ):
        assert figures[dense.format(how), beside].engine[0].count > 1  # megabytes
    assert ("block 413,567, all proved", parse.FLOOR) not in figures  # it has no witnesses


def test_without_recorded_blocks_their_rows_are_left_out(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(parse.FIXTURES, raising=False)
    assert not list(parse.figures(suite))
    assert parse.LEFT_OUT in page([], "no machine", SMALLEST)


def test_a_catch_up_that_misses_a_deposit_gives_no_figure(suite: Suite) -> None:
    folder = suite.recorded(2, 1.0)
    expected = Recording(folder).deposits(native=True)
    with (
        Served(replay, folder, CHAIN_ID) as url,
        pytest.raises(Exception, match=f"{expected} deposits where {expected + 1} should be"),
    ):
        suite.alone(catch_up.measure, suite.database(), url, catch_up.CASES[0], 50, 2, expected + 1)


def test_the_benchmarks_blocks_have_mainnets_size_and_prove(tmp_path: Path) -> None:
    record(tmp_path, make_chain(2, watched=9, matching=0.5, seed=1), watched_addresses(9))
    recording = Recording(tmp_path)
    for entry in recording.entries[1:]:
        block, receipts = read(recording, entry)
        executions = prove(block, receipts)
        assert len(executions) == MAINNET.transactions == 250
        assert sum(len(each.logs) for each in receipts) == MAINNET.logs == 700
        moved = sum(len(each.logs) for each in executions)
        assert moved == MAINNET.transfers + MAINNET.collectibles
        assert entry.full.end - entry.full.start + entry.receipts.end - entry.receipts.start > 0.8e6
        for tx in block.transactions[:10]:
            assert recover_sender(tx) == octets(tx.sender)
    for (below, _), (above, _) in pairwise(read(recording, e) for e in recording.entries):
        assert above.parent_hash == below.hash


def test_the_benchmarks_blocks_do_not_prove_once_a_log_is_gone(tmp_path: Path) -> None:
    record(tmp_path, make_chain(1, watched=1, matching=0.0, seed=1, shape=SMALL), [])
    recording = Recording(tmp_path)
    block, receipts = read(recording, recording.entries[1])
    next(receipt for receipt in reversed(receipts) if receipt.logs).logs.pop()
    with pytest.raises(NotProved, match="receipts root"):
        prove(block, receipts)


def test_the_same_seed_makes_the_same_chain() -> None:
    one, same, other = (
        [block.hash for block in make_chain(2, watched=5, matching=0.5, seed=seed, shape=SMALL)]
        for seed in (1, 1, 2)
    )
    assert one == same != other


async def test_the_replayed_node_answers_batches_by_id_and_keeps_its_cap(tmp_path: Path) -> None:
    record(tmp_path, make_chain(3, watched=1, matching=0.0, seed=1, shape=SMALL), [])
    recording = Recording(tmp_path)
    cap = 2 * (recording.entries[1].full.end - recording.entries[1].full.start)
    calls = [
        {"id": 10 + height, "method": "eth_getBlockByNumber", "params": [hex(height), True]}
        for height in (4, 1, 2, 3)
    ]
    with Served(replay, tmp_path, CHAIN_ID, cap) as url:
        async with aiohttp.ClientSession() as session, session.post(url, json=calls) as response:
            replies = await response.json()
    assert [reply["id"] for reply in replies] == [14, 11, 12, 13]
    assert replies[0] == {"jsonrpc": "2.0", "id": 14, "result": None}
    assert replies[1]["result"]["hash"] == recording.entries[1].hash
    assert replies[3]["error"]["code"] == TOO_LARGE


def test_a_measurement_runs_in_a_process_of_its_own_and_brings_its_result_back() -> None:
    assert run_alone(asyncio.sleep, 0, "done") == "done"
