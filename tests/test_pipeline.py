"""Blocks fetched ahead: in order, linked, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chains import Block, Header
from indexer.chains.pipeline import (
    BYTES_IN_FLIGHT,
    MODEST_BYTES,
    MODEST_REQUESTS,
    REQUEST_BLOCKS,
    REQUEST_BYTES,
    REQUESTS,
    SLOW_SECONDS,
    Pace,
    in_order,
)
from indexer.chains.turn import Turn, give_way_to
from indexer.model import Unavailable

SIZE = 1000


def block(height: int, branch: bytes = b"a", parent: bytes = b"a", size: int = SIZE) -> Block:
    name = height.to_bytes(31, "big")
    below = (height - 1).to_bytes(31, "big")
    return Block(Header(height, name + branch, below + parent, height, "http://node:1"), None, size)


class Node:
    """Serves blocks, and remembers what was under way at once."""

    def __init__(self, size: int = SIZE, delays: list[float] | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self.at_once = self.most_at_once = 0
        self.cancelled = 0
        self._size = size
        self._delays = delays or [0.0]

    async def fetch(self, first: int, last: int) -> list[Block]:
        self.asked.append((first, last))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self._delays[len(self.asked) % len(self._delays)])
            return [block(height, size=self._size) for height in range(first, last + 1)]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.at_once -= 1


async def heights(stream: AsyncGenerator[Block, None], got: list[int] | None = None) -> list[int]:
    got = [] if got is None else got
    async with aclosing(stream):
        async for each in stream:
            got.append(each.header.height)
    return got


@given(
    first=st.integers(1, 5),
    count=st.integers(0, 60),
    delays=st.lists(st.sampled_from([0.0, 0.0005, 0.001]), min_size=1, max_size=3),
)
def test_blocks_come_in_order_and_once(first: int, count: int, delays: list[float]) -> None:
    node = Node(delays=delays)
    last = first + count - 1
    got = asyncio.run(heights(in_order(first, last, node.fetch, Pace())))
    assert got == list(range(first, last + 1))
    assert node.most_at_once <= REQUESTS


async def test_few_large_blocks_are_under_way_at_once() -> None:
    large = BYTES_IN_FLIGHT // 2
    node, pace = Node(size=large, delays=[0.001]), Pace()
    pace.succeeded(1, large, 0.1)
    assert await heights(in_order(1, 20, node.fetch, pace)) == list(range(1, 21))
    assert node.most_at_once <= 2
    assert all(first == last for first, last in node.asked)


async def test_who_gives_way_asks_for_little_and_for_one_thing_at_a_time() -> None:
    node = Node(size=MODEST_BYTES // 4)

    async def scan() -> list[int]:
        give_way_to(Turn())
        return await heights(in_order(1, 60, node.fetch, Pace()))

    assert await asyncio.create_task(scan()) == list(range(1, 61))
    assert node.most_at_once == MODEST_REQUESTS
    assert max(last - first + 1 for first, last in node.asked) == 4


async def test_blocks_that_do_not_link_are_refused() -> None:
    async def fetch(first: int, last: int) -> list[Block]:
        branch = b"a" if first < 5 else b"b"
        return [block(height, branch, branch) for height in range(first, last + 1)]

    got: list[int] = []
    with pytest.raises(Unavailable, match=r"blocks 4 .* and 5 \(from http://node:1\) don't link"):
        await heights(in_order(1, 8, fetch, Pace()), got)
    assert got == [1, 2, 3, 4]


async def test_what_failed_is_raised_after_the_blocks_before_it() -> None:
    async def fetch(first: int, last: int) -> list[Block]:
        if first > 4:
            raise Unavailable("no")
        return [block(height) for height in range(first, last + 1)]

    got: list[int] = []
    with pytest.raises(Unavailable, match="no"):
        await heights(in_order(1, 20, fetch, Pace()), got)
    assert got == [1, 2, 3, 4]


async def test_closing_cancels_what_is_under_way() -> None:
    node = Node(delays=[0.0, 60.0])
    stream = in_order(1, 100, node.fetch, Pace())
    node.asked.append((0, 0))  # the first request is the quick one
    assert (await anext(stream)).header.height == 1
    assert node.at_once > 0
    await stream.aclose()
    assert node.at_once == 0
    assert node.cancelled > 0


def test_more_is_asked_for_after_successes_and_half_after_a_failure() -> None:
    pace = Pace()
    sizes = []
    for _ in range(100):
        sizes.append(pace.blocks)
        pace.succeeded(pace.blocks, pace.blocks * SIZE, 0.1)
    assert sizes == sorted(sizes)
    assert pace.blocks == REQUEST_BLOCKS
    pace.failed()
    assert pace.blocks == REQUEST_BLOCKS // 2
    for _ in range(20):
        pace.failed()
    assert pace.blocks == 1


def test_large_blocks_are_asked_for_one_by_one() -> None:
    pace = Pace()
    for _ in range(20):
        pace.succeeded(1, 2 * REQUEST_BYTES, 0.1)
    assert pace.blocks == 1


def test_slow_answers_are_no_reason_to_ask_for_more() -> None:
    pace = Pace()
    pace.succeeded(4, 4, 0.1)
    before = pace.blocks
    for _ in range(10):
        pace.succeeded(4, 4, SLOW_SECONDS)
    assert pace.blocks == before
