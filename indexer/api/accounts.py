"""Accounts and their keys: `/v1/accounts`, and what the commands of the same names do."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from types import NoneType
from typing import Annotated, Any, Final, Literal, NotRequired

import asyncpg
from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.auth import hash_key
from indexer.api.errors import Absent, Conflict, missing, shown
from indexer.api.inputs import MAX_TEXT, Body, Instant, IpRange, Rate, Text
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time, optional_time
from indexer.model import ID_CHARS, Refused, format_time
from indexer.secret import Vault

KEY_BYTES: Final = 32  # of randomness in a key
ACCOUNT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)  # as in schema.sql
MAX_RANGES: Final = 64  # address ranges of a key
MIN_RATE: Final = 0.1  # requests a second that a key may be limited to
MAX_RATE: Final = 10_000.0
ID_BYTES: Final = 17  # of randomness in an id; ID_CHARS base32 characters of it are kept

routes = Routes("Accounts and keys")


class NewAccount(Body):
    name: Text
    id: str | None = None


class NewKey(Body):
    scopes: list[Literal["read", "write"]] = Field(min_length=1, max_length=2)
    allowed_ips: list[IpRange] | None = Field(default=None, min_length=1, max_length=MAX_RANGES)
    require_signature: bool = False
    rate_limit: Annotated[Rate, Field(ge=MIN_RATE, le=MAX_RATE)] | None = None
    expires_at: Instant | None = None


class CreatedAccount(TypedDict):
    id: str
    name: str


class Account(CreatedAccount):
    createdAt: Time


class CreatedKey(TypedDict):
    id: str
    key: NotRequired[str]
    secret: NotRequired[str]


class Key(TypedDict):
    id: str
    scopes: list[str]
    allowedIps: list[str] | None
    requireSignature: bool
    rateLimit: float | None
    expiresAt: Time | None
    lastUsedAt: Time | None
    lastUsedFrom: str | None
    createdAt: Time


@dataclass(frozen=True)
class MadeKey:
    id: str
    key: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)  # signs requests, where that is asked for


async def create_account(
    connection: asyncpg.Connection, name: str, account: str | None = None
) -> str:
    """A new account's id, `account` if given; Conflict if that is taken, Refused if it is none."""
    if not 0 < len(name) <= MAX_TEXT or not name.isprintable():
        raise Refused(f"an account's name is text of 1 to {MAX_TEXT} characters")
    account = random_id("acc_") if account is None else account
    if ACCOUNT_ID.fullmatch(account) is None:
        raise Refused(
            f"{shown(account)!r} is no account id: write a-z, 0-9, - and _, at most 63, "
            "beginning with a letter or a digit"
        )
    try:
        await connection.execute("insert into account (id, name) values ($1, $2)", account, name)
    except asyncpg.UniqueViolationError:
        raise Conflict(f"there is an account {account!r} already") from None
    return account


async def create_key(
    connection: asyncpg.Connection,
    vault: Vault,
    account: str | None,
    scopes: Collection[str],
    *,
    allowed_ips: Sequence[IPv4Network | IPv6Network] | None = None,
    signed: bool = False,
    rate_limit: float | None = None,
    expires_at: datetime | None = None,
) -> MadeKey:
    """A new key, an admin's where `account` is None; Absent for no such account.

    This is the only time the key can be seen: its SHA-256 is all that is kept. `signed`: it comes
    with a secret that every request must be signed with. `rate_limit`: requests a second.
    """
    made = MadeKey(
        random_id("key_"),
        "dk_" + secrets.token_urlsafe(KEY_BYTES),
        "dks_" + secrets.token_urlsafe(KEY_BYTES) if signed else None,
    )
    try:
        await connection.execute(
            """
            insert into api_key (id, account, hash, scopes, allowed_ips, secret, rate_limit,
                                 expires_at)
            values ($1, $2, $3, $4::text[]::key_scope[], $5, $6, $7, $8)
            """,
            made.id,
            account,
            hash_key(made.key),
            sorted(set(scopes)) if account is not None else ["admin"],
            allowed_ips,
            None if made.secret is None else vault.encrypt(made.secret.encode(), made.id),
            rate_limit,
            expires_at,
        )
    except asyncpg.ForeignKeyViolationError:
        raise missing("account", str(account)) from None
    return made


def random_id(prefix: str) -> str:
    return prefix + base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().lower()[:ID_CHARS]


@routes.operation(
    "POST", "/v1/accounts", needs="admin", takes=NewAccount, answer=CreatedAccount, status=201
)
async def post_account(call: Call, body: NewAccount) -> CreatedAccount:
    """Create an account, a tenant that sees nothing of any other."""
    account = await create_account(await call.begin(), body.name, body.id)
    return {"id": account, "name": body.name}


@routes.operation("GET", "/v1/accounts", needs="admin", takes=PageQuery, answer=Page[Account])
async def list_accounts(call: Call, query: PageQuery) -> Page[Account]:
    """List accounts, newest first."""
    statement = Statement("select id, name, created_at from account")
    if query.account is not None:
        statement.where("id = ?", query.account)
    text = statement.page(query, "created_at", "id")
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", _account)


@routes.operation(
    "POST",
    "/v1/accounts/{account}/keys",
    needs="admin",
    takes=NewKey,
    answer=CreatedKey,
    status=201,
)
async def post_key(call: Call, body: NewKey) -> CreatedKey:
    """Create a key of an account. Key and secret are shown this once."""
    made = await create_key(
        await call.begin(),
        call.context.vault,
        _named(call),
        body.scopes,
        allowed_ips=body.allowed_ips,
        signed=body.require_signature,
        rate_limit=body.rate_limit,
        expires_at=body.expires_at,
    )
    answer: CreatedKey = {"id": made.id, "key": made.key}
    return answer if made.secret is None else {**answer, "secret": made.secret}


@routes.operation(
    "GET", "/v1/accounts/{account}/keys", needs="admin", takes=PageQuery, answer=Page[Key]
)
async def list_keys(call: Call, query: PageQuery) -> Page[Key]:
    """List the keys of an account, newest first; no key is shown."""
    account, pool = _named(call), call.context.pool
    if not await pool.fetchval("select exists (select from account where id = $1)", account):
        raise missing("account", account)
    statement = Statement("select *, scopes::text[] as scope_names from api_key")
    statement.where("account = ?", account)
    text = statement.page(query, "created_at", "id")
    return page(await pool.fetch(text, *statement.arguments), query, "id", _key)


@routes.operation("DELETE", "/v1/accounts/{account}/keys/{key}", needs="admin", answer=NoneType)
async def delete_key(call: Call) -> None:
    """Delete a key: it is refused from now on."""
    account, key, connection = _named(call), call.path["key"], await call.begin()
    gone = await connection.fetchval(
        "delete from api_key where account = $1 and id = $2 returning id", account, key
    )
    if gone is None:
        raise Absent(f"account {shown(account)!r} has no key {shown(key)!r}")


def _named(call: Call) -> str:
    """The account of the path. 404 to who acts for another."""
    account = call.path["account"]
    if call.account not in (None, account):
        raise missing("account", account)
    return account


def _account(row: Any) -> Account:
    return {
        "id": row["id"],
        "name": row["name"],
        "createdAt": format_time(row["created_at"]),
    }


def _key(row: Any) -> Key:
    ranges = row["allowed_ips"]
    return {
        "id": row["id"],
        "scopes": row["scope_names"],
        "allowedIps": None if ranges is None else [str(network) for network in ranges],
        "requireSignature": row["secret"] is not None,
        "rateLimit": row["rate_limit"],
        "expiresAt": optional_time(row["expires_at"]),
        "lastUsedAt": optional_time(row["used_at"]),
        "lastUsedFrom": None if row["used_from"] is None else str(row["used_from"]),
        "createdAt": format_time(row["created_at"]),
    }
