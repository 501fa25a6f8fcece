"""Transactions that stay open too long are told of."""

from __future__ import annotations

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import watch
from callbacks.metrics import OLDEST_SNAPSHOT_SECONDS


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
