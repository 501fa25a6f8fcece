"""A column comes out of the database's COPY as it is there, and nothing is taken for it."""

from __future__ import annotations

import asyncpg
import pytest

from indexer.column import copy_column
from indexer.model import Impossible


async def copied(pool: asyncpg.Pool, query: str, *arguments: object) -> list[bytes]:
    found: list[bytes] = []
    async with pool.acquire() as connection:
        await copy_column(connection, query, *arguments, take=found.extend)
        assert await connection.fetchval("select 1") == 1
    return found


@pytest.mark.parametrize("length", [0, 1, 20, 34, 300, 70_000])
async def test_values_of_any_length_come_in_their_order(pool: asyncpg.Pool, length: int) -> None:
    query = "select decode(repeat('0001', $1), 'hex') from generate_series(1, $2)"
    assert await copied(pool, query, length, 3) == [bytes([0, 1]) * length] * 3
    assert await copied(pool, query, length, 0) == []


async def test_many_values_come_in_parts(pool: asyncpg.Pool) -> None:
    parts: list[int] = []
    async with pool.acquire() as connection:
        await copy_column(
            connection,
            "select int4send(n) from generate_series(1, 100000) n",
            take=lambda part: parts.append(len(part)),
        )
    assert sum(parts) == 100_000
    assert max(parts) < 50_000


async def test_two_columns_are_impossible(pool: asyncpg.Pool) -> None:
    with pytest.raises(Impossible, match="COPY 2"):
        await copied(pool, "select ''::bytea, ''::bytea from generate_series(1, 2)")


async def test_it_may_take_longer_than_a_statement_and_leaves_the_limit_as_it_was(dsn: str) -> None:
    connection = await asyncpg.connect(
        dsn, command_timeout=1.0, server_settings={"statement_timeout": "1s"}
    )
    try:
        async with connection.transaction():
            found: list[bytes] = []
            slow = "select int4send(1) from pg_sleep(1.3)"
            await copy_column(connection, slow, take=found.extend)
            assert len(found) == 1
            assert await connection.fetchval("show statement_timeout") == "1s"
            with pytest.raises((asyncpg.QueryCanceledError, TimeoutError)):
                await connection.execute(slow)
    finally:
        await connection.close()
