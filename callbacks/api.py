"""`/v1/endpoints`: where an account wants its callbacks."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Annotated, Any, Final

import asyncpg
from aiohttp import web
from pydantic import Field, StringConstraints

from callbacks import endpoints
from callbacks.guard import MAX_URL, check_url
from callbacks.resolver import check_answers
from indexer.api.auth import acting_account, request_account, require
from indexer.api.context import Context, context_of
from indexer.api.errors import missing, reply
from indexer.api.inputs import Body, Text, bad_field, read_body, read_query, refusal
from indexer.api.pages import PageQuery, Statement, page
from indexer.model import COUNTED, Refused, format_time

MAX_FILTERS: Final = 100  # entries of one filter
EVENT_TYPES: Final = tuple(f"deposit.{state}" for state in COUNTED)
_KNOWN_COINS: Final = "select id from coin where id = any ($1)"

routes = web.RouteTableDef()

Pattern = Annotated[str, StringConstraints(pattern=r"^[a-z*]+(\.[a-z*]+)*$", max_length=64)]
Names = Annotated[list[Text], Field(min_length=1, max_length=MAX_FILTERS)]


class NewEndpoint(Body):
    url: Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
    events: Annotated[list[Pattern], Field(min_length=1, max_length=MAX_FILTERS)] | None = None
    networks: Names | None = None
    coins: Names | None = None
    description: Text | None = None


@routes.post("/v1/endpoints")
@require("write")
async def create_endpoint(request: web.Request) -> web.Response:
    account, context = await acting_account(request), context_of(request)
    body = await read_body(request, NewEndpoint)
    await _check(body, context)
    async with context.pool.acquire() as connection, connection.transaction():
        row, secret = await endpoints.create_endpoint(
            connection,
            context.vault,
            account,
            body.url,
            body.events,
            body.networks,
            body.coins,
            body.description,
        )
    return reply({**_endpoint(row), "secret": secret}, 201)


@routes.get("/v1/endpoints")
@require("write")
async def list_endpoints(request: web.Request) -> web.Response:
    query, context = read_query(request, PageQuery), context_of(request)
    statement = await _visible(request)
    text = statement.page(query, "created_at", "id")
    rows = await context.pool.fetch(text, *statement.arguments)
    return reply(page(rows, query, "id", _endpoint))


@routes.get("/v1/endpoints/{id}")
@require("write")
async def get_endpoint(request: web.Request) -> web.Response:
    statement = await _visible(request)
    statement.where("id = ?", request.match_info["id"])
    row = await context_of(request).pool.fetchrow(statement.text, *statement.arguments)
    if row is None:
        raise missing("endpoint", request.match_info["id"])
    return reply(_endpoint(row))


@routes.delete("/v1/endpoints/{id}")
@require("write")
async def delete_endpoint(request: web.Request) -> web.Response:
    account, context = await request_account(request), context_of(request)
    async with context.pool.acquire() as connection, connection.transaction():
        if not await endpoints.delete_endpoint(connection, request.match_info["id"], account):
            raise missing("endpoint", request.match_info["id"])
    return web.Response(status=204)


async def _visible(request: web.Request) -> Statement:
    statement = Statement("select * from endpoint")
    account = await request_account(request)
    if account is not None:
        statement.where("account = ?", account)
    return statement


async def _check(body: NewEndpoint, context: Context) -> None:
    """A refusal that names every bad field; the host is looked up last, when all else is good."""
    bad = [
        bad_field("events", f"matches none of {', '.join(EVENT_TYPES)}", pattern)
        for pattern in body.events or ()
        if not fnmatch.filter(EVENT_TYPES, pattern)
    ]
    for network in body.networks or ():
        if network not in context.codecs:
            bad.append(bad_field("networks", "there is no such network", network))
    for coin in await _unknown_coins(context.pool, body.coins or []):
        bad.append(bad_field("coins", "there is no such coin", coin))
    try:
        url = check_url(body.url, context.settings.callbacks)
        if not bad:
            await check_answers(url, context.settings.callbacks)
    except Refused as error:
        bad.append(bad_field("url", str(error)))
    if bad:
        raise refusal(bad)


async def _unknown_coins(pool: asyncpg.Pool, coins: Sequence[str]) -> list[str]:
    known = {row["id"] for row in await pool.fetch(_KNOWN_COINS, coins)} if coins else set()
    return [coin for coin in coins if coin not in known]


def _endpoint(row: Any) -> dict[str, Any]:
    """As its owner sees it. The URL may hold a secret of his: it is never logged."""
    return {
        "id": row["id"],
        "account": row["account"],
        "url": row["url"],
        "events": row["events"],
        "networks": row["networks"],
        "coins": row["coins"],
        "description": row["description"],
        "state": row["state"],
        "createdAt": format_time(row["created_at"]),
    }
