"""What attempts tell of their endpoints, into the database: breakers, pauses, warnings, disabling.

One transaction for the reports of several endpoints. Locks: the endpoints, by id, then their
health; deliveries only when that is committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import asyncpg
import structlog

from callbacks import endpoints, news
from callbacks.health import End, Health, Notice, Report
from callbacks.metrics import NOTICES
from callbacks.news import News
from callbacks.statements import connected
from indexer import bell
from indexer.database import unavailable_database
from indexer.model import format_time

# Why an endpoint is disabled.
REASONS: Final = {End.GONE: "gone", End.UNWANTED: "unwanted"}
FAILING: Final = "failing"

log = structlog.get_logger()


@dataclass(slots=True)
class Checkup:
    """An endpoint whose attempts are looked at."""

    endpoint: str
    account: str | None
    concurrency: int
    health: Health
    known: bool  # whether it has a row of health
    told: list[tuple[Notice, dict[str, Any]]] = field(default_factory=list)
    disabled: str | None = None  # the reason, where this is what disables it
    closing: bool = False  # its breaker: what waits is worth trying at once
    stopped: bool = False  # what waits for it in this process must be given back

    def take(self, report: Report, now: datetime) -> None:
        if self.disabled is not None:
            return  # was under way: it changes nothing any more
        was_open = self.health.open_until is not None
        since, failures = self.health.failing_since, self.health.failures
        notice = self.health.take(report, now, self.concurrency)
        self.closing |= was_open and self.health.open_until is None
        if notice is None:
            return
        if notice is Notice.DISABLED:
            self.disabled = REASONS.get(report.end, FAILING)
        if notice is not Notice.RECOVERED:
            since, failures = self.health.failing_since, self.health.failures
        self.told.append((notice, self._news(report, since, failures)))

    def _news(self, report: Report, since: datetime | None, failures: int) -> dict[str, Any]:
        """Nothing of its URL, which may hold a secret."""
        return {
            "endpoint": self.endpoint,
            "account": self.account,
            "reason": self.disabled,
            "failures": failures,
            "failingSince": None if since is None else format_time(since),
            "error": report.answer.error,
            "status": report.answer.status,
        }


# Another lock than that of a new delivery, which shares the endpoint with it. What is held was
# under way when it came to be: it says nothing.
_LOCK: Final = """
    select id, account, concurrency, clock() as now from endpoint
     where id = any ($1) and state = 'active' order by id for no key update
"""
# A statement of its own: it sees what others wrote while the first one waited for them.
_HEALTH: Final = "select * from endpoint_health where endpoint = any ($1) for update"
_COLUMNS: Final = tuple(each.name for each in fields(Health))
_STORE: Final = f"""
    insert into endpoint_health (endpoint, {", ".join(_COLUMNS)})
    select * from unnest($1::text[], $2::integer[], $3::integer[], $4::timestamptz[],
                         $5::timestamptz[], $6::integer[], $7::text[], $8::smallint[],
                         $9::timestamptz[], $10::smallint[])
        on conflict (endpoint) do update
       set ({", ".join(_COLUMNS)}) = row ({", ".join(f"excluded.{name}" for name in _COLUMNS)})
"""  # noqa: S608
_DISABLE: Final = """
    update endpoint e set state = 'disabled', state_reason = t.reason, state_since = clock()
      from unnest($1::text[], $2::text[]) as t (id, reason) where e.id = t.id
"""
# To all endpoints of the operator but the one that it is about.
_TELL: Final = """
    insert into delivery (endpoint, event)
    select e.id, t.event
      from unnest($1::text[], $2::text[], $3::text[]) as t (event, type, about)
      join endpoint e on e.account is null and e.id <> t.about
                     and (e.events is null or matches(e.events, t.type))
       for key share of e
    returning endpoint
"""


async def record(pool: asyncpg.Pool, reports: Iterable[Report]) -> list[Checkup]:
    """Take reports, each endpoint's in the order of its attempts; those that are deleted or held
    are left out. Raises Unavailable.
    """
    by_endpoint: defaultdict[str, list[Report]] = defaultdict(list)
    for report in reports:
        by_endpoint[report.endpoint].append(report)
    with unavailable_database():
        async with connected(pool) as connection, connection.transaction():
            rows = await connection.fetch(_LOCK, list(by_endpoint))
            stored = await connection.fetch(_HEALTH, [row["id"] for row in rows])
            known = {row["endpoint"]: row for row in stored}
            found = [_checkup(row, known.get(row["id"])) for row in rows]
            for each, row in zip(found, rows, strict=True):
                for report in by_endpoint[each.endpoint]:
                    each.take(report, row["now"])
                each.stopped = each.disabled is not None or each.health.stopped(row["now"])
            await _store(connection, found)
            if any(each.told for each in found):
                await _tell(connection, found, rows[0]["now"])
        for each in found:
            if each.closing:
                await endpoints.hurry(pool, each.endpoint)
    return found


def _checkup(row: Any, stored: Any) -> Checkup:
    health = Health() if stored is None else Health(*(stored[name] for name in _COLUMNS))
    return Checkup(row["id"], row["account"], row["concurrency"], health, stored is not None)


async def _store(connection: asyncpg.Connection, found: Collection[Checkup]) -> None:
    well = [each.endpoint for each in found if each.known and each.health.well]
    if well:
        await connection.execute("delete from endpoint_health where endpoint = any ($1)", well)
    ill = [each for each in found if not each.health.well]
    if ill:
        columns = ([getattr(each.health, name) for each in ill] for name in _COLUMNS)
        await connection.execute(_STORE, [each.endpoint for each in ill], *columns)
    disabled = [each for each in found if each.disabled is not None]
    if disabled:
        names, reasons = zip(*((each.endpoint, each.disabled) for each in disabled), strict=True)
        await connection.execute(_DISABLE, names, reasons)


async def _tell(connection: asyncpg.Connection, found: Sequence[Checkup], now: datetime) -> None:
    """The operator: by the log, and by his own endpoints."""
    about, told = [], []
    for each in found:
        for notice, data in each.told:
            write = log.info if notice is Notice.RECOVERED else log.warning
            write(notice.value.replace(".", " "), **data)
            NOTICES.labels(notice.value).inc()
            about.append(each.endpoint)
            told.append(News.of(None, notice.value, now, data))
    await news.store(connection, told)
    ids, types = [each.id for each in told], [each.type for each in told]
    made = await connection.fetch(_TELL, ids, types, about)
    await bell.ring(connection, [row["endpoint"] for row in made])
