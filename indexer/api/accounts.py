"""Accounts and their keys: `/v1/accounts`, and what the commands of the same names do."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Collection
from typing import Any, Final, Literal

import asyncpg
from aiohttp import web
from pydantic import Field

from indexer.api.auth import hash_key, require
from indexer.api.context import context_of
from indexer.api.errors import Absent, Conflict, missing, reply, shown
from indexer.api.inputs import MAX_TEXT, Body, Text, read_body, read_query
from indexer.api.pages import PageQuery, Statement, page
from indexer.model import ID_CHARS, Refused, format_time

KEY_BYTES: Final = 32  # of randomness in a key
ACCOUNT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)  # as in schema.sql
ID_BYTES: Final = 17  # of randomness in an id; ID_CHARS base32 characters of it are kept

routes = web.RouteTableDef()


class NewAccount(Body):
    name: Text
    id: str | None = None


class NewKey(Body):
    scopes: list[Literal["read", "write"]] = Field(min_length=1, max_length=2)


async def create_account(
    connection: asyncpg.Connection, name: str, account: str | None = None
) -> str:
    """A new account's id, `account` if given; Conflict if that is taken, Refused if it is none."""
    if not 0 < len(name) <= MAX_TEXT or not name.isprintable():
        raise Refused(f"an account's name is text of 1 to {MAX_TEXT} characters")
    account = _random_id("acc_") if account is None else account
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
    connection: asyncpg.Connection, account: str | None, scopes: Collection[str]
) -> tuple[str, str]:
    """(id, key) of a new key, an admin's where `account` is None; Absent for no such account.

    This is the only time the key can be seen: its SHA-256 is all that is kept.
    """
    key_id, key = _random_id("key_"), "dk_" + secrets.token_urlsafe(KEY_BYTES)
    try:
        await connection.execute(
            """
            insert into api_key (id, account, hash, scopes)
            values ($1, $2, $3, $4::text[]::key_scope[])
            """,
            key_id,
            account,
            hash_key(key),
            sorted(set(scopes)) if account is not None else ["admin"],
        )
    except asyncpg.ForeignKeyViolationError:
        raise missing("account", str(account)) from None
    return key_id, key


def _random_id(prefix: str) -> str:
    return prefix + base64.b32encode(secrets.token_bytes(ID_BYTES)).decode().lower()[:ID_CHARS]


@routes.post("/v1/accounts")
@require("admin")
async def post_account(request: web.Request) -> web.Response:
    body = await read_body(request, NewAccount)
    async with context_of(request).pool.acquire() as connection:
        account = await create_account(connection, body.name, body.id)
    return reply({"id": account, "name": body.name}, 201)


@routes.get("/v1/accounts")
@require("admin")
async def list_accounts(request: web.Request) -> web.Response:
    query = read_query(request, PageQuery)
    statement = Statement("select id, name, created_at from account")
    if query.account is not None:
        statement.where("id = ?", query.account)
    text = statement.page(query, "created_at", "id")
    rows = await context_of(request).pool.fetch(text, *statement.arguments)
    return reply(page(rows, query, "id", _account))


@routes.post("/v1/accounts/{account}/keys")
@require("admin")
async def post_key(request: web.Request) -> web.Response:
    body = await read_body(request, NewKey)
    async with context_of(request).pool.acquire() as connection:
        key_id, key = await create_key(connection, request.match_info["account"], body.scopes)
    return reply({"id": key_id, "key": key}, 201)


@routes.get("/v1/accounts/{account}/keys")
@require("admin")
async def list_keys(request: web.Request) -> web.Response:
    query, account = read_query(request, PageQuery), request.match_info["account"]
    pool = context_of(request).pool
    if not await pool.fetchval("select exists (select from account where id = $1)", account):
        raise missing("account", account)
    statement = Statement("select id, scopes::text[] as scopes, created_at from api_key")
    statement.where("account = ?", account)
    text = statement.page(query, "created_at", "id")
    return reply(page(await pool.fetch(text, *statement.arguments), query, "id", _key))


@routes.delete("/v1/accounts/{account}/keys/{key}")
@require("admin")
async def delete_key(request: web.Request) -> web.Response:
    account, key = request.match_info["account"], request.match_info["key"]
    gone = await context_of(request).pool.fetchval(
        "delete from api_key where account = $1 and id = $2 returning id", account, key
    )
    if gone is None:
        raise Absent(f"account {shown(account)!r} has no key {shown(key)!r}")
    return web.Response(status=204)


def _account(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "createdAt": format_time(row["created_at"]),
    }


def _key(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "scopes": row["scopes"],
        "createdAt": format_time(row["created_at"]),
    }
