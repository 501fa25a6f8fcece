"""The watch set of ten million addresses: loaded from PostgreSQL, asked a block at a time.

Beside it the same COPY goes into a plain set, which is asked the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from indexer.column import copy_column
from indexer.database import connect_pool
from indexer.watchset import WatchSet
from tests.bench.process import Clock
from tests.bench.results import MEGABYTE, Figure, Run, check_count

if TYPE_CHECKING:  # it brings the engine along, which the measured process does without
    from tests.bench.suite import Suite

NETWORK: Final = "watched"
UNIT: Final = "thousand"  # addresses: so that ms of CPU for each are µs an address
SEED: Final = 7
KEY: Final = 20  # bytes
LINES_AT_ONCE: Final = 10_000  # of the COPY that fills the table
RECIPIENTS: Final = 390  # asked for at once: those of a busy mainnet block
BLOCKS: Final = 500
PAGE_BYTES: Final = 4096

Contains = Callable[[Sequence[bytes]], Sequence[bool]]


class Measured(NamedTuple):
    """Both with the memory that the process has more than before: at its peak, and to stay."""

    load: Run
    look: Run


def figures(suite: Suite) -> Iterator[Figure]:
    database, count = suite.database(), suite.sizes.loaded
    asyncio.run(fill(database, count))
    ours: Measured = suite.alone(measure, database, count)
    plain: Measured = suite.alone(measure_plain, database, count)
    beside = f"plain set, {plain.look.peak_bytes / MEGABYTE:,.0f} MB"
    yield Figure("watch set loaded", UNIT, [ours.load], beside, [plain.load])
    yield Figure("watch set asked", UNIT, [ours.look], beside, [plain.look])


async def measure(database: str, count: int) -> Measured:
    """Load and ask the watch set."""
    async with await connect_pool(database) as pool, pool.acquire() as connection:
        watch, before, clock = WatchSet(NETWORK, 0), _resident(), Clock()
        await watch.refresh(connection)
        load = _run(clock, count, clock.peak_bytes - before)
        check_count("addresses", len(watch), count)
        return Measured(load, _ask(watch.contains, count, before))


async def measure_plain(database: str, count: int) -> Measured:
    """The same of a plain set."""
    async with await connect_pool(database) as pool, pool.acquire() as connection:
        plain: set[bytes] = set()
        before, clock = _resident(), Clock()
        await copy_column(connection, "select address from watched_address", take=plain.update)
        load = _run(clock, count, clock.peak_bytes - before)
        check_count("addresses", len(plain), count)
        return Measured(load, _ask(lambda keys: [key in plain for key in keys], count, before))


async def fill(database: str, count: int) -> None:
    """Write so many active addresses by COPY, into a table of the columns that are read."""

    async def lines() -> AsyncIterator[bytes]:
        keys = _watched(count)
        while part := list(islice(keys, LINES_AT_ONCE)):
            yield "".join(f"\\\\x{key.hex()}\n" for key in part).encode()

    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f"""
            insert into network (id, family) values ('{NETWORK}', 'evm');
            insert into cursor (network, height, hash, watch_version)
            values ('{NETWORK}', 1, decode(repeat('00', 32), 'hex'), 1);
            alter table watched_address rename to indexed_address;
            create unlogged table watched_address (
                address bytea not null, network text not null default '{NETWORK}',
                state watch_state not null default 'active',
                changed_version bigint not null default 1, removed_from bigint)
        """)  # noqa: S608
        await connection.copy_to_table("watched_address", source=lines(), columns=["address"])
        await connection.execute("analyze watched_address")
    finally:
        await connection.close()


def _watched(count: int) -> Iterator[bytes]:
    source = random.Random(SEED)
    return (source.randbytes(KEY) for _ in range(count))


def _ask(contains: Contains, count: int, before: int) -> Run:
    """Ask for block after block of which no recipient is watched; those that are were all found."""
    known = list(_watched(min(count, RECIPIENTS)))
    check_count("known addresses", sum(contains(known)), len(known))
    source = random.Random(SEED + 1)
    blocks = [[source.randbytes(KEY) for _ in range(RECIPIENTS)] for _ in range(BLOCKS)]
    held = _resident()
    clock = Clock()
    hits = sum(sum(contains(block)) for block in blocks)
    run = _run(clock, BLOCKS * RECIPIENTS, held - before)
    check_count("unknown addresses", hits, 0)
    return run


def _run(clock: Clock, count: int, memory: int) -> Run:
    return Run(count / 1000, clock.wall, clock.cpu, memory)


def _resident() -> int:
    """Bytes that the process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
