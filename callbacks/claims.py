"""The SQL of claims: which due deliveries this process may send, and giving them back.

A claim leases deliveries by moving `due_at` past the lease under a fresh token. Everything said of
a leased delivery afterwards names that token: once the lease ran out and somebody else holds the
delivery, it changes nothing. Rows that a statement must wait for are locked in the order of their
ids; the others are skipped, so that no two statements can wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from callbacks.attempts import Message
from indexer.database import unavailable_database

CLAIM_ENDPOINTS: Final = 64  # that one claim takes from
STATEMENT_SECONDS: Final = 10.0  # a claim or a settling that takes longer is given up and repeated


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process may send until its lease ends."""

    id: int
    token: UUID
    attempts: int  # charged before this one
    message: Message


# Lanes: every endpoint with live deliveries and its oldest, found by skipping through the index.
# Free slots are shared among the lanes that are due, so that a backlog is no reason to wait behind
# it. A delivery whose deposit has an earlier one alive is not taken; that a later event can't be
# committed before an earlier one (the deposit's row is locked by both) makes the check safe.
_CLAIM: Final = """
    with recursive lane as (
        (select endpoint, due_at from delivery order by endpoint, due_at limit 1)
        union all
        select next.endpoint, next.due_at
          from lane cross join lateral (
            select d.endpoint, d.due_at from delivery d
             where d.endpoint > lane.endpoint order by d.endpoint, d.due_at limit 1) next
    ), open as (
        select lane.endpoint, lane.due_at, $3 - coalesce(busy.used, 0) as room
          from lane
          join endpoint e on e.id = lane.endpoint and e.state = 'active'
          left join unnest($4::text[], $5::integer[]) busy (endpoint, used)
                 on busy.endpoint = lane.endpoint
         where lane.due_at <= (select clock()) and coalesce(busy.used, 0) < $3
         order by lane.due_at limit $6
    ), share as (
        select endpoint, due_at,
               least(room, greatest(1, $2::integer / (count(*) over ())::integer)) as room
          from open
    ), picked as (
        select due.id
          from (select * from share order by due_at) share cross join lateral (
            select d.id from delivery d
             where d.endpoint = share.endpoint and d.due_at <= (select clock())
               and not exists (select from delivery earlier
                                where earlier.endpoint = d.endpoint
                                  and earlier.deposit = d.deposit
                                  and earlier.sequence < d.sequence)
             order by d.due_at, d.id limit share.room
               for update skip locked) due
         limit $2
    ), leased as (
        update delivery d set lease_token = $1, due_at = clock() + make_interval(secs => $7)
          from picked where d.id = picked.id
        returning d.id, d.endpoint, d.event, d.requests, d.attempts
    )
    select leased.*, v.body, e.url, e.headers,
           array(select s.secret from endpoint_secret s
                  where s.endpoint = e.id and (s.expires_at is null or s.expires_at > clock())
                  order by s.created_at desc) as secrets
      from leased join event v on v.id = leased.event join endpoint e on e.id = leased.endpoint
     order by leased.id
"""


async def claim(
    pool: asyncpg.Pool,
    slots: int,
    per_endpoint: int,
    busy: Mapping[str, int],
    lease_seconds: float,
) -> list[Claim]:
    """Lease at most `slots` due deliveries, fairly among endpoints.

    `busy` counts what this process is sending to an endpoint now: with what is claimed it stays
    within `per_endpoint`, and an endpoint with no room left is passed over. Raises Unavailable.
    """
    token = uuid4()
    with unavailable_database():
        rows = await pool.fetch(
            _CLAIM,
            token,
            slots,
            per_endpoint,
            list(busy),
            list(busy.values()),
            CLAIM_ENDPOINTS,
            lease_seconds,
            timeout=STATEMENT_SECONDS,
        )
    return [_claimed(row, token) for row in rows]


def _claimed(row: asyncpg.Record, token: UUID) -> Claim:
    message = Message(
        row["endpoint"],
        row["event"],
        row["body"],
        row["requests"] + 1,
        row["url"],
        tuple(row["secrets"]),
        row["headers"],
    )
    return Claim(row["id"], token, row["attempts"], message)


_RELEASE: Final = """
    with mine as materialized (
        select id from delivery where id = any ($1) and lease_token = $2 order by id for update
    )
    update delivery d set lease_token = null, due_at = clock() from mine where d.id = mine.id
"""


async def release(pool: asyncpg.Pool, claims: Sequence[Claim]) -> None:
    """Give back deliveries of one claim that were not sent. Raises Unavailable."""
    if claims:
        with unavailable_database():
            await pool.execute(
                _RELEASE, [c.id for c in claims], claims[0].token, timeout=STATEMENT_SECONDS
            )
