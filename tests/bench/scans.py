"""What a scan of the past costs a follower at the tip, in one process and at one node.

Blocks come one by one, first while nothing else is to do, then while the past is read without an
end. What is timed is the follower's step: from asking for the tip to the commit of its block.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from statistics import median

import asyncpg

from indexer import config, coverage
from indexer.chains import Header
from indexer.chains.evm import EvmChain
from indexer.chains.turn import Turn, give_way_to
from indexer.cursors import Stale
from indexer.database import connect_pool
from indexer.follower import Follower, Outcome
from indexer.model import Impossible
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.bench import engine
from tests.bench.blocks import CHAIN_ID
from tests.bench.process import Clock, Served
from tests.bench.replay import replay
from tests.bench.results import Figure, Run
from tests.bench.suite import SPARSE, Suite

BETWEEN_SECONDS = 0.15  # from a block's commit to the next block
UNTIMED_BLOCKS = 2  # after the scan began or ended


class _Growing(EvmChain):
    """A network whose tip is where we say."""

    height = 0

    async def tip(self) -> Header:
        header = await self.header(self.height)
        if header is None:
            raise Impossible(f"the node has no block {self.height}")
        return header


def figures(suite: Suite) -> Iterator[Figure]:
    blocks = suite.sizes.blocks
    with Served(replay, suite.recorded(blocks, SPARSE), CHAIN_ID) as url:
        rounds = [
            suite.alone(measure, suite.database(), url, suite.sizes.watched, blocks)
            for _ in range(suite.sizes.rounds)
        ]
    beside = "the same without a scan"
    with_scan, without = zip(*rounds, strict=True)
    yield Figure("a block at the tip, the past scanned", "blocks", with_scan, beside, without)


async def measure(database: str, url: str, watched: int, blocks: int) -> tuple[Run, Run]:
    """Follow the second half of the chain: a quarter alone, then one beside scans of the first."""
    network = engine.settings(url)
    assert isinstance(network, config.EvmNetwork)
    chain, turn = _Growing(network), Turn()
    chain.height = past = blocks // 2
    async with engine.following(database, network, chain, watched), connected(database) as pool:
        watch = WatchSet(engine.NETWORK, network.reorg_window)
        follower = Follower(engine.NETWORK, network, chain, pool, watch, turn)
        scanner = Scanner(engine.NETWORK, network, chain, pool, watch)
        await engine.follow(follower)
        quarter = (blocks - past) // 2
        without = await _timed(follower, chain, quarter)
        scanning = asyncio.create_task(_scan(scanner, pool, past, turn))
        beside = await _timed(follower, chain, quarter)
        while not await pool.fetchval("select exists (select from scan where state = 'done')"):
            await asyncio.sleep(BETWEEN_SECONDS)  # else nothing was beside
        scanning.cancel()
        await asyncio.gather(scanning, return_exceptions=True)
        await follower.close()
    return beside, without


@asynccontextmanager
async def connected(database: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await connect_pool(database)
    try:
        yield pool
    finally:
        await pool.close()


async def _timed(follower: Follower, chain: _Growing, count: int) -> Run:
    """As many blocks as if each took the median."""
    clock, seconds = Clock(), []
    for number in range(count):
        await asyncio.sleep(BETWEEN_SECONDS)
        chain.height += 1
        began = time.perf_counter()
        while await follower.step() is not Outcome.EXTENDED:
            pass
        if number >= min(UNTIMED_BLOCKS, count - 1):
            seconds.append(time.perf_counter() - began)
    return Run(count, count * median(seconds), clock.cpu, clock.peak_bytes)


async def _scan(scanner: Scanner, pool: asyncpg.Pool, last: int, turn: Turn) -> None:
    give_way_to(turn)
    while True:
        async with pool.acquire() as connection:
            await coverage.queue_scan(connection, engine.NETWORK, 1, last)
        with suppress(Stale):
            while await scanner.step():
                pass
