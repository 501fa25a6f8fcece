"""An installation's database and secrets, opened: a configured PostgreSQL or the embedded one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import asyncpg

from indexer import config, database
from indexer.embedded import Embedded
from indexer.secret import Vault, installation_key


@dataclass(frozen=True, slots=True)
class Installation:
    """What everything that touches stored data works with."""

    pool: asyncpg.Pool
    vault: Vault


@asynccontextmanager
async def opened(settings: config.Settings) -> AsyncIterator[Installation]:
    """The database at this program's schema, for as long as it is entered.

    Raises DatabaseUnavailable where it is out of reach; Refused where it does not let us in, is
    newer than this program, or another secret_key encrypted what it holds.
    """
    async with AsyncExitStack() as stack:
        dsn = settings.database
        if dsn is None:
            dsn = await stack.enter_async_context(Embedded(settings.data_dir))
        vault = Vault(settings.secret_key or installation_key(settings.data_dir))
        pool = await database.connect_pool(dsn)
        stack.push_async_callback(pool.close)
        with database.unavailable_database():
            async with pool.acquire() as connection:
                await database.migrate(connection, vault)
        yield Installation(pool, vault)
