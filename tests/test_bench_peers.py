"""The node that `make bench-peers` gives to all: what it leaves out, and that we notice."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import prove
from indexer.chains.evm_wire import WireBlock, WireReceipt
from tests.bench.peers import node
from tests.bench.recording import Recording
from tests.bench.suite import DENSE

BLOCKS = 4
LYING = BLOCKS // 2  # the height


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
