"""An installation's database and secrets, opened: a configured PostgreSQL or the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from indexer import config, database
from indexer.embedded import Embedded
from indexer.model import Refused, Unavailable
from indexer.secret import KEY_FILE, Vault, installation_key

WATCH_SECONDS: Final = 1.0  # between two looks at the embedded server
ANSWER_SECONDS: Final = 5.0  # in which it must answer one

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Installation:
    """What everything that touches stored data works with."""

    pool: asyncpg.Pool
    vault: Vault
    embedded: Embedded | None = None  # None: an operator keeps the server

    async def keep_database(self) -> None:
        """Bring the embedded server back whenever it died, until cancelled."""
        while self.embedded is not None:
            try:
                with database.unavailable_database():
                    await self.pool.fetchval("select 1", timeout=ANSWER_SECONDS)
            except Unavailable as problem:
                await self._bring_back(self.embedded, str(problem))
            await asyncio.sleep(WATCH_SECONDS)

    async def _bring_back(self, embedded: Embedded, reason: str) -> None:
        try:
            database.lead(self.pool, await embedded.start())
            log.warning("database restarted", reason=reason)
        except (Refused, Unavailable) as problem:
            log.error("database does not restart", reason=str(problem))


@asynccontextmanager
async def opened(settings: config.Settings) -> AsyncIterator[Installation]:
    """The database at this program's schema, for as long as it is entered.

    Raises DatabaseUnavailable where it is out of reach; Refused where it does not let us in, is
    not ours, is newer than this program, or another secret_key encrypted what it holds.
    """
    async with AsyncExitStack() as stack:
        dsn, embedded = settings.database, None
        if dsn is None:
            embedded = _embedded(settings)
            dsn = await stack.enter_async_context(embedded)
        pool = await database.connect_pool(dsn)
        stack.push_async_callback(pool.close)
        with database.unavailable_database():
            async with pool.acquire() as connection:
                vault = Vault(settings.secret_key or await _made_key(settings, connection))
                with _refused_schema():
                    await database.migrate(connection, vault)
        yield Installation(pool, vault, embedded)


def _embedded(settings: config.Settings) -> Embedded:
    try:
        return Embedded(settings.data_dir)
    except FileNotFoundError:
        raise Refused("data_dir can't be used: the working directory is gone") from None


async def _made_key(settings: config.Settings, connection: asyncpg.Connection) -> str:
    """The embedded installation's own key. Where a database has had one, no other is made."""
    path = settings.data_dir / KEY_FILE
    try:
        # Asked first: who gave the database a key has written the file before.
        if await database.has_key(connection) and not path.exists():
            raise Refused(
                f"{path} is missing: it encrypts what this database holds; bring it back, "
                "or set secret_key to what it held"
            )
        key = installation_key(settings.data_dir)
    except OSError as problem:
        raise Refused(f"{path} can't be used: {problem.strerror}") from None
    except UnicodeDecodeError:
        key = ""
    if not key:
        raise Refused(f"{path} holds no key any more: bring back what it held")
    return key


@contextmanager
def _refused_schema() -> Iterator[None]:
    """A database in which our tables can't be is its operator's to mend."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as problem:
        raise Refused(f"the database's user may not make or use our tables: {problem}") from None
    except (
        asyncpg.DuplicateTableError,
        asyncpg.DuplicateObjectError,
        asyncpg.DuplicateFunctionError,
    ) as problem:
        raise Refused(
            f"the database holds something else ({problem}): give depositd one of its own"
        ) from None
