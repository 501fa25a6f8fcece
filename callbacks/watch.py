"""Watches over old snapshots, which slow claims down.

What a transaction that stays open can still see is not tidied up, and every claim steps over it.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import structlog

from callbacks.metrics import OLDEST_SNAPSHOT_SECONDS

WARN_SECONDS: Final = 60.0

log = structlog.get_logger()

# By the server's real clock: these times are never a simulation's. Autovacuum's own snapshots hold
# nothing up.
_OLDEST: Final = """
    select pid, extract(epoch from clock_timestamp() - xact_start)::float8 as seconds
      from pg_stat_activity
     where coalesce(backend_xmin, backend_xid) is not null and xact_start is not null
       and pid <> pg_backend_pid() and datname = current_database()
       and backend_type = 'client backend'
     order by xact_start limit 1
"""


async def look(pool: asyncpg.Pool) -> None:
    """Warn of one that has been open for WARN_SECONDS."""
    row = await pool.fetchrow(_OLDEST)
    seconds = 0.0 if row is None else row["seconds"]
    OLDEST_SNAPSHOT_SECONDS.set(seconds)
    if seconds > WARN_SECONDS:
        log.warning("old snapshot", pid=row["pid"], seconds=round(seconds))
