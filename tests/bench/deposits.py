"""Deposits committed a second, from blocks in which every transfer pays a watched address.

The blocks are fetched and proved before the clock starts: what is left is decoding, looking up who
watches, and the transaction with deposits, events and deliveries. Beside it the same rows go into
the same table by bare `insert … select from unnest`, as many at a time as the engine took.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import asyncpg

from indexer import config
from indexer.chains import Block
from indexer.chains.evm import EvmChain, EvmSettings
from indexer.chains.families import open_chain
from indexer.database import connect_pool
from tests.bench import engine
from tests.bench.blocks import CHAIN_ID
from tests.bench.process import Clock, Served
from tests.bench.recording import Recording
from tests.bench.replay import replay
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import DENSE, Suite

CALLBACK_URL: Final = "http://127.0.0.1:9/"  # nothing is sent there


class _Held(EvmChain):
    """An EVM network whose blocks are in memory already."""

    def __init__(self, settings: EvmSettings) -> None:
        super().__init__(settings)
        self._blocks: list[Block] = []

    async def hold(self) -> None:
        """Fetch and prove all blocks above the first."""
        tip = await self.tip()
        self._blocks = [block async for block in super().blocks(1, tip.height)]

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        for block in self._blocks[first - 1 : last]:
            yield block


def figures(suite: Suite) -> Iterator[Figure]:
    watched = suite.sizes.watched
    folder = suite.recorded(suite.sizes.dense_blocks, DENSE)
    expected = Recording(folder).deposits(native=True)
    filled: list[str] = []  # databases, the last one by the engine's last run
    with Served(replay, folder, CHAIN_ID) as url:

        def ours() -> Run:
            filled.append(suite.database())
            return suite.alone(measure, filled[-1], url, watched, expected, CALLBACK_URL)

        yield suite.figure(
            "deposits committed",
            "deposits",
            ours,
            "bare insert of the same rows",
            lambda: suite.alone(measure_bare, filled[-1], suite.database(), url, watched),
        )


async def measure(database: str, url: str, watched: int, expected: int, callback_url: str) -> Run:
    """Commit the deposits of all blocks of a node, which are `expected`."""
    network = engine.settings(url)
    assert isinstance(network, config.EvmNetwork)
    chain = _Held(network)
    async with engine.following(database, network, chain, watched, callback_url) as follower:
        await chain.hold()
        clock = Clock()
        await engine.follow(follower)
        run = Run.of(clock, expected)
    check_count("deposits", await engine.deposits(database), expected)
    return run


async def measure_bare(source: str, database: str, url: str, watched: int) -> Run:
    """Insert the deposits of `source` into the fresh `database`, a transaction for each of its."""
    network = engine.settings(url)
    columns, rows = await _read(source)
    batches = [
        [[row[column.name] for row in batch] for column in columns]
        for batch in (list(group) for _, group in groupby(rows, key=lambda row: row["created_at"]))
    ]
    insert = _insert(columns)
    chain = open_chain(engine.NETWORK, network)
    async with engine.following(database, network, chain, watched):
        pool = await connect_pool(database)
        async with pool, pool.acquire() as connection:
            clock = Clock()
            for values in batches:
                async with connection.transaction():
                    await connection.execute(insert, *values)
            run = Run.of(clock, len(rows))
    check_count("deposits", await engine.deposits(database), len(rows))
    return run


class _Column(NamedTuple):
    name: str
    type: str

    @property
    def sent(self) -> str:
        """The type of an element on its way; unnest would flatten an array of arrays."""
        return "text" if self.type.endswith("[]") else self.type


async def _read(source: str) -> tuple[list[_Column], list[asyncpg.Record]]:
    """The stored columns of the deposit table, and all its rows in the order of their commits."""
    pool = await connect_pool(source)
    async with pool:
        found = await pool.fetch(
            """
            select attname, format_type(atttypid, null) as type from pg_attribute
             where attrelid = 'deposit'::regclass and attnum > 0 and attgenerated = ''
            """
        )
        columns = [_Column(row["attname"], row["type"]) for row in found]
        shown = ", ".join(f"{column.name}::{column.sent}" for column in columns)
        return columns, await pool.fetch(f"select {shown} from deposit order by created_at, id")  # noqa: S608


def _insert(columns: Sequence[_Column]) -> str:
    names = ", ".join(column.name for column in columns)
    given = ", ".join(f"${at}::{column.sent}[]" for at, column in enumerate(columns, 1))
    taken = ", ".join(f"{column.name}::{column.type}" for column in columns)
    return f"insert into deposit ({names}) select {taken} from unnest({given}) as t ({names})"  # noqa: S608
