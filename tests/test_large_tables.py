"""Commits, claims and forgetting cost the same with a long past as without one.

What they read of the large tables is PostgreSQL's own count, taken once their connections are
closed. In the suite that is all; a soak, over ten million, looks at the clock too.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from statistics import median
from typing import Final, NamedTuple

import asyncpg
import pytest

from callbacks import claims, outcomes, partitions, retention
from callbacks.answer import Answer
from callbacks.claims import Want
from callbacks.outcomes import Outcome
from indexer.database import connect_pool
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.followed import World
from tests.scripted import ADDRESSES, payment

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
PAST: Final = 10_000_000 if SOAK else 100_000  # deposits, each told, delivered, attempted once
OLD: Final = 50  # of the events, to be forgotten
ROUNDS: Final = 100 if SOAK else 3
PAYMENTS: Final = 4  # of a round
LARGE: Final = ("deposit", "event", "delivery_done%", "attempt%", "watched_address")
ROWS: Final = 400  # of one large table that a round may look at
CONNECTIONS: Final = 4
FILL_SECONDS: Final = 3_600  # of one statement
SLOWER: Final = 1.5  # times, and
SLACK: Final = 0.01  # seconds, by which the median round with a past may take longer

pytestmark = pytest.mark.timeout(7_200 if SOAK else 240)

Act = Callable[[World, asyncpg.Pool, int], Awaitable[None]]


class Read(NamedTuple):
    """Rows of a table that were looked at: from end to end, and by an index."""

    whole: int
    found: int


async def begin(pool: asyncpg.Pool, vault: Vault) -> tuple[World, str]:
    """Alice's address is watched, and she has an endpoint."""
    world = await World.begin(pool)
    await partitions.keep(pool)
    endpoint, _ = await rows.endpoint(pool, vault, "https://shop.example/in", account="alice")
    await world.register("alice", ADDRESSES[0])
    await world.step()
    return world, endpoint


async def fill(pool: asyncpg.Pool, endpoint: str) -> None:
    """A past of finalized deposits, told and delivered; as many addresses that are watched."""
    async with pool.acquire() as connection:
        await connection.execute("set statement_timeout = 0")
        # Its own keys need no check, each of which would take as long as the row.
        await connection.execute("set session_replication_role = replica")
        for statement in (*_PAST, "analyze"):
            filled = statement.format(past=PAST, old=OLD, endpoint=endpoint)
            await connection.execute(filled, timeout=FILL_SECONDS)


_PAST: Final = (
    """
    insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, height,
                         hash, time, required, first_state, state, sequence, counts, created_at)
    select 'dep_past' || n, 'alice', 'net', sha256(int8send(n)), int8send(n), '', 0, 'native', 1,
           0, decode(repeat('00', 32), 'hex'), clock(), 3, 'detected', 'finalized', 3,
           '{{1,0,1,1,0,0}}', clock() - make_interval(secs => {past} - n)
      from generate_series(1, {past}) n
    """,
    """
    insert into event (id, account, position, deposit, sequence, type, body, created_at)
    select 'evt_past' || n, id, position + n, 'dep_past' || n, 3, 'deposit.finalized', '{{}}',
           clock() - make_interval(days => case when n <= {old} then 99 else 0 end)
      from account, generate_series(1, {past}) n where id = 'alice'
    """,
    "update account set position = position + {past} where id = 'alice'",
    """
    insert into delivery_done (id, endpoint, event, deposit, sequence, state, requests, attempts,
                               created_at)
    select -n, '{endpoint}', 'evt_past' || n, 'dep_past' || n, 3, 'delivered', 1, 1, clock()
      from generate_series(1, {past}) n
    """,
    """
    insert into attempt (delivery, number, at, charged, total_ms)
    select -n, 1, clock(), true, 1 from generate_series(1, {past}) n
    """,
    """
    insert into watched_address (network, address, account, state, covered_from, active_from,
                                 changed_version)
    select 'net', int8send(n), 'alice', 'active', 0, 0, 0 from generate_series(1, {past}) n
    """,
)


async def commit(world: World, pool: asyncpg.Pool, number: int) -> None:
    """A block with payments, and one that another takes the place of: a swap."""
    paid = [payment(number * PAYMENTS + n, (ADDRESSES[0], 1 + n)) for n in range(PAYMENTS)]
    world.chain.mine(*paid)
    await world.step()
    world.chain.mine()
    await world.step()
    world.chain.cut(1)
    world.chain.mine()
    world.chain.mine()
    await world.step()


async def register(world: World, pool: asyncpg.Pool, number: int) -> None:
    """An address with a past, its activation and its scan."""
    await world.register("alice", b"new" + number.to_bytes(17, "big"), from_block=1)
    await world.step()
    while await world.scan():
        pass


async def deliver(world: World, pool: asyncpg.Pool, number: int) -> None:
    """What is due is claimed, and has arrived."""
    endpoint = await pool.fetchval("select id from endpoint")
    lots = await claims.claim(pool, {endpoint: Want(0, 100)}, 100, 30.0)
    done = [
        Outcome(claim, Answer(200, None), time.monotonic(), state="delivered")
        for lot in lots
        for claim in lot.claims
    ]
    settled = await outcomes.settle(pool, done)
    assert len(settled) == len(done) > 0


async def forget(world: World, pool: asyncpg.Pool, number: int) -> None:
    await retention.forget(pool)
    await partitions.keep(pool)


ACTS: Final[Mapping[str, Act]] = {
    "commit": commit,
    "register": register,
    "deliver": deliver,
    "forget": forget,
}


async def flushed(pool: asyncpg.Pool) -> dict[str, Read]:
    """What was read of each large table until now; each connection has to tell."""
    async with AsyncExitStack() as held:
        for _ in range(CONNECTIONS):
            connection = await held.enter_async_context(pool.acquire())
            await connection.execute("select pg_stat_force_next_flush()")
    found = await pool.fetch(
        """
        select relname, seq_tup_read, coalesce(idx_tup_fetch, 0) as found from pg_stat_user_tables
         where relname like any ($1)
        """,
        LARGE,
    )
    return {row["relname"]: Read(row["seq_tup_read"], row["found"]) for row in found}


async def timed(world: World, pool: asyncpg.Pool, first: int) -> dict[str, float]:
    """Seconds that each act takes, half of the time."""
    seconds: dict[str, list[float]] = {name: [] for name in ACTS}
    for number in range(first, first + ROUNDS):
        for name, act in ACTS.items():
            began = time.perf_counter()
            await act(world, pool, number)
            seconds[name].append(time.perf_counter() - began)
    return {name: median(each) for name, each in seconds.items()}


async def test_what_is_read_of_large_tables_does_not_grow_with_them(dsn: str, vault: Vault) -> None:
    pool = await connect_pool(dsn, size=CONNECTIONS)
    async with pool:
        world, endpoint = await begin(pool, vault)
        fresh = await timed(world, pool, 0)
        await fill(pool, endpoint)
        read: Counter[tuple[str, str, str]] = Counter()
        for number in range(ROUNDS, 2 * ROUNDS):
            for name, act in ACTS.items():
                before = await flushed(pool)
                await act(world, pool, number)
                for table, (whole, found) in (await flushed(pool)).items():
                    read[name, table, "whole"] += whole - before[table].whole
                    read[name, table, "found"] += found - before[table].found
        bound = {"whole": 0, "found": ROWS * ROUNDS}
        assert {key: rows for key, rows in read.items() if rows > bound[key[2]]} == {}
        if SOAK:
            with_past = await timed(world, pool, 2 * ROUNDS)
            slower = {
                n: (fresh[n], s) for n, s in with_past.items() if s > SLOWER * fresh[n] + SLACK
            }
            assert not slower
