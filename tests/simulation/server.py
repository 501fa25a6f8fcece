"""The PostgreSQL of simulations: fast, alone, and without what acts by the time of day."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import asyncpg

from indexer.database import migrate
from indexer.embedded import Embedded
from indexer.secret import Vault
from tests.simulation.world import SECRET_KEY

# Who waits for whom is looked for by the simulation, and tidying up takes locks. A plan must not
# depend on how often a connection, kept from history to history, had the statement before.
SETTINGS: Final = (
    "autovacuum = off",
    "deadlock_timeout = '1h'",
    "plan_cache_mode = force_custom_plan",
)


@contextmanager
def started() -> Iterator[str]:
    """The URL of a server with the schema, for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="depositd-simulation-") as folder:
        embedded = Embedded(Path(folder), durable=False)
        with asyncio.Runner() as runner:
            try:
                yield runner.run(_start(embedded))
            finally:
                runner.run(embedded.close())


async def _start(embedded: Embedded) -> str:
    dsn = await embedded.start()
    connection = await asyncpg.connect(dsn)
    try:
        for setting in SETTINGS:
            await connection.execute(f"alter system set {setting}")
        await connection.execute("select pg_reload_conf()")
        await migrate(connection, Vault(SECRET_KEY))
    finally:
        await connection.close()
    return dsn
