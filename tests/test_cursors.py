"""Stored headers are locked in one order, whoever does it."""

from __future__ import annotations

import asyncio

import asyncpg

from indexer import cursors
from indexer.chains import Header


async def test_headers_are_dropped_in_the_order_in_which_scans_hold_them(
    pool: asyncpg.Pool,
) -> None:
    await pool.execute("insert into network (id, family) values ('net', 'evm')")
    headers = [Header(n, bytes([n] * 32), bytes(32), n, "node") for n in (3, 2, 1)]
    async with pool.acquire() as follower, pool.acquire() as scanner, pool.acquire() as other:
        await cursors.store_headers(follower, "net", headers)
        for way in ("indexscan", "bitmapscan"):  # what is left reads the table as it lies
            await follower.execute(f"set enable_{way} = off")
        async with scanner.transaction():
            await cursors.hold_headers(scanner, "net", 1, 1)
            dropping = asyncio.create_task(cursors.drop_headers(follower, "net", 0, -1))
            await _waiting(other, follower)
            async with other.transaction():  # nothing above what it waits for is taken yet
                await other.execute("select from block where height = 3 for update nowait")
        await dropping
    assert await pool.fetchval("select count(*) from block") == 0


async def test_a_swap_has_all_headers_that_it_drops_before_a_scan_waits_for_it(
    pool: asyncpg.Pool,
) -> None:
    """Else the scan would hold the oldest, which the swap drops last, and the two never end."""
    await pool.execute("insert into network (id, family) values ('net', 'evm')")
    headers = [Header(n, bytes([n] * 32), bytes(32), n, "node") for n in (1, 2, 3)]
    branch = [Header(n, bytes([n + 10] * 32), bytes(32), n, "node") for n in (3, 4)]
    async with pool.acquire() as follower, pool.acquire() as scanner, pool.acquire() as other:
        await cursors.store_headers(follower, "net", headers)
        async with scanner.transaction():
            async with follower.transaction():
                await cursors.drop_headers(follower, "net", 2, 2)
                holding = asyncio.create_task(cursors.hold_headers(scanner, "net", 1, 3))
                await _waiting(other, scanner)
                await cursors.store_headers(follower, "net", branch)
            assert set(await holding) == {2}


async def _waiting(other: asyncpg.Connection, connection: asyncpg.Connection) -> None:
    """Until a connection waits for somebody's lock."""
    while not await other.fetchval(
        "select pg_blocking_pids($1) <> '{}'", connection.get_server_pid()
    ):
        await asyncio.sleep(0.01)
