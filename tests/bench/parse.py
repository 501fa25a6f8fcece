"""Recorded Bitcoin mainnet blocks, read again and again on one core: MB a second.

Beside it stand the floor, which is the same hashes of bytes cut out before, and ElectrumX, the
Bitcoin indexer in Python: its ids of all transactions, with and without witness, and no root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_parse import HEADER_BYTES, RawBlock, body_of, parse_block
from indexer.chains.utxo_proof import double_sha256, merkle_root, prove_block
from indexer.chains.utxo_wire import compact_size
from tests.bench.process import Clock
from tests.bench.results import MEGABYTE, Figure, Run, check_count
from tests.bench.suite import Suite

FIXTURES: Final = "CHAIN_FIXTURES"
LEAST_BYTES: Final = 100_000  # of a block worth its time
NETWORK: Final = NETWORKS["btc", "mainnet"]
ROOT: Final = slice(36, 68)  # of a header

IDS, PROVED = "ids and root", "all proved"
LEFT_OUT: Final = f"Recorded blocks were left out: {FIXTURES} names no folder with them."
FLOOR: Final = "the same hashes, nothing else"
PEER: Final = "ElectrumX (e-x 2.0.0): ids"


class Recorded(NamedTuple):
    """A mainnet block."""

    height: int
    raw: bytes


def recorded() -> list[Recorded]:
    """In their order; none where FIXTURES names no folder."""
    folder = os.environ.get(FIXTURES)
    paths = Path(folder).glob("bitcoin/mainnet_*.raw") if folder else ()
    blocks = [Recorded(int(p.stem.split("_")[1]), p.read_bytes()) for p in paths if _large(p)]
    return sorted(blocks)


def figures(suite: Suite) -> Iterator[Figure]:
    for block in recorded():
        yield beside_electrumx(suite, block)
        yield _figure(suite, block, IDS, FLOOR, floor)
        if parse_block(block.raw, NETWORK).witnesses:
            yield _figure(suite, block, PROVED, FLOOR, floor)


def beside_electrumx(suite: Suite, block: Recorded) -> Figure:
    return _figure(suite, block, IDS, PEER, electrumx)


def _figure(
    suite: Suite,
    block: Recorded,
    how: str,
    beside: str,
    bare: Callable[[Recorded, str, float], Coroutine[Any, Any, Run]],
) -> Figure:
    seconds = suite.sizes.parse_seconds
    return suite.figure(
        f"block {block.height:,}, {how}",
        "MB",
        lambda: suite.alone(measure, block, how, seconds),
        beside,
        lambda: suite.alone(bare, block, how, seconds),
    )


async def measure(block: Recorded, how: str, seconds: float) -> Run:
    """Read a block for so long, each time from its bytes."""
    raw = block.raw
    expected = double_sha256(raw[:HEADER_BYTES])

    def ids() -> None:
        check_count("roots", merkle_root(parse_block(raw, NETWORK).txids) == raw[ROOT], 1)

    def proved() -> None:
        prove_block(parse_block(raw, NETWORK), expected, NETWORK)

    return _again(ids if how == IDS else proved, raw, seconds)


async def floor(block: Recorded, how: str, seconds: float) -> Run:
    """The same hashes, of what a block was cut into before the clock starts."""
    found = parse_block(block.raw, NETWORK)
    bare = list(_without_witnesses(found))
    whole = [found.raw[start:end] for start, end in _spans(found)] if how == PROVED else []
    root = merkle_root([double_sha256(each) for each in bare])
    check_count("roots", root == found.raw[ROOT], 1)

    def hashes() -> None:
        merkle_root([double_sha256(each) for each in bare])
        if whole:
            merkle_root([double_sha256(each) for each in whole])

    return _again(hashes, block.raw, seconds)


async def electrumx(block: Recorded, how: str, seconds: float) -> Run:
    """What ElectrumX makes of a block before it does anything with it."""
    # Here, because elsewhere in the bench it would count as our own memory.
    from electrumx.lib.coins import Bitcoin

    def read() -> list[Any]:
        transactions: list[Any] = Bitcoin.block(block.raw, block.height).transactions
        return transactions

    theirs = [tx.txid_rev for tx in read()]
    check_count("equal lists of ids", theirs == parse_block(block.raw, NETWORK).txids, 1)
    return _again(read, block.raw, seconds)


def _again(act: Callable[[], object], raw: bytes, seconds: float) -> Run:
    """Act for so long; each time counts as the block's megabytes.

    A second is one of the core's: nothing here waits, and what else the machine does is left out.
    """
    clock, times = Clock(), 0
    while (spent := clock.cpu) < seconds:
        act()
        times += 1
    return Run(times * len(raw) / MEGABYTE, spent, spent, clock.peak_bytes)


def _large(path: Path) -> bool:
    return "undo" not in path.name and path.stat().st_size >= LEAST_BYTES


def _spans(block: RawBlock) -> Iterator[tuple[int, int]]:
    return pairwise([*block.starts, block.end])


def _without_witnesses(block: RawBlock) -> Iterator[bytes]:
    """What each transaction's id is the hash of."""
    raw, lasts = block.raw, [*block.outputs[1:], len(block.places)]
    for (start, end), last in zip(_spans(block), lasts, strict=True):
        _, body = body_of(raw, start)
        size, script = compact_size(raw, block.places[last - 1] + 8)
        yield raw[start : start + 4] + raw[body : script + size] + raw[end - 4 : end]
