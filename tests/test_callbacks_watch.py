"""Transactions that stay open too long are told of, and deliveries that stay due."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import watch
from callbacks.metrics import OLDEST_SNAPSHOT_SECONDS
from indexer.secret import Vault
from tests import callback_rows as rows


async def looked(pool: asyncpg.Pool) -> list[int]:
    """The processes that were told of."""
    with capture_logs() as logs:
        await watch.look(pool)
    return [line["pid"] for line in logs if line["event"] == "old snapshot"]


@pytest.mark.case(40)
async def test_an_old_snapshot_raises_the_alarm_until_it_ends(
    dsn: str, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = await asyncpg.connect(dsn)
    await idle.execute("begin isolation level repeatable read; select count(*) from delivery")
    assert await looked(pool) == []
    monkeypatch.setattr(watch, "WARN_SECONDS", 0.0)
    assert await looked(pool) == [idle.get_server_pid()]
    assert OLDEST_SNAPSHOT_SECONDS._value.get() > 0
    await idle.close()
    assert await looked(pool) == []
    assert OLDEST_SNAPSHOT_SECONDS._value.get() == 0


async def late(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    with capture_logs() as logs:
        await watch.look(pool)
    lines = [line for line in logs if line["event"] == "deliveries late"]
    return [(line["endpoint"], line["seconds"]) for line in lines]


@pytest.mark.case(40)
async def test_a_delivery_that_stays_due_raises_the_alarm_unless_it_is_held(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    await pool.execute("update delivery set due_at = clock() - interval '59 s'")
    assert await late(pool) == []
    await pool.execute("update delivery set due_at = clock() - interval '90 s'")
    assert await late(pool) == [(name, 90)]
    await pool.execute("update endpoint set state = 'paused'")
    assert await late(pool) == []
    await pool.execute("update endpoint set state = 'active'")
    await pool.execute(
        "insert into endpoint_health (endpoint, open_until) values ($1, clock())", name
    )
    assert await late(pool) == []
