"""A test of an endpoint: an event of its own, sent at once and once, on the path of all others.

Its delivery is made with a lease, so that no dispatcher takes it, and settled like theirs. Should
this process die meanwhile, the lease ends and a dispatcher sends it.
"""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import uuid4

import asyncpg

from callbacks import news, outcomes
from callbacks.answer import Answer
from callbacks.attempts import ATTEMPT_SECONDS, Attempts, Message
from callbacks.claims import SECRETS, Claim
from callbacks.news import TEST, News
from callbacks.outcomes import Outcome
from indexer.model import Refused, Unavailable

LEASE_SECONDS: Final = 4 * ATTEMPT_SECONDS


class UnderWay(Refused):
    """Another test of the same endpoint is not done yet."""


_ENDPOINT: Final = f"""
    select e.account, e.url, e.headers, clock() as now, {SECRETS},
           exists (select from delivery d join event v on v.id = d.event and v.type = $2
                    where d.endpoint = e.id and d.deposit is null
                      and d.leased_until > clock()) as busy
      from endpoint e where e.id = $1 for no key update of e
"""  # noqa: S608
_LEASE: Final = """
    insert into delivery (endpoint, event, lease_token, leased_until)
    values ($1, $2, $3, clock() + make_interval(secs => $4)) returning id
"""
_ATTEMPT: Final = "select * from attempt where delivery = $1 order by number desc limit 1"


async def send_test(pool: asyncpg.Pool, attempts: Attempts, endpoint: str) -> asyncpg.Record:
    """Send an `endpoint.test`; the row of the attempt.

    `attempts` is entered. UnderWay while another test of this endpoint is, Refused where there is
    no such endpoint, Unavailable where the outcome can't be written in time.
    """
    claim = await _claim(pool, endpoint)
    began = time.monotonic()
    answer = await attempts.send(claim.message)
    if not await outcomes.settle(pool, [_outcome(claim, answer, began)]):
        raise Unavailable("the test was sent, but its outcome came too late to be recorded")
    return await pool.fetchrow(_ATTEMPT, claim.id)


def _outcome(claim: Claim, answer: Answer, began: float) -> Outcome:
    if answer.error is None:
        return Outcome(claim, answer, began, "delivered")
    return Outcome(claim, answer, began, "exhausted", "test")


async def _claim(pool: asyncpg.Pool, endpoint: str) -> Claim:
    async with pool.acquire() as connection, connection.transaction():
        row: Any = await connection.fetchrow(_ENDPOINT, endpoint, TEST)
        if row is None:
            raise Refused(f"there is no endpoint {endpoint!r}")
        if row["busy"]:
            raise UnderWay("a test of this endpoint is under way")
        data = {"endpoint": endpoint, "account": row["account"]}
        event = News.of(row["account"], TEST, row["now"], data)
        await news.store(connection, [event])
        token = uuid4()
        delivery = await connection.fetchval(_LEASE, endpoint, event.id, token, LEASE_SECONDS)
    secrets = tuple(row["secrets"])
    message = Message(endpoint, event.id, event.body, 1, row["url"], secrets, row["headers"])
    return Claim(delivery, token, 0, message)
