"""Rows for thousands of callbacks, a statement for many: the same as callback_rows makes singly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from callbacks import signing
from indexer.model import make_id
from indexer.secret import Vault
from tests.callback_rows import COIN, NETWORK, Connection

RATE: Final = 1000.0  # the most an endpoint may have a second: nothing here is held up by it
PADDING: Final = 500  # bytes, which make a body as long as a real one


async def world(connection: Connection, accounts: Sequence[str]) -> None:
    """Accounts, and what their deposits stand on."""
    await connection.execute(
        "insert into account (id, name) select id, id from unnest($1::text[]) a (id)", accounts
    )
    await connection.execute("insert into network (id, family) values ($1, 'evm')", NETWORK)
    await connection.execute(
        "insert into coin (id, network, asset, name, symbol, decimals, covered_from) "
        "values ($1, $2, '', 'Coin', 'COI', 18, 0)",
        COIN,
        NETWORK,
    )


async def endpoints(
    connection: Connection,
    vault: Vault,
    urls: Mapping[str, str],
    *,
    rate: float = RATE,
    concurrency: int = 8,
) -> dict[str, str]:
    """An endpoint for each account at its URL; the secrets by account."""
    made = {account: signing.new_secret() for account in urls}
    await connection.execute(
        "insert into endpoint (id, account, url, rate_limit, concurrency) "
        "select id, account, url, $4, $5 "
        "from unnest($1::text[], $2::text[], $3::text[]) e (id, account, url)",
        [endpoint_of(account) for account in urls],
        list(urls),
        list(urls.values()),
        rate,
        concurrency,
    )
    await connection.execute(
        "insert into endpoint_secret (endpoint, secret) "
        "select * from unnest($1::text[], $2::bytea[])",
        [endpoint_of(account) for account in made],
        [
            vault.encrypt(signing.decode_secret(secret), endpoint_of(account))
            for account, secret in made.items()
        ],
    )
    return made


def endpoint_of(account: str) -> str:
    return make_id("ep_", account)


async def deposits(connection: Connection, accounts: Sequence[str], first: int) -> list[str]:
    """The ids of new deposits, one for each of these accounts; `first` keeps calls apart."""
    numbers = range(first, first + len(accounts))
    ids = [make_id("dep_", account, str(n)) for account, n in zip(accounts, numbers, strict=True)]
    await connection.execute(
        """
        insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, height,
                             hash, time, required, first_state, state, sequence, counts)
        select id, account, $4, decode(lpad(to_hex(n), 64, '0'), 'hex'), '\\x01', '', 0, $5, 1, 1,
               decode(repeat('00', 32), 'hex'), clock(), 1, 'detected', 'detected', 1,
               '{0,0,0,0,0,0}'
          from unnest($1::text[], $2::text[], $3::bigint[]) d (id, account, n)
        """,
        ids,
        accounts,
        numbers,
        NETWORK,
        COIN,
    )
    return ids


_EVENTS: Final = """
    with given as (
        select d.account, g.id, d.id as deposit, g.sequence,
               row_number() over (partition by d.account order by g.nth) as nth
          from unnest($1::text[], $2::text[], $3::integer[]) with ordinality
                 as g (id, deposit, sequence, nth)
          join deposit d on d.id = g.deposit
    ), counted as (
        select account, count(*) as events from given group by account
    ), place as (
        update account a set position = a.position + counted.events
          from counted where a.id = counted.account
        returning a.id as account, a.position - counted.events as before
    )
    insert into event (account, position, id, deposit, sequence, type, body, created_at)
    select account, before + nth, id, deposit, sequence, 'deposit.detected',
           convert_to(json_build_object(
               'type', 'deposit.detected', 'padding', repeat('x', $4),
               'data', json_build_object('id', deposit, 'sequence', sequence))::text, 'UTF8'),
           clock()
      from given join place using (account)
"""


async def events(pool: asyncpg.Pool, which: Sequence[tuple[str, int]]) -> list[str]:
    """The ids of new events by deposit and sequence; with their deliveries, in one transaction."""
    ids = [make_id("evt_", deposit, str(sequence)) for deposit, sequence in which]
    deposits, sequences = [deposit for deposit, _ in which], [number for _, number in which]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_EVENTS, ids, deposits, sequences, PADDING)
        await connection.execute("select make_deliveries($1)", ids)
    return ids
