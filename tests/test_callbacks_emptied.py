"""Statements while the planner thinks that there are no deliveries, and takes an index for a page.

A vacuum that finds nothing alive but can't cut the pages off, since an old snapshot may need them,
leaves it in that belief until the next one: a backup at a quiet moment is enough.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg
import pytest

from callbacks import claims, outcomes
from callbacks.answer import Answer
from indexer.secret import Vault
from tests import callback_bulk as bulk

EVENTS: Final = 1_000
SLOTS: Final = 500
SECONDS: Final = 5.0  # for each step; with plans for an empty table it takes minutes


@pytest.fixture
async def emptied(pool: asyncpg.Pool, vault: Vault) -> list[str]:
    """Accounts whose deliveries are done; the table's pages are still there."""
    accounts = [f"shop{number}" for number in range(EVENTS)]
    await bulk.world(pool, accounts)
    await bulk.endpoints(pool, vault, {name: f"http://127.0.0.1:1/{name}" for name in accounts})
    async with pool.acquire() as backup, backup.transaction(isolation="repeatable_read"):
        await backup.execute("select from delivery")
        await make(pool, accounts, 0)
        await pool.execute("delete from delivery")
        await pool.execute("vacuum analyze delivery")
    pages, rows = await pool.fetchrow(
        "select relpages, reltuples from pg_class where relname = 'delivery'"
    )
    assert pages > 0
    assert rows == 0
    return accounts


async def make(pool: asyncpg.Pool, accounts: list[str], first: int) -> None:
    names = await bulk.deposits(pool, accounts, first)
    await bulk.events(pool, [(name, 1) for name in names])
    await bulk.events(pool, [(name, 2) for name in names])


async def test_events_are_made_claimed_and_settled_as_ever(
    pool: asyncpg.Pool, emptied: list[str]
) -> None:
    async with asyncio.timeout(SECONDS):
        await make(pool, emptied, EVENTS)
    async with asyncio.timeout(SECONDS):
        wants = {due.endpoint: claims.Want(0, 8) for due in await claims.due(pool)}
        lots = await claims.claim(pool, wants, SLOTS, 60.0)
    taken = [claim for lot in lots for claim in lot.claims]
    assert len(taken) == SLOTS
    now, done, refused = time.monotonic(), Answer(200, None), Answer(500, "status")
    async with asyncio.timeout(SECONDS):
        settled = await outcomes.settle(
            pool,
            [
                *(outcomes.Outcome(each, done, now, "delivered") for each in taken[::2]),
                *(outcomes.Outcome(each, refused, now, wait=60.0) for each in taken[1::2]),
            ],
        )
    assert len(settled) == SLOTS
    assert await pool.fetchval("select count(*) from delivery") == 2 * EVENTS - SLOTS // 2
    waiting = "select count(*) from delivery where due_at > clock()"
    assert await pool.fetchval(waiting) == SLOTS  # the second events of those that wait, too
