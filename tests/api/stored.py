"""A past of any size, written by the database itself, uneven where even rows would hide something.

Row n of a table is n seconds after BEGAN. Most of it is alice's and as usual; what a filter has to
dig for (a coin nobody pays with any more, a network that was left, what is held) is the oldest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from indexer import feed, ledger
from indexer.model import Event, State
from tests.api.world import CODEC

BEGAN: Final = datetime(2025, 1, 1, tzinfo=UTC)
OLD: Final = 200  # rows of each kind that only the oldest are of
POPULAR: Final = 7  # the number of the address that every fifth deposit pays
SHOP: Final = "shop"  # and its reference
ENDPOINT: Final = "ep_stored"  # alice's
PARTITIONS: Final = 12  # of finished deliveries
AT_ONCE: Final = 1_000_000  # rows of one statement
FILL_SECONDS: Final = 3_600.0

# Without a look at what each row refers to, which takes longer than the rows themselves.
_IN_HASTE: Final = """
    set statement_timeout = 0; set maintenance_work_mem = '256MB';
    set session_replication_role = replica
"""
_COINS: Final = """
    insert into coin (id, network, asset, name, symbol, decimals, covered_from) values
        ('usdt', 'ethereum', '\\x01', 'Tether', 'USDT', 6, 0),
        ('gone', 'ethereum', '\\x02', 'Gone', 'GON', 6, 0)
"""

# Two rows of three share their moment with another: a commit has many deposits.
_MOMENT: Final = "timestamptz '2025-01-01 00:00:00+00' + (n - n % 3) * interval '1 second'"

_DEPOSITS: Final = f"""
    insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, sender,
                         height, hash, time, reference, required, first_state, first_reason, state,
                         reason, previous, sequence, counts, created_at, updated_at)
    select 'dep_' || lpad(n::text, 26, '0'), account, one.network, sha256(n::text::bytea), address,
           c.asset, 0, c.id, n, '\\xee', n / 3, sha256((n / 3)::text::bytea), moment, reference, 12,
           (case when state in ('held', 'ignored') then state else 'detected' end)::deposit_state,
           reason::deposit_reason, state::deposit_state, reason::deposit_reason, null, 1,
           '{{1,0,0,0,0,0}}', moment, moment
      from generate_series($1::bigint, least($1 + $2 - 1, $3::bigint)) n
     cross join lateral (
        select {_MOMENT} as moment, case when n % 10 = 9 then 'bob' else 'alice' end as account,
               case when n <= {OLD} then 'polygon' when n % 4 = 0 then 'bsc' else 'ethereum' end
                   as network,
               case when n <= 2 * {OLD} then 'gone' when n % 2 = 0 then 'eth' else 'usdt' end
                   as coin,
               case when n <= {OLD} then 'held' when n <= 2 * {OLD} then 'rejected'
                    when n % 100 = 1 then 'ignored' when n % 100 = 2 then 'orphaned'
                    when n > $3 - {OLD} then 'confirmed' else 'finalized' end as state,
               case when n % 5 = 0 then {POPULAR} else 1000 + n / 20 end as number) as one
     cross join lateral (
        select decode(lpad(to_hex(number), 40, '0'), 'hex') as address,
               case when number = {POPULAR} then '{SHOP}' else 'user-' || number end as reference,
               case state when 'held' then 'coin_inactive' when 'ignored' then 'below_minimum' end
                   as reason) as two
      join (select id, asset from coin) c on c.id =
               case one.network when 'bsc' then 'bnb' when 'polygon' then 'pol' else coin end
"""  # noqa: S608

# An event for each of alice's deposits, and its delivery: the oldest are given up, the newest due.
_EVENTS: Final = f"""
    insert into event (id, account, position, deposit, sequence, type, body, created_at)
    select 'evt_' || lpad(n::text, 26, '0'), 'alice', n - n / 10, 'dep_' || lpad(n::text, 26, '0'),
           1, 'deposit.detected', $4, {_MOMENT}
      from generate_series($1::bigint, least($1 + $2 - 1, $3::bigint)) n where n % 10 <> 9
"""  # noqa: S608
_DELIVERIES: Final = f"""
    with made as (
        select n, 'evt_' || lpad(n::text, 26, '0') as event, 'dep_' || lpad(n::text, 26, '0')
                   as deposit, {_MOMENT} as moment
          from generate_series($1::bigint, least($1 + $2 - 1, $3::bigint)) n where n % 10 <> 9
    ), live as (
        insert into delivery (id, endpoint, event, deposit, sequence, due_at, created_at)
        overriding system value
        select n, '{ENDPOINT}', event, deposit, 1, moment, moment from made where n > $3 - $3 / 10
    )
    insert into delivery_done (id, endpoint, event, deposit, sequence, state, requests, attempts,
                               created_at, done_at)
    select n, '{ENDPOINT}', event, deposit, 1,
           (case when n <= {OLD} then 'exhausted' when n <= 2 * {OLD} then 'cancelled'
                 else 'delivered' end)::delivery_state, 1, 1, moment, moment
      from made where n <= $3 - $3 / 10
"""  # noqa: S608
_ADDRESSES: Final = f"""
    insert into watched_address (network, address, account, reference, state, covered_from,
                                 active_from, removed_from, changed_version, created_at)
    select case when n <= {OLD} then 'polygon' when n % 4 = 0 then 'bsc' else 'ethereum' end,
           decode(lpad(to_hex(1000 + n), 40, '0'), 'hex'),
           case when n % 10 = 9 then 'bob' else 'alice' end,
           case when n % 5 = 0 then '{SHOP}' else 'user-' || n end,
           (case when n > $3 - $3 / 10 then 'removed' else 'active' end)::watch_state, 1, 1,
           case when n > $3 - $3 / 10 then 2 end, 1, {_MOMENT}
      from generate_series($1::bigint, least($1 + $2 - 1, $3::bigint)) n
"""  # noqa: S608
_AUDIT: Final = f"""
    insert into audit (at, account, key_id, address, request_id, action, target, details)
    select {_MOMENT}, case when n % 10 = 9 then 'bob' else 'alice' end,
           case when n <= {OLD} then 'key_old' else 'key_' || n % 3 end, '127.0.0.1', n::text,
           'POST /v1/addresses', '/v1/addresses', '"{{}}"'
      from generate_series($1::bigint, least($1 + $2 - 1, $3::bigint)) n
"""  # noqa: S608
_ENDPOINT: Final = """
    with made as (
        insert into endpoint (id, account, url) values ($1, 'alice', 'https://8.8.8.8/hook')
        returning id
    )
    insert into endpoint_secret (endpoint, secret) select id, '' from made
"""


def moment(number: int) -> datetime:
    """When the row of this number was made."""
    return BEGAN + timedelta(seconds=number - number % 3)


def deposit_id(number: int) -> str:
    return f"dep_{number:026}"


async def fill(pool: asyncpg.Pool, deposits: int, others: int) -> None:
    """So many deposits, and so many rows of every other table that has a list."""
    async with pool.acquire() as connection:
        await connection.execute(_IN_HASTE)
        await connection.execute(_COINS)
        await connection.execute(_ENDPOINT, ENDPOINT)
        async with _without_indexes(connection, "deposit"):
            await _write(connection, _DEPOSITS, deposits)
        last = others - others // 10
        await connection.execute("update account set position = $1 where id = 'alice'", last)
        for part in range(PARTITIONS):
            first, end = (moment(others * at // PARTITIONS) for at in (part, part + 1))
            await connection.execute(
                f"create table delivery_done_{part} partition of delivery_done "
                f"for values from ('{first}') to ('{end}')"
            )
        await _write(connection, _EVENTS, others, await _body(connection))
        for rows in (_DELIVERIES, _ADDRESSES, _AUDIT):
            await _write(connection, rows, others)
        await connection.execute("analyze", timeout=FILL_SECONDS)


async def _body(connection: asyncpg.Connection) -> bytes:
    """Of the event of the first deposit; the others' say the same."""
    row = await connection.fetchrow("select * from deposit where id = $1", deposit_id(1))
    [coin] = (await ledger.coins(connection, row["network"], [row["asset"]])).values()
    event = Event(ledger.deposit_from(row), "evt_1", State(row["state"]), 1, moment(1))
    return feed.body(event, coin, CODEC)


async def _write(connection: asyncpg.Connection, rows: str, count: int, *more: object) -> None:
    for first in range(1, count + 1, AT_ONCE):
        await connection.execute(rows, first, AT_ONCE, count, *more, timeout=FILL_SECONDS)


@asynccontextmanager
async def _without_indexes(connection: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """They are made at once at the end, which is faster than row by row."""
    indexes = await connection.fetch(
        """
        select indexname as name, indexdef as definition from pg_indexes
         where tablename = $1 and indexname not in (select conname from pg_constraint)
        """,
        table,
    )
    for index in indexes:
        await connection.execute(f"drop index {index['name']}")
    yield
    for index in indexes:
        await connection.execute(index["definition"], timeout=FILL_SECONDS)
