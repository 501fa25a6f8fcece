"""Blocks fetched ahead, in order: a few requests at a time, within a bound on bytes.

How many blocks one request asks for adapts: a little more after each answer that was quick and
small, half after each failure.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from indexer.chains import Block
from indexer.chains.turn import give_way, gives_way
from indexer.model import Unavailable

REQUESTS: Final = 4  # under way at once
BYTES_IN_FLIGHT: Final = 64 * 2**20  # asked for and not taken yet
REQUEST_BYTES: Final = 6 * 2**20  # wanted of one request's answers
REQUEST_BLOCKS: Final = 100
# Who gives way asks for one thing at a time, and less: a follower's question waits at the node, and
# its answer in our socket, behind all that was asked before it.
MODEST_REQUESTS: Final = 1
MODEST_BYTES: Final = 2 * 2**20
FIRST_BLOCKS: Final = 4
STEP_BLOCKS: Final = 2
SLOW_SECONDS: Final = 10.0  # an answer that took longer is no reason to ask for more
GUESSED_BLOCK_BYTES: Final = 2**19  # until one was seen

Fetch = Callable[[int, int], Awaitable[list[Block]]]


class Pace:
    """How much to ask for at once, learnt from what came of it."""

    def __init__(self) -> None:
        self.block_bytes: float = GUESSED_BLOCK_BYTES
        self._blocks: float = FIRST_BLOCKS

    @property
    def blocks(self) -> int:
        fitting = int(REQUEST_BYTES / self.block_bytes)
        return max(1, min(int(self._blocks), fitting, REQUEST_BLOCKS))

    def succeeded(self, blocks: int, size: int, seconds: float) -> None:
        # A burst of large blocks counts at once, small ones by and by.
        seen = size / blocks
        self.block_bytes = max(1.0, seen, (3 * self.block_bytes + seen) / 4)
        if seconds < SLOW_SECONDS:
            self._blocks = min(self._blocks + STEP_BLOCKS, REQUEST_BLOCKS)

    def failed(self) -> None:
        self._blocks = max(1.0, self._blocks / 2)


async def in_order(first: int, last: int, fetch: Fetch, pace: Pace) -> AsyncGenerator[Block, None]:
    """Blocks first..last, linked. `fetch` returns those of a range, both ends included.

    Raises what `fetch` raises, and Unavailable where two blocks don't link. Closing it cancels what
    is under way.
    """
    under_way: deque[tuple[asyncio.Task[list[Block]], float]] = deque()
    expected = first
    previous: Block | None = None
    try:
        while under_way or expected <= last:
            while expected <= last and _has_room(under_way, pace):
                end = min(last, expected + _blocks(pace) - 1)
                task = asyncio.create_task(_measured(expected, end, fetch, pace))
                under_way.append((task, (end - expected + 1) * pace.block_bytes))
                expected = end + 1
            for block in await under_way[0][0]:
                _link(previous, block)
                previous = block
                yield block
            under_way.popleft()
    finally:
        for task, _ in under_way:
            task.cancel()
        await asyncio.gather(*(task for task, _ in under_way), return_exceptions=True)


def _blocks(pace: Pace) -> int:
    """To ask for at once."""
    if not gives_way():
        return pace.blocks
    return max(1, min(pace.blocks, int(MODEST_BYTES / pace.block_bytes)))


def _has_room(under_way: deque[tuple[asyncio.Task[list[Block]], float]], pace: Pace) -> bool:
    if not under_way:
        return True
    held = sum(size for _, size in under_way) + _blocks(pace) * pace.block_bytes
    most = MODEST_REQUESTS if gives_way() else REQUESTS
    return len(under_way) < most and held <= BYTES_IN_FLIGHT


async def _measured(first: int, last: int, fetch: Fetch, pace: Pace) -> list[Block]:
    await give_way()
    started = time.monotonic()
    try:
        blocks = await fetch(first, last)
    except Unavailable:
        pace.failed()
        raise
    size = sum(block.size for block in blocks)
    pace.succeeded(len(blocks), size, time.monotonic() - started)
    return blocks


def _link(previous: Block | None, block: Block) -> None:
    if previous is None:
        return
    if block.header.parent != previous.header.hash:
        raise Unavailable(
            f"blocks {previous.header.height} (from {previous.header.source}) and "
            f"{block.header.height} (from {block.header.source}) don't link"
        )
