"""How dispatchers speak to the database: no statement waits long, nor does giving one up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from indexer.database import unavailable_database

STATEMENT_SECONDS: Final = 10.0  # less than a lease; what takes longer is given up and repeated


@asynccontextmanager
async def connected(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the pool. Raises Unavailable.

    The time limit is also that of its return: one that a silent server holds on to is thrown away.
    """
    with unavailable_database():
        async with pool.acquire(timeout=STATEMENT_SECONDS) as connection:
            yield connection


async def fetch(pool: asyncpg.Pool, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    """The rows of a statement that is a transaction of its own. Raises Unavailable."""
    async with connected(pool) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(
            statement, *arguments, timeout=STATEMENT_SECONDS
        )
    return rows
