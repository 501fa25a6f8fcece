"""The SQL of endpoints, a function a statement or a transaction."""

from __future__ import annotations

import secrets as randomness
from base64 import b32encode
from collections.abc import Sequence
from typing import Final

import asyncpg

from callbacks import signing
from indexer.model import ID_CHARS
from indexer.secret import Vault


async def create_endpoint(
    connection: asyncpg.Connection,
    vault: Vault,
    account: str,
    url: str,
    events: Sequence[str] | None,
    networks: Sequence[str] | None,
    coins: Sequence[str] | None,
    description: str | None,
) -> tuple[asyncpg.Record, str]:
    """A new endpoint's row and its secret, which is shown this once. Needs a transaction."""
    endpoint = "ep_" + b32encode(randomness.token_bytes(20)).decode().lower()[:ID_CHARS]
    secret = signing.new_secret()
    row = await connection.fetchrow(
        """
        insert into endpoint (id, account, url, events, networks, coins, description)
        values ($1, $2, $3, $4, $5, $6, $7) returning *
        """,
        endpoint,
        account,
        url,
        events,
        networks,
        coins,
        description,
    )
    await connection.execute(
        "insert into endpoint_secret (endpoint, secret) values ($1, $2)",
        endpoint,
        vault.encrypt(signing.decode_secret(secret), endpoint),
    )
    return row, secret


_CANCEL: Final = """
    with live as materialized (
        select id from delivery where endpoint = $1 order by id for update
    ), gone as (
        delete from delivery d using live where d.id = live.id returning d.*
    )
    insert into delivery_done (id, endpoint, event, deposit, sequence, state, reason, requests,
                               attempts, last_error, last_status, created_at)
    select id, endpoint, event, deposit, sequence, 'cancelled', 'endpoint_deleted', requests,
           attempts, last_error, last_status, created_at
      from gone
"""


async def delete_endpoint(
    connection: asyncpg.Connection, endpoint: str, account: str | None
) -> bool:
    """Cancel what is live of an endpoint and forget it; False if there is none.

    Needs a transaction: the endpoint's lock keeps new deliveries out while it works. `account`
    None: whichever it belongs to.
    """
    found = await connection.fetchval(
        "select id from endpoint where id = $1 and account = coalesce($2, account) for update",
        endpoint,
        account,
    )
    if found is None:
        return False
    await connection.execute(_CANCEL, endpoint)
    await connection.execute("delete from endpoint where id = $1", endpoint)
    return True
