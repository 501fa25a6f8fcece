"""Partitions of the attempt log and of finished deliveries: made ahead, dropped when they are old.

What finds no partition of its time goes to the default one, so that a delivery is never
acknowledged without its row, and moves when its partition is made. Locks are waited for a moment
only: writers queue behind whoever waits for one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg
import structlog

AHEAD_DAYS: Final = 14
LOCK_MILLISECONDS: Final = 2_000
PARTITIONS_LOCK: Final = 0x70617274  # advisory, of one transaction: "part"
EPOCH: Final = date(1970, 1, 5)  # a Monday: so weeks begin then

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Log:
    """A table in partitions; `time` is the column that decides where a row goes."""

    table: str
    time: str
    days: int  # of one partition
    kept_days: int

    def name(self, start: date) -> str:
        return f"{self.table}_{start:%Y%m%d}"

    def starts(self, first: date, last: date) -> Iterator[date]:
        """Of the partitions that hold two days and those between them."""
        start = first - timedelta((first - EPOCH).days % self.days)
        while start <= last:
            yield start
            start += timedelta(self.days)

    def is_old(self, partition: str, now: datetime) -> bool:
        """Whether nothing in a partition is kept any more."""
        match = re.fullmatch(rf"{self.table}_(\d{{8}})", partition)
        if match is None:
            return False  # the default one
        start = datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC)
        return start + timedelta(self.days + self.kept_days) <= now


ATTEMPTS: Final = Log("attempt", "at", days=1, kept_days=30)
DONE: Final = Log("delivery_done", "done_at", days=7, kept_days=90)


async def keep(pool: asyncpg.Pool) -> None:
    """Make what is missing, drop what is old, of both tables.

    Raises what the database refuses it with; whatever was done until then stays done.
    """
    for each in (ATTEMPTS, DONE):
        now = await pool.fetchval("select clock()")
        first = await _first_day(pool, each, now)
        for start in each.starts(first, now.date() + timedelta(AHEAD_DAYS)):
            await _make(pool, each, start)
        for partition in await _partitions(pool, each):
            if each.is_old(partition, now):
                await _drop(pool, partition)


async def _first_day(pool: asyncpg.Pool, each: Log, now: datetime) -> date:
    """Today, or the earlier day of which the default partition, empty as a rule, has rows."""
    oldest = await pool.fetchval(f"select min({each.time}) from {each.table}_default")  # noqa: S608
    return now.date() if oldest is None else min(now, oldest).date()


async def _partitions(pool: asyncpg.Pool, each: Log) -> list[str]:
    rows = await pool.fetch(
        """
        select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = $1::text::regclass order by c.relname
        """,
        each.table,
    )
    return [row["name"] for row in rows]


async def _make(pool: asyncpg.Pool, each: Log, start: date) -> None:
    """Move there what has gone to the default one, and attach it.

    Writers wait meanwhile: one that has chosen the default partition already would be refused.
    """
    name, default = each.name(start), f"{each.table}_default"
    first, end = f"'{start} 00:00+00'", f"'{start + timedelta(each.days)} 00:00+00'"
    async with pool.acquire() as connection, connection.transaction():
        if not await _alone(connection):
            return
        if await connection.fetchval("select to_regclass($1) is not null", name):
            return
        await connection.execute(f"""
            create table {name} (like {each.table});
            lock table {each.table} in share row exclusive mode;
            with moved as (
                delete from {default} where {each.time} >= {first} and {each.time} < {end}
                returning *
            ) insert into {name} select * from moved;
            alter table {each.table} attach partition {name} for values from ({first}) to ({end})
        """)  # noqa: S608
    log.info("partition made", partition=name)


async def _drop(pool: asyncpg.Pool, partition: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        if await _alone(connection):
            await connection.execute(f"drop table if exists {partition}")
            log.info("partition dropped", partition=partition)


async def _alone(connection: asyncpg.Connection) -> bool:
    """Whether no other process is at it, until the transaction ends."""
    await connection.execute(f"set local lock_timeout = {LOCK_MILLISECONDS}")
    taken: bool = await connection.fetchval("select pg_try_advisory_xact_lock($1)", PARTITIONS_LOCK)
    return taken
