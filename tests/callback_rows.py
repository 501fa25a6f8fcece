"""Rows for the callbacks' tests, by plain SQL: an account, endpoints, deposits and their events."""

from __future__ import annotations

import json
from typing import Any, TypeAlias, cast

import asyncpg

from callbacks import endpoints
from callbacks.endpoints import Given
from indexer.model import make_id
from indexer.secret import Vault

ACCOUNT = "shop"
NETWORK = "net"
COIN = "coin"

Connection: TypeAlias = asyncpg.Connection | asyncpg.Pool


async def world(connection: Connection, account: str = ACCOUNT) -> None:
    """An account, and what a deposit stands on."""
    await connection.execute("insert into account (id, name) values ($1, $1)", account)
    await connection.execute(
        "insert into network (id, family) values ($1, 'evm') on conflict do nothing", NETWORK
    )
    await connection.execute(
        """
        insert into coin (id, network, asset, name, symbol, decimals, covered_from)
        values ($1, $2, '', 'Coin', 'COI', 18, 0) on conflict do nothing
        """,
        COIN,
        NETWORK,
    )


async def endpoint(
    pool: asyncpg.Pool,
    vault: Vault,
    url: str,
    *,
    account: str | None = ACCOUNT,
    **given: Any,
) -> tuple[str, str]:
    """Its id and its secret; `given` as in `endpoints.Given`."""
    async with pool.acquire() as connection, connection.transaction():
        return await endpoints.create_endpoint(
            connection, vault, account, cast(Given, {"url": url, **given})
        )


async def deposit(
    connection: Connection, number: int, *, account: str = ACCOUNT, silent: bool = False
) -> str:
    """The id of a new deposit without events."""
    name = make_id("dep_", account, str(number))
    await connection.execute(
        """
        insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, height,
                             hash, time, required, first_state, state, sequence, counts, silent)
        values ($1, $2, $3, $4, '\\x01', '', 0, $5, 1, 1, $6, clock(), 1, 'detected', 'detected', 1,
                '{0,0,0,0,0,0}', $7)
        """,
        name,
        account,
        NETWORK,
        number.to_bytes(32, "big"),
        COIN,
        bytes(32),
        silent,
    )
    return name


async def event(
    connection: Connection,
    deposit_id: str,
    sequence: int,
    kind: str = "deposit.detected",
    *,
    account: str = ACCOUNT,
) -> str:
    """The id of an event appended to a deposit, its deliveries made as the indexer makes them."""
    name = make_id("evt_", deposit_id, str(sequence))
    body: dict[str, Any] = {"type": kind, "data": {"id": deposit_id, "sequence": sequence}}
    await connection.execute(
        """
        with place as (update account set position = position + 1 where id = $1 returning position)
        insert into event (account, position, id, deposit, sequence, type, body, created_at)
        select $1, position, $2, $3, $4, $5, $6, clock() from place
        """,
        account,
        name,
        deposit_id,
        sequence,
        kind,
        json.dumps(body).encode(),
    )
    await connection.execute("select make_deliveries($1)", [name])
    return name


async def history(connection: Connection, number: int, events: int, account: str = ACCOUNT) -> str:
    """A new deposit with its first `events` events; returns its id."""
    name = await deposit(connection, number, account=account)
    for sequence in range(1, events + 1):
        await event(connection, name, sequence, account=account)
    return name
