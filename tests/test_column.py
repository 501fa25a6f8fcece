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
