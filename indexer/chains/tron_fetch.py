"""A range of blocks from one TRON endpoint, proved as far as JSON allows, with their infos.

Infos can be asked by height only, so the id of the range's last block is asked again afterwards at
the same endpoint: blocks name their parents, so that it speaks for all. A change repeats both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Final, TypeVar

from indexer.chains import Block, Header
from indexer.chains.answers import NotProved, Sized
from indexer.chains.metrics import PROVE_SECONDS
from indexer.chains.rpc import Endpoint
from indexer.chains.tron_decode import Content
from indexer.chains.tron_execution import executions_of
from indexer.chains.tron_node import TronNode
from indexer.chains.tron_proof import prove, prove_header
from indexer.chains.tron_wire import WireBlock, WireInfo, sized
from indexer.chains.turn import give_way

REQUESTS: Final = 4  # under way at once, for one range
REPEATS: Final = 3  # of a range whose blocks changed while its infos were asked
GENESIS_HEIGHT: Final = 0  # its transactions are the first balances: there are no infos of them

A = TypeVar("A")
T = TypeVar("T")


class Fetcher:
    def __init__(self, node: TronNode) -> None:
        self._node = node

    async def fetch(self, endpoint: Endpoint, first: int, last: int) -> list[Block]:
        """Blocks first..last. Raises Unavailable where the endpoint falls short."""
        for _ in range(REPEATS):
            try:
                blocks = await self._fetch(endpoint, first, last)
            except NotProved as error:
                raise NotProved(f"{endpoint.name}: {error}") from None
            if blocks is not None:
                return blocks
        raise NotProved(f"{endpoint.name} changed its blocks up to {last} while it was asked")

    async def headers(self, endpoint: Endpoint, heights: Iterable[int]) -> list[Header | None]:
        async def ask(height: int) -> Header | None:
            found = await self._node.header(endpoint, height)
            return None if found is None else header_of(endpoint, found)

        return await _few_at_once(ask, heights)

    async def _fetch(self, endpoint: Endpoint, first: int, last: int) -> list[Block] | None:
        """None where the blocks changed meanwhile."""
        answer = await self._node.blocks(endpoint, first, last)
        headers = [header_of(endpoint, block) for block in answer.value]
        for below, header in pairwise(headers):
            if header.parent != below.hash:
                raise NotProved(f"blocks {below.height} and {header.height} don't link")

        async def infos(block: WireBlock) -> Sized[list[WireInfo]]:
            if not block.transactions or block.data.number == GENESIS_HEIGHT:
                return Sized([], 0)
            return await self._node.infos(endpoint, block.data.number)

        found = await _few_at_once(infos, answer.value)
        if any(each.size for each in found):
            again = await self._node.header(endpoint, last)
            if again is None or sized(again.blockID, 32) != headers[-1].hash:
                return None
        share = answer.size // len(headers)
        blocks: list[Block] = []
        for header, block, of_block in zip(headers, answer.value, found, strict=True):
            with PROVE_SECONDS.labels(endpoint.network).time():
                content = _content(endpoint, block, of_block.value)
            blocks.append(Block(header, content, share + of_block.size))
            await give_way()  # proofs keep a core busy
        return blocks


def header_of(endpoint: Endpoint, block: WireBlock) -> Header:
    """A block's place in its chain, proved by its id."""
    return Header(
        height=block.data.number,
        hash=prove_header(block),
        parent=sized(block.data.parentHash, 32),
        time=block.data.timestamp // 1000,
        source=endpoint.name,
    )


def _content(endpoint: Endpoint, block: WireBlock, infos: list[WireInfo]) -> Content:
    proved = prove(block)
    leaves = [tx.leaf for tx in proved.transactions]
    if block.data.number == GENESIS_HEIGHT:
        return Content([], leaves, complete=True, calls=0, nested=0)
    return Content(
        executions=executions_of(endpoint, block, proved.transactions, infos),
        leaves=leaves,
        complete=proved.complete,
        calls=sum(info.receipt is not None and info.receipt.result is not None for info in infos),
        nested=sum(len(info.internal_transactions) for info in infos),
    )


async def _few_at_once(work: Callable[[A], Awaitable[T]], arguments: Iterable[A]) -> list[T]:
    """What came of it for each, in their order; a failure ends the rest."""
    room = asyncio.Semaphore(REQUESTS)

    async def one(argument: A) -> T:
        async with room:
            return await work(argument)

    tasks = [asyncio.ensure_future(one(argument)) for argument in arguments]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
