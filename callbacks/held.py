"""Deliveries that can't be sent for too long are given up, and that is said a week before.

Held is what nothing is charged for: its endpoint is paused, disabled, or its breaker is open.
"""

from __future__ import annotations

from typing import Final

import asyncpg
import structlog

from callbacks.metrics import FINISHED, GIVEN_UP_SOON

GIVEN_UP_DAYS: Final = 30
SAID_DAYS: Final = 7  # before
REASON: Final = "endpoint_gone"
BATCH: Final = 1_000  # deliveries of one statement

log = structlog.get_logger()

# An open breaker came before the disabling that follows from it: both are one time.
_ENDPOINTS: Final = """
    select * from (
        select e.id, e.state::text as state,
               least(case when e.state <> 'active' then e.state_since end,
                     case when h.open_until is not null then h.failing_since end) as since
          from endpoint e left join endpoint_health h on h.endpoint = e.id) held
     where since <= clock() - make_interval(days => $1)
"""
_COUNT: Final = """
    select count(*) from delivery
     where endpoint = $1 and created_at <= clock() - make_interval(days => $2)
"""
_GIVE_UP: Final = """
    select end_deliveries(array(
        select id from delivery
         where endpoint = $1 and created_at <= clock() - make_interval(days => $2)
           and lease_token is null
         order by created_at, id limit $3), 'exhausted', $4)
"""


async def give_up(pool: asyncpg.Pool) -> None:
    """Exhaust what was held for GIVEN_UP_DAYS."""
    for row in await pool.fetch(_ENDPOINTS, GIVEN_UP_DAYS):
        given_up = 0
        while count := await pool.fetchval(_GIVE_UP, row["id"], GIVEN_UP_DAYS, BATCH, REASON):
            given_up += count
        if given_up:
            FINISHED.labels("exhausted", REASON).inc(given_up)
            log.warning("deliveries given up", endpoint=row["id"], deliveries=given_up)


async def warn(pool: asyncpg.Pool) -> None:
    """Say what will be given up within SAID_DAYS."""
    days, total = GIVEN_UP_DAYS - SAID_DAYS, 0
    for row in await pool.fetch(_ENDPOINTS, days):
        count = await pool.fetchval(_COUNT, row["id"], days)
        total += count
        if count:
            log.warning(
                "deliveries will be given up",
                endpoint=row["id"],
                state=row["state"],
                deliveries=count,
                within_days=SAID_DAYS,
            )
    GIVEN_UP_SOON.set(total)
