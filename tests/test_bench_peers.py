"""`make bench-peers`: the node that it gives to all, and what it takes for a result."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import prove
from indexer.chains.evm_wire import WireBlock, WireReceipt
from tests.bench.blocks import MAINNET
from tests.bench.peers import node, tables
from tests.bench.peers.__main__ import Found, page
from tests.bench.peers.contest import Command, Failed, Job
from tests.bench.peers.tables import Runs, faults, speed
from tests.bench.recording import Recording
from tests.bench.suite import DENSE
from tests.conftest import Server

BLOCKS = 4
LYING = node.lies_at(BLOCKS)
WHOLE = BLOCKS * MAINNET.transfers  # rows


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains end with what is asked for, and one run is enough."""
    monkeypatch.setattr(node, "FINAL", 0)
    monkeypatch.setattr(tables, "ROUNDS", 1)


def logs(recording: Recording, height: int) -> int:
    kept = recording.read(recording.entries[height].logs)
    return len(msgspec.json.decode(b"[" + bytes(kept) + b"]"))


@pytest.mark.parametrize("what", [node.ONE_LOG, node.ALL_LOGS])
@pytest.mark.pitfall("P56")
def test_what_is_left_out_does_not_prove(what: str, tmp_path: Path) -> None:
    node.make(tmp_path / "honest", BLOCKS, DENSE)
    node.make(tmp_path / "lying", BLOCKS, DENSE, what)
    honest, lying = Recording(tmp_path / "honest"), Recording(tmp_path / "lying")
    for height, entry in enumerate(lying.entries):
        block = msgspec.json.decode(lying.read(entry.full), type=WireBlock)
        receipts = msgspec.json.decode(lying.read(entry.receipts), type=list[WireReceipt])
        left_out = logs(honest, height) - logs(lying, height)
        if height == LYING:
            assert left_out == (1 if what == node.ONE_LOG else logs(honest, height))
            with pytest.raises(NotProved, match="receipts root"):
                prove(block, receipts)
        else:
            assert left_out == 0
            prove(block, receipts)


@dataclass
class Scripted:
    """A peer that does as it is told, run by run: how many rows it stores, what it leaves with."""

    name: str
    runs: list[tuple[int, int]]
    refused: bool = False
    stores: str = "nowhere"
    to_head: bool = False
    erc721: bool = False
    stored: int = field(default=0, init=False)

    def install(self, tools: Path) -> None:
        if self.refused:
            raise Failed("npm is not here")

    def command(self, job: Job) -> Command:
        self.stored, code = self.runs.pop(0)
        return Command([sys.executable, "-c", f"print('said'); raise SystemExit({code})"])

    async def rows(self, job: Job) -> int:
        return self.stored


@pytest.fixture
def runs(server: Server, tmp_path: Path) -> Runs:
    return Runs(server.dsn, tmp_path, tmp_path / "tools")


def test_a_run_that_does_not_store_all_that_is_there_gives_no_figure_and_costs_the_others_none(
    runs: Runs,
) -> None:
    peers = [
        Scripted("absent", [], refused=True),
        Scripted("short", [(WHOLE - 1, 0)]),
        Scripted("double", [(WHOLE + 1, 0)]),
        Scripted("broken", [(WHOLE, 1)]),
        Scripted("good", [(WHOLE, 0)]),
        Scripted("erc721", [(BLOCKS * (MAINNET.transfers + MAINNET.collectibles), 0)], erc721=True),
    ]
    runs.install(peers)
    rows = speed(runs, peers, BLOCKS)
    assert [row[0] for row in rows] == ["good", "erc721"]
    assert runs.failures == {
        "absent": "npm is not here",
        "short": "1,559 rows where 1,560 should be",
        "double": "1,561 rows where 1,560 should be",
        "broken": "it left with 1: said\n",
    }
    found = page(Found(rows, [], [], runs.failures), BLOCKS, "no machine", markdown=True)
    assert "short has no figure: 1,559 rows where 1,560 should be" in found


def test_what_is_missing_after_a_fault_is_what_was_left_out_or_the_run_does_not_count(
    runs: Runs,
) -> None:
    a_block = MAINNET.transfers
    below = (LYING - 1) * a_block
    peers = [
        Scripted("silent", [(WHOLE - 1, 0), (WHOLE - a_block, 0)]),
        Scripted("whole", [(WHOLE, 0), (WHOLE, 0)]),
        Scripted("stopping", [(below, 1), (0, 1)]),
        Scripted("wild", [(WHOLE, 0), (WHOLE - 2, 0)]),
        Scripted("late", [(below + 1, 1), (0, 1)]),
    ]
    rows = faults(runs, peers, BLOCKS)
    assert [row[0] + ": " + ", ".join(row[2:]) for row in rows] == [
        "silent: 1, exit 0, not a word",
        "silent: 390, exit 0, not a word",
        "whole: 0, exit 0",
        "whole: 0, exit 0",
        f"stopping: none: it stopped at block {LYING}, exit 1",
        f"stopping: none: it stopped at block {LYING}, exit 1",
        "wild: 0, exit 0",
        f"late: none: it stopped at block {LYING}, exit 1",
    ]
    assert runs.failures == {
        "wild": "2 rows are missing where the node left out 390",
        "late": "it left with 1 after it had stored what does not prove",
    }
