"""Heartbeats: an event a slot to the endpoints that ask for it, so that silence can be noticed.

A slot's event, its delivery and the endpoint's next slot are one transaction that locks the
endpoint: any number of dispatchers make one event a slot, whatever is killed and whenever. Slots
that pass while nobody beats, or while the endpoint is held, are left out.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from callbacks.metrics import FINISHED
from callbacks.news import HEARTBEAT, News, store
from indexer import bell
from indexer.model import format_time

SUPERSEDED: Final = "superseded"
BATCH: Final = 500  # endpoints of one transaction

_DUE: Final = """
    select id, account, heartbeat_seconds, clock() as now,
           heartbeat_at + make_interval(secs => heartbeat_seconds * floor(
               extract(epoch from clock() - heartbeat_at) / heartbeat_seconds)::float8) as slot
      from endpoint
     where heartbeat_at <= (select clock()) and state = 'active'
     order by heartbeat_at limit $1 for no key update skip locked
"""

# Of an older heartbeat that still waits nobody wants to hear: a receiver that was down for a day
# would be sent hundreds of them.
_SUPERSEDE: Final = """
    select end_deliveries(array(
        select d.id from delivery d join event v on v.id = d.event and v.type = $2
         where d.endpoint = any ($1) and d.deposit is null and d.lease_token is null
    ), 'exhausted', $3)
"""

_DELIVER: Final = """
    insert into delivery (endpoint, event) select * from unnest($1::text[], $2::text[])
"""

_NEXT: Final = """
    update endpoint e set heartbeat_at = t.slot + make_interval(secs => e.heartbeat_seconds)
      from unnest($1::text[], $2::timestamptz[]) as t (id, slot) where e.id = t.id
"""


async def beat(pool: asyncpg.Pool) -> int:
    """Make the heartbeats that are due, at most BATCH; returns how many."""
    superseded = 0
    async with pool.acquire() as connection, connection.transaction():
        due = await connection.fetch(_DUE, BATCH)
        if due:
            names = [row["id"] for row in due]
            news = [_news(row) for row in due]
            superseded = await connection.fetchval(_SUPERSEDE, names, HEARTBEAT, SUPERSEDED)
            await store(connection, news)
            await connection.execute(_DELIVER, names, [each.id for each in news])
            await connection.execute(_NEXT, names, [row["slot"] for row in due])
            await bell.ring(connection, names)
    FINISHED.labels("exhausted", SUPERSEDED).inc(superseded)
    return len(due)


def _news(row: Any) -> News:
    data = {
        "endpoint": row["id"],
        "account": row["account"],
        "slot": format_time(row["slot"]),
        "heartbeatSeconds": row["heartbeat_seconds"],
    }
    return News.of(row["account"], HEARTBEAT, row["now"], data)
