"""The attempt log and the finished deliveries, in partitions: whatever is missing, nothing is
acknowledged without its rows."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import partitions
from callbacks.partitions import ATTEMPTS, DONE, Log
from indexer.database import unavailable_database
from indexer.model import Unavailable
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import dispatching, hurried, settled, until
from tests.harness.receiver import Receiver, receiver

TABLES = [pytest.param(each, id=each.table) for each in (ATTEMPTS, DONE)]


async def names(pool: asyncpg.Pool, log: Log) -> list[str]:
    """Of a table's partitions, without the default one."""
    found = await pool.fetch(
        "select inhrelid::regclass::text as name from pg_inherits "
        "where inhparent = $1::text::regclass order by 1",
        log.table,
    )
    return [row["name"] for row in found if not row["name"].endswith("_default")]


def of(log: Log, day: date) -> str:
    """The name of the partition of a day."""
    [start] = log.starts(day, day)
    return log.name(start)


async def put(pool: asyncpg.Pool, log: Log, moment: datetime) -> None:
    """A row of that time."""
    if log is ATTEMPTS:
        await pool.execute(
            "insert into attempt (delivery, number, at, charged, total_ms) "
            "values (1, 1, $1, true, 1)",
            moment,
        )
    else:
        await pool.execute(
            "insert into delivery_done (id, endpoint, event, state, requests, attempts, "
            "created_at, done_at) values (1, 'ep', 'evt', 'delivered', 1, 1, $1, $1)",
            moment,
        )


async def places(pool: asyncpg.Pool, log: Log) -> list[str]:
    """Where each row of a table stands."""
    found = await pool.fetch(f"select tableoid::regclass::text as place from {log.table}")  # noqa: S608
    return [row["place"] for row in found]


@pytest.mark.parametrize("log", TABLES)
async def test_partitions_are_made_ahead_of_their_time(pool: asyncpg.Pool, log: Log) -> None:
    await partitions.keep(pool)
    made = await names(pool, log)
    today = datetime.now(UTC).date()
    last = today + timedelta(partitions.AHEAD_DAYS)
    assert len(made) in range(partitions.AHEAD_DAYS // log.days, partitions.AHEAD_DAYS + 2)
    day = today
    while day <= last:
        moment = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)
        await put(pool, log, moment)
        day += timedelta(1)
    assert set(await places(pool, log)) == set(made)
    await partitions.keep(pool)
    assert await names(pool, log) == made


def test_a_week_begins_on_monday_and_contains_its_day() -> None:
    for number in range(20):
        today = date(2026, 12, 25) + timedelta(number)
        [first, second] = DONE.starts(today, today + timedelta(DONE.days))
        assert (first.weekday(), second.weekday()) == (0, 0)
        assert first <= today < second
        assert [*ATTEMPTS.starts(today, today)] == [today]


@pytest.mark.parametrize("log", TABLES)
async def test_what_found_no_partition_moves_when_it_is_made(pool: asyncpg.Pool, log: Log) -> None:
    now = datetime.now(UTC)
    times = [now, now - timedelta(log.days * 3), now - timedelta(log.kept_days + 3 * log.days)]
    for moment in times:
        await put(pool, log, moment)
    assert await places(pool, log) == [f"{log.table}_default"] * 3
    await partitions.keep(pool)
    expected = [of(log, moment.date()) for moment in times[:2]]  # the third is too old to be kept
    assert sorted(await places(pool, log)) == sorted(expected)


@pytest.mark.parametrize("log", TABLES)
async def test_what_is_old_is_dropped_and_no_sooner(
    pool: asyncpg.Pool, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    for days in (0, log.kept_days - 1, log.kept_days + 2 * log.days):
        start = now.date() - timedelta(days)
        [start] = log.starts(start, start)
        await partitions._make(pool, log, start)
        await put(pool, log, datetime(start.year, start.month, start.day, tzinfo=UTC))
    before = await names(pool, log)
    await partitions.keep(pool)
    kept = await names(pool, log)
    assert before[0] not in kept
    assert kept[:2] == before[1:]
    assert len(await places(pool, log)) == 2


async def test_several_processes_at_it_hurt_nothing(pool: asyncpg.Pool) -> None:
    await asyncio.gather(*(partitions.keep(pool) for _ in range(4)))
    await partitions.keep(pool)
    assert len(await names(pool, ATTEMPTS)) == partitions.AHEAD_DAYS + 1


async def test_a_lock_is_not_waited_for(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers would queue behind us."""
    monkeypatch.setattr(partitions, "LOCK_MILLISECONDS", 50)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("select from attempt")
        with pytest.raises(Unavailable), unavailable_database():
            async with asyncio.timeout(5):
                await partitions.keep(pool)
    await partitions.keep(pool)
    assert len(await names(pool, ATTEMPTS)) == partitions.AHEAD_DAYS + 1


async def test_who_writes_while_a_partition_is_made_is_not_refused(pool: asyncpg.Pool) -> None:
    """His statement looks up the partitions before it has anything to write."""
    writing = asyncio.create_task(
        pool.execute(
            "insert into attempt (delivery, number, at, charged, total_ms) "
            "select 1, 1, clock(), true, 1 from (select pg_sleep(0.4)) slept"
        )
    )
    await asyncio.sleep(0.1)
    await partitions.keep(pool)
    await writing
    assert await places(pool, ATTEMPTS) == [of(ATTEMPTS, datetime.now(UTC).date())]


# ---------------------------------------------------------------------------- deliveries go on


async def told(pool: asyncpg.Pool, vault: Vault, shop: Receiver, deposits: int) -> None:
    await rows.world(pool)
    _, secret = await rows.endpoint(pool, vault, shop.url)
    shop.secrets.append(secret)
    for number in range(deposits):
        await rows.history(pool, number, 1)


async def acknowledged(pool: asyncpg.Pool) -> list[Any]:
    """Finished deliveries, each with the number of its attempt rows."""
    return list(
        await pool.fetch(
            "select d.id, d.state::text, "
            "(select count(*) from attempt a where a.delivery = d.id) as n "
            "from delivery_done d order by d.id"
        )
    )


@pytest.mark.case(42)
async def test_without_a_partition_of_its_day_an_attempt_is_kept_all_the_same(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with receiver() as shop:
        await told(pool, vault, shop, 5)
        async with dispatching(pool, vault):
            await settled(pool)
    assert [(row["state"], row["n"]) for row in await acknowledged(pool)] == [("delivered", 1)] * 5
    assert set(await places(pool, ATTEMPTS)) == {"attempt_default"}
    assert set(await places(pool, DONE)) == {"delivery_done_default"}


@pytest.mark.case(42)
async def test_where_an_attempt_finds_no_place_at_all_the_dispatcher_stops_loudly(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await pool.execute("drop table attempt_default")
    async with receiver() as shop:
        await told(pool, vault, shop, 1)
        with pytest.raises(ExceptionGroup) as stopped:
            async with dispatching(pool, vault), asyncio.timeout(20):
                await asyncio.Event().wait()
    assert stopped.group_contains(asyncpg.CheckViolationError)
    assert await acknowledged(pool) == []
    assert await pool.fetchval("select count(*) from delivery") == 1


@pytest.mark.case(42)
@pytest.mark.parametrize("table", ["attempt_default", "delivery_done_default"])
async def test_a_full_disk_acknowledges_nothing_and_loses_nothing(
    pool: asyncpg.Pool, vault: Vault, table: str
) -> None:
    await pool.execute(
        f"""
        create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'No space left on device' using errcode = '53100'; end $$;
        create trigger full_disk before insert on {table}
            for each row execute function full_disk()
        """
    )

    async def complained() -> bool:
        return any(line["event"] == "outcomes wait" for line in logs)

    async with receiver() as shop:
        await told(pool, vault, shop, 5)
        with capture_logs() as logs:
            async with dispatching(pool, vault):
                await until(complained)
                assert await acknowledged(pool) == []
                assert await pool.fetchval("select count(*) from delivery") == 5
                await pool.execute(f"drop trigger full_disk on {table}")
                await settled(pool)
    assert [(row["state"], row["n"]) for row in await acknowledged(pool)] == [("delivered", 1)] * 5
    assert len(shop.requests) == 5


@pytest.mark.case(42)
async def test_partitions_are_made_and_dropped_while_deliveries_are_settled(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with receiver(fail=0.3, seed=42) as shop:
        await told(pool, vault, shop, 60)
        async with dispatching(pool, vault, count=2), hurried(pool):
            for days in range(200, 190, -1):
                start = datetime.now(UTC).date() - timedelta(days)
                await partitions._make(pool, ATTEMPTS, start)
                await partitions.keep(pool)
            await settled(pool)
    finished = await acknowledged(pool)
    assert len(finished) == 60
    assert sum(row["n"] for row in finished) == len(shop.requests)
    assert await names(pool, ATTEMPTS) == sorted(
        ATTEMPTS.name(datetime.now(UTC).date() + timedelta(days))
        for days in range(partitions.AHEAD_DAYS + 1)
    )
