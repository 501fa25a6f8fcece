"""The SQL of endpoints: what their owners set, their secrets, and what becomes of what is held.

A function works in the transaction of its caller, unless it takes the pool: that one changes many
rows, a bounded number at a time. Locks: the endpoint, then its deliveries by id.
"""

from __future__ import annotations

import secrets as randomness
from base64 import b32encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson
from typing_extensions import TypedDict

from callbacks import signing
from indexer import bell
from indexer.model import ID_CHARS
from indexer.secret import Vault

ID_BYTES: Final = 17  # of randomness; ID_CHARS base32 characters of it are kept
OLD_SECRETS: Final = 2  # that sign beside the newest
BATCH: Final = 5_000  # deliveries of one transaction

# An endpoint as it is shown: with its health, and with the secrets that sign, the newest first.
VIEW: Final = """
    select e.id, e.account, e.url, e.events, e.networks, e.coins, e.min_amount::text as min_amount,
           e.headers, e.rate_limit, e.concurrency, e.heartbeat_seconds, e.description,
           e.state::text as state, e.state_reason, e.state_since, e.created_at,
           h.failures, h.failing_since, h.paused_until,
           case when h.open_until > clock() then h.open_until end as open_until,
           secrets.made as secrets_made, secrets.ends as secrets_end
      from endpoint e
      left join endpoint_health h on h.endpoint = e.id
     cross join lateral (
        select array_agg(created_at order by created_at desc) as made,
               array_agg(expires_at order by created_at desc) as ends
          from endpoint_secret s
         where s.endpoint = e.id and (s.expires_at is null or s.expires_at > clock())) secrets
"""


class Given(TypedDict, total=False):
    """What an owner sets, by column. None is the column's default."""

    url: str
    events: Sequence[str] | None
    networks: Sequence[str] | None
    coins: Sequence[str] | None
    min_amount: str | None  # decimal text
    headers: Mapping[str, str] | None
    rate_limit: float | None
    concurrency: int | None
    heartbeat_seconds: int | None
    description: str | None


async def create_endpoint(
    connection: asyncpg.Connection, vault: Vault, account: str | None, given: Given
) -> tuple[str, str]:
    """(id, secret) of a new endpoint, whose URL is given; the secret is shown this once.

    `account` None: the operator's own.
    """
    endpoint = "ep_" + b32encode(randomness.token_bytes(ID_BYTES)).decode().lower()[:ID_CHARS]
    await connection.execute(
        "insert into endpoint (id, account, url) values ($1, $2, $3)",
        endpoint,
        account,
        given["url"],
    )
    await change_endpoint(connection, vault, endpoint, given)
    return endpoint, await _add_secret(connection, vault, endpoint)


_CASTS: Final = {"min_amount": "::text::numeric", "heartbeat_seconds": "::integer"}
_NEXT_HEARTBEAT: Final = """
    case when heartbeat_seconds = {place} then heartbeat_at
         else clock() + make_interval(secs => {place}) end
"""


async def change_endpoint(
    connection: asyncpg.Connection, vault: Vault, endpoint: str, given: Given
) -> None:
    """Set what is given; the rest stays. Headers are encrypted: one may be a password."""
    values: list[Any] = [endpoint]
    changes = []
    for column, value in given.items():
        if value is None:
            written = beat = "default"
        else:
            sealed = isinstance(value, Mapping)
            values.append(vault.encrypt(orjson.dumps(value), endpoint) if sealed else value)
            written = f"${len(values)}{_CASTS.get(column, '')}"
            beat = _NEXT_HEARTBEAT.format(place=written)
        changes.append(f"{column} = {written}")
        if column == "heartbeat_seconds":
            changes.append(f"heartbeat_at = {beat}")
    if changes:
        await connection.execute(
            f"update endpoint set {', '.join(changes)} where id = $1",  # noqa: S608
            *values,
        )


async def count(connection: asyncpg.Connection, account: str | None) -> int:
    """How many endpoints an account has; `account` None: the operator."""
    found: int = await connection.fetchval(
        "select count(*) from endpoint where account is not distinct from $1", account
    )
    return found


_LOCK: Final = """
    select id, state::text as state from endpoint
     where id = $1 and ($2::text is null or account = $2) for no key update
"""


async def lock(connection: asyncpg.Connection, endpoint: str, account: str | None) -> str | None:
    """The state of an endpoint, which stays until the transaction ends; None if there is none.

    `account` None: whichever it belongs to.
    """
    row = await connection.fetchrow(_LOCK, endpoint, account)
    return None if row is None else str(row["state"])


async def share(connection: asyncpg.Connection, endpoint: str) -> bool:
    """Keep an endpoint from being deleted until the transaction ends; False if there is none."""
    row = await connection.fetchrow("select from endpoint where id = $1 for key share", endpoint)
    return row is not None


# ---------------------------------------------------------------------------- secrets

# No two of an endpoint have the same time, whatever the clock says: it orders them.
_ADD_SECRET: Final = """
    insert into endpoint_secret (endpoint, secret, created_at)
    select $1, $2, greatest(clock(), max(created_at) + interval '1 microsecond')
      from endpoint_secret where endpoint = $1
"""
_END_SECRETS: Final = """
    update endpoint_secret set expires_at = least(expires_at, clock() + make_interval(secs => $2))
     where endpoint = $1
"""
_DROP_SECRETS: Final = """
    delete from endpoint_secret
     where endpoint = $1
       and (expires_at <= clock()
            or created_at not in (select created_at from endpoint_secret where endpoint = $1
                                   order by created_at desc limit $2))
"""


async def rotate_secret(
    connection: asyncpg.Connection, vault: Vault, endpoint: str, overlap_seconds: int
) -> str:
    """A new secret, shown this once. What signed before does so for `overlap_seconds` more.

    Of old ones OLD_SECRETS are kept, the newest. Needs the endpoint's lock.
    """
    await connection.execute(_END_SECRETS, endpoint, overlap_seconds)
    await connection.execute(_DROP_SECRETS, endpoint, OLD_SECRETS)
    return await _add_secret(connection, vault, endpoint)


async def revoke_old_secrets(connection: asyncpg.Connection, endpoint: str) -> None:
    """From now on the newest secret alone signs. Needs the endpoint's lock."""
    await connection.execute(
        "delete from endpoint_secret where endpoint = $1 and expires_at is not null", endpoint
    )


async def _add_secret(connection: asyncpg.Connection, vault: Vault, endpoint: str) -> str:
    secret = signing.new_secret()
    sealed = vault.encrypt(signing.decode_secret(secret), endpoint)
    await connection.execute(_ADD_SECRET, endpoint, sealed)
    return secret


# ---------------------------------------------------------------------------- what is held


async def pause(connection: asyncpg.Connection, endpoint: str, reason: str | None = None) -> None:
    """Hold its deliveries from now on; what is being sent is finished."""
    await connection.execute(
        """
        update endpoint set state = 'paused', state_reason = $2, state_since = clock()
         where id = $1 and state = 'active'
        """,
        endpoint,
        reason,
    )


# What the operator was told of stays known: the recovery will be told, too.
_BEGIN_ANEW: Final = """
    with untold as (
        delete from endpoint_health where endpoint = $1 and told = 0
    )
    update endpoint_health
       set failures = 0, faults = 0, failing_since = null, open_until = null, open_seconds = null,
           probed = null, room = null, paused_until = null
     where endpoint = $1 and told > 0
"""


async def resume(connection: asyncpg.Connection, endpoint: str) -> None:
    """Send again, and forget how it fared."""
    await connection.execute(
        """
        update endpoint set state = 'active', state_reason = null, state_since = clock()
         where id = $1 and state <> 'active'
        """,
        endpoint,
    )
    await connection.execute(_BEGIN_ANEW, endpoint)
    await bell.ring(connection, [endpoint])


_OLDEST: Final = """
    select id from delivery where endpoint = $1 and ($2::timestamptz is null or created_at < $2)
     order by created_at, id limit $3
"""
_END: Final = "select end_deliveries($1, 'cancelled', $2)"


async def cancel(
    pool: asyncpg.Pool, endpoint: str, reason: str, before: datetime | None = None
) -> None:
    """Cancel what is live of an endpoint, with `before` what is older than that."""
    more = True
    while more:
        async with pool.acquire() as connection, connection.transaction():
            ids = await _ids(connection, endpoint, before)
            await connection.execute(_END, ids, reason)
            more = len(ids) == BATCH


_HURRY: Final = """
    update delivery set due_at = $2
     where id = any (array(select id from delivery
                            where endpoint = $1 and due_at > $2 and lease_token is null
                            order by due_at limit $3 for update skip locked))
"""


async def hurry(pool: asyncpg.Pool, endpoint: str) -> None:
    """What waits for its next attempt is due now."""
    now = await pool.fetchval("select clock()")
    while await pool.execute(_HURRY, endpoint, now, BATCH) == f"UPDATE {BATCH}":
        pass


async def delete_endpoint(connection: asyncpg.Connection, endpoint: str) -> None:
    """Cancel what is live of an endpoint and forget it with its secrets and resends.

    Its lock keeps new deliveries out meanwhile, and with it the indexer: `cancel` comes first
    where there may be many.
    """
    await connection.execute("select from endpoint where id = $1 for update", endpoint)
    while ids := await _ids(connection, endpoint, None):
        await connection.execute(_END, ids, "endpoint_deleted")
    await connection.execute("delete from endpoint where id = $1", endpoint)


async def _ids(connection: asyncpg.Connection, endpoint: str, before: datetime | None) -> list[int]:
    return [row["id"] for row in await connection.fetch(_OLDEST, endpoint, before, BATCH)]
