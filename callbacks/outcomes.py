"""The SQL of outcomes: what came of attempts, each with its row, fenced by the leases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import structlog

from callbacks.answer import Answer
from callbacks.claims import Claim
from callbacks.statements import fetch

ANSWERS: Final = 5  # failures with one, after which a delivery gives way to a later event

log = structlog.get_logger()


class Outcome(NamedTuple):
    """What came of one attempt. `wait` is set where another is to follow: then `state` is None."""

    claim: Claim
    answer: Answer
    began: float  # when the attempt did, on time.monotonic()
    state: str | None = None  # delivered, exhausted
    reason: str | None = None  # why it is exhausted
    wait: float | None = None  # seconds until the next attempt, at least
    charged: bool = True  # whether it is one of the delivery's 14 attempts


class Settled(NamedTuple):
    """How a delivery stands after its outcome was taken; `state` None: it will be tried again."""

    state: str | None
    reason: str | None
    followed: bool  # a later event of its deposit waits for the same endpoint


# What waits behind a delivery that is tried again later is moved along with it, so that claims do
# not step over it until then. Nobody else's work can be among that: a later one is never leased
# while an earlier one lives. Why `= any (array[…])`: schema.sql, at the table.
_SETTLE: Final = """
    with outcome as (
        select * from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::float8[],
                             $6::boolean[], $7::float8[], $8::text[], $9::smallint[], $10::text[],
                             $11::real[], $12::real[], $13::real[], $14::real[], $15::real[],
                             $16::text[])
                 as o (id, token, state, reason, wait, charged, ago, error, status, address, dns_ms,
                       connect_ms, tls_ms, first_byte_ms, total_ms, head)
    ), held as materialized (
        select o.*, d.requests + 1 as number, d.attempts + o.charged::integer as attempts,
               d.answered + (o.charged and o.error is not null and o.status is not null)::integer
                   as answered,
               not d.resent and exists (
                   select from delivery later
                    where later.endpoint = d.endpoint and later.deposit = d.deposit
                      and later.sequence > d.sequence and not later.resent) as followed
          from outcome o
          join delivery d on d.id = any (array[o.id]) and d.lease_token = o.token
         order by o.id
           for update of d
    ), mine as materialized (
        select held.*, superseded, state is not null or superseded as ended
          from held cross join lateral (
            select state is null and charged and followed and answered >= $17 as superseded) s
    ), gone as (
        delete from delivery d using mine where d.id = any (array[mine.id]) and mine.ended
        returning d.id, d.endpoint, d.event, d.deposit, d.sequence, d.created_at, mine.superseded,
                  mine.state, mine.reason, mine.number, mine.attempts, mine.error, mine.status
    ), done as (
        insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                                   attempts, last_error, last_status, created_at)
        select id, endpoint, event, deposit, sequence,
               (case when superseded then 'exhausted' else state end)::delivery_state,
               case when superseded then 'superseded' else reason end, number, attempts, error,
               status, created_at
          from gone
    ), retried as (
        update delivery d
           set due_at = greatest(d.due_at, clock() + make_interval(secs => mine.wait)),
               requests = mine.number, attempts = mine.attempts, answered = mine.answered,
               lease_token = null, leased_until = null, last_error = mine.error,
               last_status = mine.status
          from mine where d.id = any (array[mine.id]) and not mine.ended
        returning d.endpoint, d.deposit, d.sequence, d.due_at, d.resent
    ), behind as (
        select d.id, retried.due_at
          from retried cross join lateral (
            select later.id from delivery later
             where later.endpoint = retried.endpoint and later.deposit = retried.deposit
               and later.sequence > retried.sequence and not later.resent
               and later.lease_token is null
               for update skip locked) d
         where not retried.resent
    ), moved as (
        update delivery d set due_at = behind.due_at from behind where d.id = any (array[behind.id])
    ), logged as (
        insert into attempt (delivery, number, at, charged, status, error, address, dns_ms,
                             connect_ms, tls_ms, first_byte_ms, total_ms, head)
        select id, number, clock() - make_interval(secs => ago), charged, status, error,
               address::inet, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, head
          from mine
    )
    select id, followed, case when superseded then 'exhausted' else state end as state,
           case when superseded then 'superseded' else reason end as reason
      from mine
"""


async def settle(pool: asyncpg.Pool, outcomes: Sequence[Outcome]) -> dict[int, Settled]:
    """Record outcomes, by the ids of the deliveries whose outcome was taken.

    The others were refused by the fence: their lease ran out, or their delivery is cancelled. (An
    outcome that is settled again because the first answer was lost is among them, too.) Raises
    Unavailable.
    """
    if not outcomes:
        return {}
    try:
        rows = await fetch(pool, _SETTLE, *_columns(outcomes), ANSWERS)
    except asyncpg.DataError as problem:
        return await _settle_singly(pool, outcomes, problem)
    return {row["id"]: Settled(row["state"], row["reason"], row["followed"]) for row in rows}


async def _settle_singly(
    pool: asyncpg.Pool, outcomes: Sequence[Outcome], problem: asyncpg.DataError
) -> dict[int, Settled]:
    """Something in one of them the database does not take: the others must not suffer for it."""
    if len(outcomes) == 1:
        delivery = outcomes[0].claim.id
        log.critical("outcome can't be written", delivery=delivery, error=str(problem))
        return {}
    settled: dict[int, Settled] = {}
    for each in outcomes:
        settled |= await settle(pool, [each])
    return settled


def _columns(outcomes: Sequence[Outcome]) -> list[list[Any]]:
    now = time.monotonic()
    rows = [
        (
            o.claim.id,
            o.claim.token,
            o.state,
            o.reason,
            o.wait,
            o.charged,
            now - o.began,
            o.answer.error,
            o.answer.status,
            o.answer.address,
            o.answer.dns_ms,
            o.answer.connect_ms,
            o.answer.tls_ms,
            o.answer.first_byte_ms,
            o.answer.total_ms,
            o.answer.head,
        )
        for o in outcomes
    ]
    return [list(column) for column in zip(*rows, strict=True)]
