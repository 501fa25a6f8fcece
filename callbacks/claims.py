"""The SQL of claims: who has work, which of it this process may send, and giving it back.

A claim leases deliveries for a while under a fresh token. Everything said of a leased delivery
afterwards names that token: once the lease ran out and somebody else holds the delivery, it changes
nothing. Rows that a statement must wait for are locked in the order of their ids; the others are
skipped, so that no two statements can wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import asyncpg

from callbacks.attempts import Message
from callbacks.metrics import CLAIM_SECONDS
from callbacks.statements import fetch


class Claim(NamedTuple):
    """A delivery that this process may send until its lease ends."""

    id: int
    token: UUID
    attempts: int  # charged before this one
    message: Message
    probe: bool = False  # whether its endpoint's breaker is open
    early: bool = False  # before its own time: it is not charged
    ailing: bool = False  # its endpoint fared ill lately
    happened: float | None = None  # when its event did, on time.monotonic(); None: a resend


class Lot(NamedTuple):
    """What one claim took of an endpoint, and how it is to be sent."""

    endpoint: str
    rate: float  # deliveries a second
    concurrency: int  # attempts at once
    claims: tuple[Claim, ...]
    full: bool  # no more was asked for, so that there may be more


class Due(NamedTuple):
    """An endpoint with something to send."""

    endpoint: str
    probe: bool  # no more than that


class Want(NamedTuple):
    """What this process could send to an endpoint."""

    busy: int  # deliveries that it has in hand
    room: int  # further ones


# Endpoints that have something to send or to be probed with.
_DUE: Final = """
    select lane.endpoint, h.open_until is not null as probe
      from lane
      join endpoint e on e.id = lane.endpoint and e.state = 'active'
      left join endpoint_health h on h.endpoint = lane.endpoint
     where (lane.due_at <= (select clock()) or h.open_until is not null)
       and (h.open_until is null or h.open_until <= (select clock()))
       and (h.paused_until is null or h.paused_until <= (select clock()))
     order by lane.due_at
"""


async def due(pool: asyncpg.Pool) -> list[Due]:
    """The endpoints that may be sent something now, longest due first. Raises Unavailable."""
    return [Due(*row) for row in await fetch(pool, _DUE)]


_STOPPED: Final = """
    select asked.endpoint
      from unnest($1::text[]) asked (endpoint)
      left join endpoint e on e.id = asked.endpoint
      left join endpoint_health h on h.endpoint = asked.endpoint
     where e.state is distinct from 'active' or h.open_until is not null
        or h.paused_until > clock()
"""


async def stopped(pool: asyncpg.Pool, endpoints: Sequence[str]) -> list[str]:
    """Those that are held, deleted, open or paused by now. Raises Unavailable."""
    if not endpoints:
        return []
    return [row["endpoint"] for row in await fetch(pool, _STOPPED, endpoints)]


# A lease that a crash of the server forgets costs a repetition: claims don't wait for the disk.
_UNSYNCED: Final = "set_config('synchronous_commit', 'off', true)"
# A delivery is free while nobody's lease is on it. It waits for no other, or is its deposit's
# first: that a later event can't be committed before an earlier one (the deposit's row is locked by
# both) makes the check safe.
_FREE: Final = "(d.leased_until is null or d.leased_until <= (select clock()))"
_FIRST: Final = """
    (d.resent or d.sequence = 1 or not exists (
        select from delivery earlier
         where earlier.endpoint = d.endpoint and earlier.deposit = d.deposit
           and earlier.sequence < d.sequence and not earlier.resent))
"""
_LEASE: Final = f"""
    leased as (
        update delivery d
           set lease_token = $1, leased_until = clock() + make_interval(secs => $2)
         where d.id = any (array(select id from picked))
        returning d.id, d.endpoint, d.event, d.requests, d.attempts, d.resent,
                  d.due_at > clock() as early
    )
    select leased.*, extract(epoch from clock() - v.created_at)::float8 as age, v.body,
           asked.url, asked.headers, asked.secrets, asked.rate_limit,
           asked.concurrency, asked.ailing, asked.room
      from leased
      join asked on asked.endpoint = leased.endpoint
      join event v on v.id = leased.event
     cross join {_UNSYNCED}
     order by leased.endpoint, leased.id
"""  # noqa: S608
# Those that sign, the newest first.
SECRETS: Final = """
    array(select s.secret from endpoint_secret s
           where s.endpoint = e.id and (s.expires_at is null or s.expires_at > clock())
           order by s.created_at desc) as secrets
"""
# Free slots are shared among the endpoints that are asked for, so that a backlog is no reason to
# wait behind it. What is claimed ahead is one more round of an endpoint's attempts; half-open,
# nothing is.
_CLAIM: Final = f"""
    with asked as materialized (
        select e.id as endpoint, e.url, e.headers, e.rate_limit,
               least(e.concurrency, h.room) as concurrency, {SECRETS},
               h.endpoint is not null as ailing,
               least(want.room, coalesce(h.room, 4 * e.concurrency) - want.busy,
                     greatest(1, $3::integer / (count(*) over ())::integer)) as room
          from unnest($4::text[], $5::integer[], $6::integer[]) want (endpoint, busy, room)
          join endpoint e on e.id = want.endpoint and e.state = 'active'
          left join endpoint_health h on h.endpoint = e.id
         where h.open_until is null
           and (h.paused_until is null or h.paused_until <= (select clock()))
    ), picked as materialized (
        select free.id
          from asked cross join lateral (
            select d.id from delivery d
             where d.endpoint = asked.endpoint and d.due_at <= (select clock())
               and {_FREE} and {_FIRST}
             order by d.due_at, d.id limit greatest(0, asked.room)
               for update skip locked) free
         limit $3
    ), {_LEASE}
"""  # noqa: S608

# The deposits take turns, those of them that are due; where none is, what will be soonest.
_TURN: Final = f"""
    select d.id from delivery d
     where d.endpoint = asked.endpoint and d.deposit > {{after}} and d.due_at <= (select clock())
       and {_FREE} and {_FIRST}
     order by d.deposit, d.sequence limit 1
"""  # noqa: S608
_PROBE: Final = f"""
    with asked as materialized (
        select e.id as endpoint, e.url, e.headers, e.rate_limit, 1 as concurrency, {SECRETS},
               true as ailing, 1 as room, h.probed
          from endpoint_health h join endpoint e on e.id = h.endpoint and e.state = 'active'
         where h.endpoint = any ($3) and h.open_until <= clock()
           and (h.paused_until is null or h.paused_until <= clock())
         order by h.endpoint
           for update of h skip locked
    ), picked as materialized (
        select free.id, free.endpoint, free.deposit
          from asked cross join lateral (
            select p.id, p.endpoint, p.deposit from delivery p
             where p.id = coalesce(
                ({_TURN.format(after="asked.probed")}),
                ({_TURN.format(after="''")}),
                (select d.id from delivery d
                  where d.endpoint = asked.endpoint and {_FREE} and {_FIRST}
                  order by d.due_at, d.id limit 1))
               for update skip locked) free
    ), noted as (
        update endpoint_health h
           set probed = coalesce(picked.deposit, ''),
               open_until = clock() + make_interval(secs => h.open_seconds)
          from picked where h.endpoint = picked.endpoint
    ), {_LEASE}
"""  # noqa: S608


async def claim(
    pool: asyncpg.Pool, wants: Mapping[str, Want], slots: int, lease_seconds: float
) -> list[Lot]:
    """Lease at most `slots` due deliveries, fairly among the endpoints in `wants`.

    What an endpoint has in hand and is given together is at most two rounds of its attempts.
    Endpoints that are held, open or have nothing due are passed over. Raises Unavailable.
    """
    if not wants:
        return []
    token = uuid4()
    with CLAIM_SECONDS.time():
        rows = await fetch(
            pool,
            _CLAIM,
            token,
            lease_seconds,
            slots,
            list(wants),
            [want.busy for want in wants.values()],
            [want.room for want in wants.values()],
        )
    return _lots(rows, token, probe=False)


async def probe(pool: asyncpg.Pool, endpoints: Sequence[str], lease_seconds: float) -> list[Lot]:
    """Lease the one delivery that may try an endpoint whose breaker is open, where it is time.

    It takes as long as before until another is given. Raises Unavailable.
    """
    if not endpoints:
        return []
    token = uuid4()
    rows = await fetch(pool, _PROBE, token, lease_seconds, endpoints)
    return _lots(rows, token, probe=True)


def _lots(rows: Sequence[Any], token: UUID, *, probe: bool) -> list[Lot]:
    lots = []
    for endpoint, group in groupby(rows, lambda row: row["endpoint"]):
        taken = list(group)
        first = taken[0]
        claims = tuple(_claimed(row, token, probe=probe) for row in taken)
        full = len(claims) >= first["room"]
        lots.append(Lot(endpoint, first["rate_limit"], first["concurrency"], claims, full))
    return lots


def _claimed(row: Any, token: UUID, *, probe: bool) -> Claim:
    message = Message(
        row["endpoint"],
        row["event"],
        row["body"],
        row["requests"] + 1,
        row["url"],
        tuple(row["secrets"]),
        row["headers"],
    )
    happened = None if row["resent"] else time.monotonic() - row["age"]
    return Claim(
        row["id"], token, row["attempts"], message, probe, row["early"], row["ailing"], happened
    )


_RELEASE: Final = """
    with mine as materialized (
        select d.id from delivery d
          join unnest($1::bigint[], $2::uuid[]) as c (id, token)
            on d.id = any (array[c.id]) and d.lease_token = c.token
         order by c.id for update of d
    )
    update delivery d set lease_token = null, leased_until = null
     where id = any (array(select id from mine))
"""


async def release(pool: asyncpg.Pool, claims: Sequence[Claim]) -> None:
    """Give back deliveries that were not sent. Raises Unavailable."""
    if claims:
        ids, tokens = [claim.id for claim in claims], [claim.token for claim in claims]
        await fetch(pool, _RELEASE, ids, tokens)
