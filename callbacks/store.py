"""The SQL of deliveries and endpoints, a function a statement or a transaction.

A claim leases deliveries by moving `due_at` past the lease under a fresh token. Everything said of
a leased delivery afterwards names that token: once the lease ran out and somebody else holds the
delivery, it changes nothing. Rows that a statement must wait for are locked in the order of their
ids; the others are skipped, so that no two statements can wait for each other.
"""

from __future__ import annotations

import secrets as randomness
from base64 import b32encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from callbacks import signing
from indexer.database import unavailable_database
from indexer.model import ID_CHARS
from indexer.secret import Vault

CLAIM_ENDPOINTS: Final = 64  # that one claim takes from
STATEMENT_SECONDS: Final = 10.0  # a claim or a settling that takes longer is given up and repeated


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process may send until its lease ends."""

    id: int
    token: UUID
    endpoint: str
    event: str  # the webhook-id
    body: bytes
    attempts: int  # charged before this one
    url: str
    secrets: tuple[bytes, ...]  # encrypted, bound to the endpoint's id; newest first


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. `wait` is set where another is to follow: then `state` is None."""

    id: int
    token: UUID
    state: str | None  # delivered, exhausted
    reason: str | None  # why it is exhausted
    wait: float | None  # seconds until the next attempt
    error: str | None
    status: int | None


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
        returning d.id, d.endpoint, d.event, d.attempts
    )
    select leased.*, v.body, e.url,
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
    return [
        Claim(
            row["id"],
            token,
            row["endpoint"],
            row["event"],
            row["body"],
            row["attempts"],
            row["url"],
            tuple(row["secrets"]),
        )
        for row in rows
    ]


# What waits behind a delivery that is tried again later is moved along with it, so that claims do
# not step over it until then. Nobody else's work can be among that: a later one is never leased
# while an earlier one lives.
_SETTLE: Final = """
    with outcome as (
        select * from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::float8[],
                             $6::text[], $7::integer[])
                 as o (id, token, state, reason, wait, error, status)
    ), mine as materialized (
        select d.id, o.state, o.reason, o.wait, o.error, o.status
          from delivery d join outcome o on o.id = d.id and o.token = d.lease_token
         order by d.id
           for update of d
    ), gone as (
        delete from delivery d using mine where d.id = mine.id and mine.wait is null
        returning d.*, mine.state, mine.reason, mine.error, mine.status
    ), done as (
        insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                                   attempts, last_error, last_status, created_at)
        select id, endpoint, event, deposit, sequence, state::delivery_state, reason, requests + 1,
               attempts + 1, error, status, created_at
          from gone
    ), retried as (
        update delivery d
           set due_at = clock() + make_interval(secs => mine.wait), requests = d.requests + 1,
               attempts = d.attempts + 1, lease_token = null, last_error = mine.error,
               last_status = mine.status
          from mine where d.id = mine.id and mine.wait is not null
        returning d.endpoint, d.deposit, d.sequence, d.due_at
    ), behind as (
        select d.id, retried.due_at
          from retried
          join delivery d on d.endpoint = retried.endpoint and d.deposit = retried.deposit
                         and d.sequence > retried.sequence
         where d.lease_token is null
           for update of d skip locked
    ), moved as (
        update delivery d set due_at = behind.due_at from behind where d.id = behind.id
    )
    select id from mine
"""


async def settle(pool: asyncpg.Pool, outcomes: Sequence[Outcome]) -> set[int]:
    """Record outcomes; returns the ids of those that were taken.

    The others were refused by the fence: their lease ran out, or their delivery is cancelled. (An
    outcome that is settled again because the first answer was lost is among them, too.) Raises
    Unavailable.
    """
    with unavailable_database():
        rows = await pool.fetch(
            _SETTLE,
            [o.id for o in outcomes],
            [o.token for o in outcomes],
            [o.state for o in outcomes],
            [o.reason for o in outcomes],
            [o.wait for o in outcomes],
            [o.error for o in outcomes],
            [o.status for o in outcomes],
            timeout=STATEMENT_SECONDS,
        )
    return {row["id"] for row in rows}


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


async def create_endpoint(
    connection: asyncpg.Connection,
    vault: Vault,
    account: str,
    url: str,
    events: Sequence[str] | None,
    networks: Sequence[str] | None,
    coins: Sequence[str] | None,
    description: str | None,
) -> tuple[asyncpg.Record, str]:
    """A new endpoint's row and its secret, which is shown this once. Needs a transaction."""
    endpoint = "ep_" + b32encode(randomness.token_bytes(20)).decode().lower()[:ID_CHARS]
    secret = signing.new_secret()
    row = await connection.fetchrow(
        """
        insert into endpoint (id, account, url, events, networks, coins, description)
        values ($1, $2, $3, $4, $5, $6, $7) returning *
        """,
        endpoint,
        account,
        url,
        events,
        networks,
        coins,
        description,
    )
    await connection.execute(
        "insert into endpoint_secret (endpoint, secret) values ($1, $2)",
        endpoint,
        vault.encrypt(signing.decode_secret(secret), endpoint),
    )
    return row, secret


_CANCEL: Final = """
    with live as materialized (
        select id from delivery where endpoint = $1 order by id for update
    ), gone as (
        delete from delivery d using live where d.id = live.id returning d.*
    )
    insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                               attempts, last_error, last_status, created_at)
    select id, endpoint, event, deposit, sequence, 'cancelled', 'endpoint_deleted', requests,
           attempts, last_error, last_status, created_at
      from gone
"""


async def delete_endpoint(
    connection: asyncpg.Connection, endpoint: str, account: str | None
) -> bool:
    """Cancel what is live of an endpoint and forget it; False if there is none.

    Needs a transaction: the endpoint's lock keeps new deliveries out while it works. `account`
    None: whichever it belongs to.
    """
    found = await connection.fetchval(
        "select id from endpoint where id = $1 and account = coalesce($2, account) for update",
        endpoint,
        account,
    )
    if found is None:
        return False
    await connection.execute(_CANCEL, endpoint)
    await connection.execute("delete from endpoint where id = $1", endpoint)
    return True
