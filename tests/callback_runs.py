"""Dispatchers at work for the length of a test, and waiting for what they should bring about."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import asyncpg

from callbacks import claims
from callbacks.claimer import CLAIM_ENDPOINTS
from callbacks.claims import Claim, Want
from callbacks.dispatcher import SLOTS, Dispatcher, Limits
from indexer.config import Callbacks
from indexer.secret import Vault

RULES = Callbacks(allow_private=True, allow_http=True)
QUICK = Limits(poll_seconds=0.02, attempt_seconds=5.0)


@asynccontextmanager
async def dispatching(
    pool: asyncpg.Pool,
    vault: Vault,
    limits: Limits = QUICK,
    *,
    count: int = 1,
    rules: Callbacks = RULES,
) -> AsyncIterator[asyncio.Event]:
    """`count` dispatchers; yields the event that stops them, as leaving does."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for seed in range(count):
            dispatcher = Dispatcher(pool, vault, rules, limits, rng=Random(seed))
            tasks.create_task(dispatcher.run(stop))
        yield stop
        stop.set()


@asynccontextmanager
async def hurried(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """Whatever waits for its next attempt is due now."""

    async def hurry() -> None:
        while True:
            await make_due(pool)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(hurry())
    try:
        yield
    finally:
        task.cancel()


async def make_due(pool: asyncpg.Pool, *, leased: bool = False) -> None:
    """Time passes: for backoffs, breakers and pauses, with `leased` for leases instead."""
    if leased:
        await pool.execute(
            "update delivery set leased_until = clock() where lease_token is not null"
        )
        return
    await pool.execute(
        "update endpoint_health set paused_until = null, "
        "open_until = case when open_until is not null then clock() end"
    )
    await pool.execute(
        "update delivery set due_at = clock() where due_at > clock() and lease_token is null"
    )


async def claim(
    pool: asyncpg.Pool,
    slots: int = 100,
    per_endpoint: int = 8,
    busy: Mapping[str, int] | None = None,
    lease: float = 60.0,
) -> list[Claim]:
    """What a dispatcher would be given that can have `per_endpoint` in hand of each endpoint."""
    names = [each.endpoint for each in await claims.due(pool)]
    in_hand = {name: (busy or {}).get(name, 0) for name in names}
    wants = {name: Want(now, per_endpoint - now) for name, now in in_hand.items()}
    lots = await claims.claim(pool, wants, slots, lease)
    return sorted((each for lot in lots for each in lot.claims), key=lambda each: each.id)


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """What the condition returns once it is true."""
    async with asyncio.timeout(seconds):
        while True:
            if result := await condition():
                return result
            await asyncio.sleep(0.01)


async def true(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once a condition is true that nothing has to be awaited for."""

    async def look() -> object:
        return condition()

    await until(look, seconds)


async def settled(pool: asyncpg.Pool) -> list[Any]:
    """The finished deliveries, once none is live any more."""

    async def none_live() -> bool:
        return not await pool.fetchval("select exists (select from delivery)")

    await until(none_live, 60.0)
    return list(await pool.fetch("select * from delivery_done order by id"))


async def charged(pool: asyncpg.Pool, attempts: int) -> Any:
    """The one live delivery, once so many attempts are charged to it."""
    return await _waiting(pool, "attempts", attempts)


async def requested(pool: asyncpg.Pool, requests: int) -> Any:
    """The one live delivery, once it was sent so often, charged or not."""
    return await _waiting(pool, "requests", requests)


async def _waiting(pool: asyncpg.Pool, counted: str, count: int) -> Any:
    async def enough() -> Any:
        row = await pool.fetchrow(
            "select *, extract(epoch from due_at - clock())::float8 as wait from delivery "
            "where lease_token is null"
        )
        return row if row is not None and row[counted] >= count else None

    return await until(enough)


async def claim_seconds(pool: asyncpg.Pool, endpoints: Sequence[str]) -> float:
    """The median of what a claim for these takes; gives back what it got.

    The least of some medians: the machine has other things to do as well.
    """
    wants = dict.fromkeys(endpoints[:CLAIM_ENDPOINTS], Want(0, 8))
    medians = []
    for _ in range(3):
        taken = []
        for _ in range(15):
            start = time.perf_counter()
            lots = await claims.claim(pool, wants, SLOTS, 60.0)
            taken.append(time.perf_counter() - start)
            await claims.release(pool, [claim for lot in lots for claim in lot.claims])
        medians.append(statistics.median(taken))
    return min(medians)
