"""The SQL of events: each takes the next position of its account's feed, and makes its deliveries.

`cursors` says in which order locks are taken: an account's row comes last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import asyncpg
import orjson

from indexer import totals
from indexer.chains import Codec
from indexer.database import parts
from indexer.model import Coin, Event, format_time, view


async def append(
    connection: asyncpg.Connection,
    events: Sequence[Event],
    coins_by_asset: Mapping[bytes, Coin],
    codec: Codec,
) -> None:
    """Give each event the next position of its account's feed, and make its deliveries.

    The totals follow here, where the locks on the accounts are held.
    """
    position = await take_positions(connection, Counter(e.deposit.account for e in events))
    await totals.add(connection, events)
    placed: list[tuple[int, Event]] = []
    for event in events:
        position[event.deposit.account] += 1
        placed.append((position[event.deposit.account], event))
    for some in parts(placed):
        await _insert(connection, some, coins_by_asset, codec)
        await connection.execute("select make_deliveries($1)", [e.id for _, e in some])


async def _insert(
    connection: asyncpg.Connection,
    placed: Sequence[tuple[int, Event]],
    coins_by_asset: Mapping[bytes, Coin],
    codec: Codec,
) -> None:
    events = [event for _, event in placed]
    await connection.execute(
        """
        insert into event (account, position, id, deposit, sequence, type, body, created_at)
        select * from unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::integer[],
                             $6::text[], $7::bytea[], $8::timestamptz[])
        """,
        [e.deposit.account for e in events],
        [position for position, _ in placed],
        [e.id for e in events],
        [e.deposit.id for e in events],
        [e.deposit.sequence for e in events],
        [e.type for e in events],
        [body(e, coins_by_asset[e.deposit.asset], codec) for e in events],
        [e.timestamp for e in events],
    )


async def take_positions(
    connection: asyncpg.Connection, wanted: Mapping[str, int]
) -> dict[str, int]:
    """For each account the position before the first of those taken."""
    accounts = sorted(wanted)
    await connection.execute(
        "select from account where id = any ($1) order by id for no key update", accounts
    )
    rows = await connection.fetch(
        """
        update account a set position = a.position + t.n
          from unnest($1::text[], $2::integer[]) as t(id, n) where a.id = t.id
        returning a.id, a.position - t.n as before
        """,
        accounts,
        [wanted[a] for a in accounts],
    )
    return {row["id"]: row["before"] for row in rows}


def body(event: Event, coin: Coin, codec: Codec) -> bytes:
    """The exact bytes that every attempt of this event sends."""
    return orjson.dumps(
        {
            "type": event.type,
            "timestamp": format_time(event.timestamp),
            "data": view(event.deposit, coin, codec, event.confirmations),
        }
    )
