"""Events are forgotten when they are old enough, and no sooner than their last delivery has ended.

An account's feed forgets by position (`account.forgotten`), so that an event that is kept for a
delivery leaves no gap behind it that nobody is told of.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import asyncpg
import structlog

KEPT_DAYS: Final = 90
SLACK_HOURS: Final = 1  # times in a feed may be out of its order by the length of a commit
BATCH: Final = 5_000  # events of one transaction

log = structlog.get_logger()

_CUTOFF: Final = "select clock() - make_interval(days => $1, hours => $2)"
_ACCOUNTS: Final = """
    select id from account a
     where exists (select from event v where v.account = a.id and v.created_at < $1)
"""

# Locked before it is asked again whether a delivery lives: making one waits for that lock.
_LOCK: Final = """
    select v.id from event v
     where (v.account = $1 or ($1::text is null and v.account is null)) and v.created_at < $2
       and not exists (select from delivery d where d.event = any (array[v.id]))
     order by v.created_at limit $3 for update skip locked
"""
_DELETE: Final = """
    delete from event v
     where v.id = any ($1) and not exists (select from delivery d where d.event = any (array[v.id]))
    returning position
"""
_FORGET: Final = "update account set forgotten = greatest(forgotten, $2) where id = $1"


async def forget(pool: asyncpg.Pool) -> int:
    """Delete the events that are too old, and secrets that sign no more; returns how many events.

    Any number of processes may do so at once.
    """
    await pool.execute("delete from endpoint_secret where expires_at <= clock()")
    cutoff = await pool.fetchval(_CUTOFF, KEPT_DAYS, SLACK_HOURS)
    accounts = [row["id"] for row in await pool.fetch(_ACCOUNTS, cutoff)]
    forgotten = 0
    for account in (*accounts, None):  # None: the operator's news
        while count := await _forget_batch(pool, account, cutoff):
            forgotten += count
    if forgotten:
        log.info("events forgotten", events=forgotten, before=cutoff.isoformat())
    return forgotten


async def _forget_batch(pool: asyncpg.Pool, account: str | None, cutoff: datetime) -> int:
    async with pool.acquire() as connection, connection.transaction():
        old = [row["id"] for row in await connection.fetch(_LOCK, account, cutoff, BATCH)]
        gone = [row["position"] for row in await connection.fetch(_DELETE, old)]
        positions = [position for position in gone if position is not None]
        if positions:
            await connection.execute(_FORGET, account, max(positions))
    return len(gone)
