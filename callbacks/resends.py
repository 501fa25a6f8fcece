"""Sending again: one delivery, or a range of an endpoint's past.

A range is a row of `resend`: the oldest of an endpoint's is fed into the deliveries step by step,
in the order of the feed, at a fifth of the endpoint's rate and only while what went before is being
sent. Each step and its progress are one transaction, so that no event is left out or sent twice
whatever is killed. An event that was delivered before comes back as the same delivery, one that was
not gets a new one; its id and bytes are the event's either way.

Locks: the endpoint (shared), the resend, finished deliveries by id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import structlog

from indexer import bell
from indexer.model import Refused, format_time

MAX_DAYS: Final = 30  # that a range reaches back
MAX_EVENTS: Final = 1_000_000  # of one range
MAX_OPEN: Final = 10  # ranges of one endpoint that wait or are being sent
RATE_SHARE: Final = 0.2  # of the endpoint's rate
STEP_SECONDS: Final = 5.0  # of deliveries that are made at once
MAX_STEP: Final = 1_000  # deliveries made at once
MAX_SCAN: Final = 20_000  # positions of the feed that one step looks at
FULL_SECONDS: Final = 1.0  # until it is looked again whether a receiver took what it was sent
READY: Final = 100  # resends that one round feeds

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Range:
    """Which events to send again: those that happened in it, as the endpoint's filters are now.

    `states`: only those whose delivery ended so; None: also those that never had one, such as
    what happened before there was the endpoint. What is pending is being sent anyway.
    """

    since: datetime
    until: datetime
    states: Sequence[str] | None


_BOUNDS: Final = "select clock() as now, clock() - make_interval(days => $1) as earliest"

_WANTED: Final = """
      from endpoint e
      join event v on v.account = e.account
      join deposit d on d.id = v.deposit and not d.silent
      join coin c on c.id = d.coin
      left join delivery_done f on f.event = v.id and f.endpoint = e.id
     where e.id = $1 and v.created_at >= $2 and v.created_at < $3
       and ($4::text[] is null or f.state::text = any ($4))
       and asks_for(e, v.type, d, c)
       and not exists (
           select from delivery l where l.event = any (array[v.id]) and l.endpoint = e.id)
"""
_COUNT: Final = f"""
    select count(*) as count, min(position) as first, max(position) as last
      from (select v.position {_WANTED} limit $5) wanted
"""  # noqa: S608
_STEP: Final = f"""
    select v.id, v.position {_WANTED} and v.position > $5 and v.position <= $6
     order by v.position limit $7
"""
_OPENED: Final = "select count(*) from resend where endpoint = $1"
_OPEN: Final = """
    insert into resend (endpoint, since, until, states, next, last, count)
    values ($1, $2, $3, $4, $5, $6, $7)
"""


async def bounded(
    connection: asyncpg.Connection,
    since: datetime,
    until: datetime | None,
    states: Sequence[str] | None,
) -> Range:
    """The range by the database's clock; Refused where it is empty or reaches back too far."""
    now, earliest = await connection.fetchrow(_BOUNDS, MAX_DAYS)
    if since < earliest:
        raise Refused(
            f"events of the last {MAX_DAYS} days can be sent again: since {format_time(earliest)}"
        )
    end = now if until is None else min(until, now)
    if since >= end:
        raise Refused("the range is empty: since must be before until and before now")
    return Range(since, end, states)


async def count(connection: asyncpg.Connection, endpoint: str, wanted: Range) -> int:
    """How many events the range has by now; Refused if they are too many."""
    return int((await _survey(connection, endpoint, wanted))["count"])


async def begin(connection: asyncpg.Connection, endpoint: str, wanted: Range) -> int:
    """Have the range sent again; returns how many events it has by now.

    Needs a transaction. Refused if they are too many, or too many ranges are open.
    """
    # Its lock keeps others from opening one meanwhile.
    await connection.execute("select from endpoint where id = $1 for no key update", endpoint)
    if await connection.fetchval(_OPENED, endpoint) >= MAX_OPEN:
        raise Refused(f"{MAX_OPEN} resends of this endpoint are not done yet")
    found = await _survey(connection, endpoint, wanted)
    if found["count"]:
        await connection.execute(
            _OPEN,
            endpoint,
            wanted.since,
            wanted.until,
            wanted.states,
            found["first"] - 1,
            found["last"],
            found["count"],
        )
    return int(found["count"])


async def _survey(connection: asyncpg.Connection, endpoint: str, wanted: Range) -> Any:
    found = await connection.fetchrow(
        _COUNT, endpoint, wanted.since, wanted.until, wanted.states, MAX_EVENTS + 1
    )
    if found["count"] > MAX_EVENTS:
        raise Refused(f"the range has more than {MAX_EVENTS} events: choose a shorter one")
    return found


# A delivery that somebody else brings back at the same time is his: it was not without one.
_AGAIN: Final = """
    with asked as (
        select v.id as event, v.deposit, v.sequence, place - 1 as place
          from unnest($2::text[]) with ordinality as t (name, place) join event v on v.id = t.name
    ), known as materialized (
        select f.id, f.done_at from delivery_done f join asked on asked.event = f.event
         where f.endpoint = $1 order by f.id for update of f
    ), back as (
        delete from delivery_done f using known
         where f.id = known.id and f.done_at = known.done_at
        returning f.*
    ), made as (
        insert into delivery (id, endpoint, event, deposit, sequence, requests, last_error,
                              last_status, created_at, resent, due_at)
        overriding system value
        select coalesce(back.id, nextval(pg_get_serial_sequence('delivery', 'id'))), $1, event,
               asked.deposit, asked.sequence, coalesce(back.requests, 0), back.last_error,
               back.last_status, coalesce(back.created_at, clock()), true,
               clock() + make_interval(secs => asked.place * $3::float8)
          from asked left join back using (event)
         where back.id is not null
            or not exists (select from delivery_done f
                            where f.event = asked.event and f.endpoint = $1)
            on conflict do nothing
        returning id
    )
    select count(*) from made
"""


_NOW: Final = """
    update delivery set due_at = clock()
     where id = $1 and lease_token is null and due_at > clock()
    returning endpoint
"""


async def send_again(
    connection: asyncpg.Connection, endpoint: str, events: Sequence[str], apart: float = 0.0
) -> int:
    """Make finished deliveries of events pending again, and new ones where there were none.

    They are due `apart` seconds after each other. Returns how many there are; those that live
    already are not among them. Needs a transaction that has locked the endpoint.
    """
    made = await connection.fetchval(_AGAIN, endpoint, events, apart)
    await bell.ring(connection, [endpoint])
    return int(made)


async def send_now(connection: asyncpg.Connection, delivery: int) -> None:
    """Have a live delivery attempted now, unless it is being attempted."""
    rows = await connection.fetch(_NOW, delivery)
    await bell.ring(connection, [row["endpoint"] for row in rows])


async def cancel(connection: asyncpg.Connection, endpoint: str, resend: int) -> bool:
    """Forget a range; what is on its way stays so. False if it is not there (any more)."""
    tag: str = await connection.execute(
        "delete from resend where endpoint = $1 and id = $2", endpoint, resend
    )
    return tag == "DELETE 1"


_READY: Final = """
    select r.id, r.endpoint
      from resend r join endpoint e on e.id = r.endpoint and e.state = 'active'
     where r.next_at <= (select clock())
       and not exists (select from resend older
                        where older.endpoint = r.endpoint and older.id < r.id)
     order by r.next_at limit $1
"""


async def feed(pool: asyncpg.Pool) -> int:
    """Put the next deliveries of the open ranges on their way; returns how many."""
    made = 0
    for row in await pool.fetch(_READY, READY):
        async with pool.acquire() as connection, connection.transaction():
            made += await _step(connection, row["id"], row["endpoint"])
    return made


_RATE: Final = "select rate_limit from endpoint where id = $1 and state = 'active' for key share"
_TAKE: Final = "select * from resend where id = $1 and next_at <= clock() for update skip locked"
# Not tried yet: a receiver that is down, or slower than its rate, is not sent more to.
_WAITING: Final = """
    select count(*) from (select from delivery
                           where endpoint = $1 and resent and attempts = 0 limit $2) waiting
"""
_ADVANCE: Final = """
    update resend set next = $2, next_at = clock() + make_interval(secs => $3) where id = $1
"""


async def _step(connection: asyncpg.Connection, resend: int, endpoint: str) -> int:
    rate = await connection.fetchval(_RATE, endpoint)
    row = None if rate is None else await connection.fetchrow(_TAKE, resend)
    if row is None:
        return 0  # it is another's, or the endpoint is held or gone
    if row["next"] >= row["last"]:
        await connection.execute("delete from resend where id = $1", resend)
        log.info("resend done", endpoint=endpoint, events=row["count"])
        return 0
    pace = rate * RATE_SHARE
    step = min(max(1, int(pace * STEP_SECONDS)), MAX_STEP)
    room = step - await connection.fetchval(_WAITING, endpoint, step)
    if not room:
        await connection.execute(_ADVANCE, resend, row["next"], FULL_SECONDS)
        return 0
    end = min(row["last"], row["next"] + MAX_SCAN)
    found = await connection.fetch(
        _STEP, endpoint, row["since"], row["until"], row["states"], row["next"], end, room
    )
    made = await send_again(connection, endpoint, [each["id"] for each in found], 1 / pace)
    reached = found[-1]["position"] if len(found) == room else end
    await connection.execute(_ADVANCE, resend, reached, made / pace)
    return made
