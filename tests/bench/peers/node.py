"""The node that all read: a recorded chain, and the same with something left out.

A lying one serves the true headers and leaves logs out of receipts and logs, as nodes have done
(paradigmxyz/reth#17678, enviodev/hyperindex#1498).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson

from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_json import text
from tests.bench.blocks import listed_tokens, make_chain, watched_addresses
from tests.bench.http import Answer, Piece
from tests.bench.recording import Recording, record
from tests.bench.replay import Replay
from tests.bench.suite import SEED

WATCHED: Final = 10_000  # addresses
# Blocks above the last that is asked for, so that it counts as final: Ponder leaves 30 out.
FINAL: Final = 40
ONE_LOG: Final = "one log"
ALL_LOGS: Final = "a block's logs"

_TRANSFER: Final = text(TRANSFER_TOPIC)
_LISTED: Final = [text(token) for token in listed_tokens()]


def make(folder: Path, blocks: int, matching: float, left_out: str | None = None) -> None:
    """Record a chain of `blocks` and FINAL more. Where the node lies, `left_out` is missing."""
    made = make_chain(blocks + FINAL, watched=WATCHED, matching=matching, seed=SEED)
    chain = made if left_out is None else _without(made, lies_at(blocks), left_out)
    folder.mkdir()
    record(folder, chain, watched_addresses(WATCHED))


def lies_at(blocks: int) -> int:
    """The height of the block that is not whole, of so many that are asked for."""
    return blocks // 2


def _without(chain: Iterator[Block], height: int, what: str) -> Iterator[Block]:
    yield from itertools.islice(chain, height)
    block = next(chain)
    receipts = copy.deepcopy(list(block.receipts))
    for receipt in receipts:
        deposits = [log for log in receipt["logs"] if _is_deposit(log)]
        if what == ALL_LOGS:
            receipt["logs"].clear()
        elif deposits:
            receipt["logs"].remove(deposits[0])
            break
    yield replace(block, receipts=receipts)
    yield from chain


def _is_deposit(log: dict[str, Any]) -> bool:
    """Whether it is an ERC-20 Transfer of a listed token."""
    return log["topics"][0] == _TRANSFER and len(log["topics"]) == 3 and log["address"] in _LISTED


class Node(Replay):
    """With what the peers ask beyond what the engine does: filters, which are queries put by."""

    def __init__(self, recording: Recording, chain_id: int) -> None:
        super().__init__(recording, chain_id)
        self._filters: dict[str, dict[str, Any]] = {}
        self._methods |= {
            "net_version": lambda: [orjson.dumps(str(chain_id))],
            "eth_newFilter": self._new_filter,
            "eth_getFilterLogs": lambda name: self._logs(self._filters[name]),
            "eth_uninstallFilter": lambda name: [b"true" if self._filters.pop(name) else b"false"],
        }

    def _new_filter(self, query: dict[str, Any]) -> list[Piece]:
        name = hex(len(self._filters) + 1)
        self._filters[name] = query
        return [orjson.dumps(name)]


def node(folder: Path, chain_id: int) -> Answer:
    """What answers as a node does, for `process.Served`."""
    return Node(Recording(folder), chain_id).answer
