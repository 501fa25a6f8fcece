"""The SQL of outcomes: what came of attempts, each with its row, fenced by the leases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from callbacks.answer import Answer
from callbacks.claims import STATEMENT_SECONDS, Claim
from indexer.database import unavailable_database


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. `wait` is set where another is to follow: then `state` is None."""

    claim: Claim
    answer: Answer
    began: float  # when the attempt did, on time.monotonic()
    state: str | None = None  # delivered, exhausted
    reason: str | None = None  # why it is exhausted
    wait: float | None = None  # seconds until the next attempt
    charged: bool = True  # whether it is one of the delivery's 14 attempts


# What waits behind a delivery that is tried again later is moved along with it, so that claims do
# not step over it until then. Nobody else's work can be among that: a later one is never leased
# while an earlier one lives.
_SETTLE: Final = """
    with outcome as (
        select * from unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::float8[],
                             $6::boolean[], $7::float8[], $8::text[], $9::smallint[], $10::inet[],
                             $11::real[], $12::real[], $13::real[], $14::real[], $15::real[],
                             $16::text[])
                 as o (id, token, state, reason, wait, charged, ago, error, status, address, dns_ms,
                       connect_ms, tls_ms, first_byte_ms, total_ms, head)
    ), mine as materialized (
        select o.*, d.requests + 1 as number
          from delivery d join outcome o on o.id = d.id and o.token = d.lease_token
         order by d.id
           for update of d
    ), gone as (
        delete from delivery d using mine where d.id = mine.id and mine.wait is null
        returning d.*, mine.state, mine.reason, mine.charged, mine.error, mine.status
    ), done as (
        insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                                   attempts, last_error, last_status, created_at)
        select id, endpoint, event, deposit, sequence, state::delivery_state, reason, requests + 1,
               attempts + charged::integer, error, status, created_at
          from gone
    ), retried as (
        update delivery d
           set due_at = clock() + make_interval(secs => mine.wait), requests = d.requests + 1,
               attempts = d.attempts + mine.charged::integer, lease_token = null,
               last_error = mine.error, last_status = mine.status
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
    ), logged as (
        insert into attempt (delivery, number, at, charged, status, error, address, dns_ms,
                             connect_ms, tls_ms, first_byte_ms, total_ms, head)
        select id, number, clock() - make_interval(secs => ago), charged, status, error, address,
               dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms, head
          from mine
    )
    select id from mine
"""


async def settle(pool: asyncpg.Pool, outcomes: Sequence[Outcome]) -> set[int]:
    """Record outcomes; returns the ids of those that were taken.

    The others were refused by the fence: their lease ran out, or their delivery is cancelled. (An
    outcome that is settled again because the first answer was lost is among them, too.) Raises
    Unavailable.
    """
    if not outcomes:
        return set()
    with unavailable_database():
        rows = await pool.fetch(_SETTLE, *_columns(outcomes), timeout=STATEMENT_SECONDS)
    return {row["id"] for row in rows}


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
