"""What dispatchers do beside sending: each job at its pace, whatever fails, until they are told."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import upkeep
from callbacks.upkeep import Job
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import until


async def test_a_job_that_fails_is_done_again_and_holds_up_no_other(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = {"fails": 0, "works": 0}

    async def fails(_: asyncpg.Pool) -> None:
        rounds["fails"] += 1
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    async def works(_: asyncpg.Pool) -> None:
        rounds["works"] += 1

    async def enough() -> bool:
        return min(rounds.values()) >= 3

    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.01)
    jobs = (Job("fails", fails, 3600.0), Job("works", works, 0.01))
    stop = asyncio.Event()
    with capture_logs() as logs:
        running = asyncio.create_task(upkeep.run(pool, stop, jobs))
        await until(enough)
        stop.set()
        await asyncio.wait_for(running, 5)
    assert {(line["event"], line["job"]) for line in logs} == {("upkeep waits", "fails")}


async def test_what_must_not_be_stops_it_loudly(pool: asyncpg.Pool) -> None:
    await pool.execute("alter table endpoint rename to elsewhere")
    with pytest.raises(ExceptionGroup) as stopped:
        await asyncio.wait_for(upkeep.run(pool, asyncio.Event()), 10)
    assert stopped.group_contains(asyncpg.UndefinedTableError)


async def test_every_job_is_done(pool: asyncpg.Pool, vault: Vault) -> None:
    """What each of them leaves behind; how is for their own tests."""
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in", heartbeat_seconds=60)
    await rows.history(pool, 1, 2)
    await pool.execute("select end_deliveries(array(select id from delivery), 'delivered', null)")
    await pool.execute("update endpoint set heartbeat_at = clock()")
    await pool.execute(
        "update event set created_at = clock() - interval '91 days' where position = 1"
    )
    await pool.execute(
        "insert into resend (endpoint, since, until, next, last, count) "
        "values ($1, '-infinity', 'infinity', 1, 2, 1)",
        name,
    )

    async def done() -> bool:
        found = await pool.fetchrow(
            """
            select to_regclass('attempt_' || to_char(clock(), 'YYYYMMDD')) is not null as made,
                   (select count(*) from event where position = 1) as old,
                   (select count(*) from event where type = 'endpoint.heartbeat') as beats,
                   (select count(*) from delivery where resent) as resent
            """
        )
        return tuple(found) == (True, 0, 1, 1)

    stop = asyncio.Event()
    running = asyncio.create_task(upkeep.run(pool, stop))
    await until(done, 10)
    stop.set()
    await asyncio.wait_for(running, 5)
