"""A PostgreSQL that is full or stands still while every slot has a POST in flight."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from callbacks.dispatcher import SLOTS, Limits
from indexer.database import connect_pool
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import settled, true
from tests.conftest import SECRET_KEY
from tests.harness.cluster import cluster
from tests.harness.dispatcher import DispatcherProcess, dispatchers
from tests.harness.witness import Witness, witness

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
STALL: Final = 30.0 if SOAK else 5.0  # seconds
# Attempts may last as long as the server is away, so that each stays in flight. Of a claim whose
# answer was lost the leases have to end.
LIMITS: Final = Limits(attempt_seconds=STALL + 15, lease_seconds=STALL + 25, poll_seconds=0.1)
GROWTH: Final = 16 * 2**20  # bytes that a dispatcher may grow by while it waits for PostgreSQL
ENDPOINTS: Final = SLOTS // 8  # that fill a dispatcher's slots
DEPOSITS: Final = 20  # of each, at first and again
ANSWERED: Final = ENDPOINTS * DEPOSITS  # before the POSTs that stay in flight


@asynccontextmanager
async def full_hands(
    dsn: str, pool: asyncpg.Pool, vault: Vault, folder: Path
) -> AsyncIterator[tuple[DispatcherProcess, Witness]]:
    """A dispatcher with as many POSTs in flight as it may have, and more that is due."""
    accounts = [f"shop{n}" for n in range(ENDPOINTS)]
    await bulk.world(pool, accounts)
    async with witness() as shops, dispatchers(1, folder, dsn, SECRET_KEY, LIMITS) as [process]:
        shops.know(await bulk.endpoints(pool, vault, {name: shops.url(name) for name in accounts}))
        await make(pool, accounts, 0)  # who has answered gets as many at once as it takes
        await settled(pool)
        shops.answering.clear()
        await make(pool, accounts, DEPOSITS)
        await true(lambda: len(shops.arrivals) == ANSWERED + SLOTS)
        yield process, shops


async def make(pool: asyncpg.Pool, accounts: Sequence[str], first: int) -> None:
    for account in accounts:
        names = await bulk.deposits(pool, [account] * DEPOSITS, first)
        await bulk.events(pool, [(name, 1) for name in names])


async def finish(pool: asyncpg.Pool, shops: Witness) -> None:
    """Everything is delivered, and what was in flight is not sent again."""
    done = await settled(pool)
    assert {(row["state"], row["attempts"]) for row in done} == {("delivered", 1)}
    assert len(done) == len(shops.arrivals) == len(shops.accepted) == 2 * ANSWERED
    assert not shops.refused


@pytest.mark.case(32)
async def test_a_stalled_server_costs_no_event_and_no_memory(tmp_path: Path, vault: Vault) -> None:
    async with cluster(tmp_path, vault) as server:
        pool = await connect_pool(server.dsn)
        async with full_hands(server.dsn, pool, vault, tmp_path) as (process, shops):
            before = process.resident_bytes
            server.freeze()
            shops.answering.set()
            await asyncio.sleep(STALL)
            grown = process.resident_bytes - before
            assert len(shops.arrivals) <= ANSWERED + 2 * SLOTS, "it claimed meanwhile"
            server.thaw()
            await finish(pool, shops)
        await pool.close()
    assert grown < GROWTH


@pytest.mark.case(32)
async def test_a_server_that_takes_no_more_connections_costs_no_event(
    tmp_path: Path, vault: Vault
) -> None:
    async with cluster(tmp_path, vault) as server:
        pool = await connect_pool(server.dsn)
        async with full_hands(server.dsn, pool, vault, tmp_path) as (process, shops):
            others = await fill(server.dsn, pool)
            shops.answering.set()
            await true(lambda: "outcomes wait" in process.log)
            assert len(shops.arrivals) <= ANSWERED + 2 * SLOTS
            for connection in others:
                await connection.close()
            await finish(pool, shops)
        await pool.close()


async def fill(dsn: str, pool: asyncpg.Pool) -> list[asyncpg.Connection]:
    """Take every connection that the server gives, also those that others have."""
    cut = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where backend_type = 'client backend' and application_name like 'depositd %' "
        "and pid <> pg_backend_pid()"
    )
    taken: list[asyncpg.Connection] = []
    operator = await asyncpg.connect(dsn)
    for _ in range(3):
        await operator.execute(cut)
        try:
            while True:
                taken.append(await asyncpg.connect(dsn))
        except asyncpg.TooManyConnectionsError:
            pass
    return [operator, *taken]
