"""`/v1/addresses`: what an account asks to be told about."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import BeforeValidator, Field

from indexer.api.auth import acting_account, request_account, require
from indexer.api.context import Context, context_of
from indexer.api.errors import missing, reply
from indexer.api.inputs import (
    MAX_HEIGHT,
    Body,
    FilterText,
    Text,
    bad_field,
    read_body,
    read_query,
    refusal,
)
from indexer.api.pages import PageQuery, Statement, bigint, page
from indexer.chains import Codec
from indexer.coverage import NewAddress, register_addresses, remove_address
from indexer.model import Refused, format_time

MAX_ADDRESSES: Final = 10_000  # a call
MAX_ADDRESS_TEXT: Final = 128  # characters; the longest text form has 90

# `scanned_to`: its coverage is read up to here; from `active_from` on the follower reads.
_ADDRESSES: Final = """
    select w.network, w.address, w.reference, w.role, w.state, w.covered_from, w.active_from,
           w.created_at, w.id::text as key,
           coalesce((select min(greatest(s.next, w.covered_from)) from scan s
                      where s.network = w.network and s.state = 'open'
                        and s.last >= w.covered_from and s.next < w.active_from),
                    w.active_from) - 1 as scanned_to
      from watched_address w
"""

routes = web.RouteTableDef()


def _as_object(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


class Address(Body):
    address: str = Field(max_length=MAX_ADDRESS_TEXT)
    reference: Text | None = None
    from_block: int | None = Field(default=None, ge=0, le=MAX_HEIGHT)
    role: Literal["deposit", "own"] | None = None


class Registration(Body):
    network: Text
    addresses: list[Annotated[Address, BeforeValidator(_as_object)]] = Field(
        min_length=1, max_length=MAX_ADDRESSES
    )
    callbacks: bool = True


class AddressQuery(PageQuery):
    network: FilterText | None = None
    reference: FilterText | None = None


@routes.post("/v1/addresses")
@require("write")
async def post_addresses(request: web.Request) -> web.Response:
    account, context = await acting_account(request), context_of(request)
    body = await read_body(request, Registration)
    addresses = _parse(context.codec(body.network), body.addresses)
    async with context.pool.acquire() as connection, connection.transaction():
        done = await register_addresses(
            connection, body.network, account, addresses, silent=not body.callbacks
        )
    return reply(
        {"created": done.created, "existing": done.existing, "coveredFrom": done.covered_from}, 201
    )


def _parse(codec: Codec, given: list[Address]) -> list[NewAddress]:
    """One bad address refuses them all, and each bad one is named."""
    parsed, bad = [], []
    for index, item in enumerate(given):
        try:
            key = codec.parse_address(item.address)
        except Refused as error:
            bad.append(bad_field(f"addresses[{index}]", str(error), item.address))
            continue
        parsed.append(NewAddress(key, item.reference, item.from_block, item.role))
    if bad:
        raise refusal(bad)
    return parsed


@routes.get("/v1/addresses")
@require("read")
async def list_addresses(request: web.Request) -> web.Response:
    query, context = read_query(request, AddressQuery), context_of(request)
    account = await request_account(request)
    networks = list(context.codecs)
    if query.network is not None:
        context.codec(query.network)
        networks = [query.network]
    statement = Statement(_ADDRESSES)
    statement.where("w.state <> 'removed' and w.network = any (?::text[])", networks)
    if account is not None:
        statement.where("w.account = ?", account)
    if query.reference is not None:
        statement.where("w.reference = ?", query.reference)
    text = statement.page(query, "w.created_at", "w.id", bigint)
    rows = await context.pool.fetch(text, *statement.arguments)
    return reply(page(rows, query, "key", lambda row: _address(row, context)))


@routes.get("/v1/addresses/{network}/{address}")
@require("read")
async def get_address(request: web.Request) -> web.Response:
    account, context = await acting_account(request), context_of(request)
    network, key = _named(request)
    statement = Statement(_ADDRESSES)
    statement.where("w.state <> 'removed' and w.network = ?", network)
    statement.where("w.account = ? and w.address = ?", account, key)
    row = await context.pool.fetchrow(statement.text, *statement.arguments)
    if row is None:
        raise missing("watched address", request.match_info["address"])
    return reply(_address(row, context))


@routes.delete("/v1/addresses/{network}/{address}")
@require("write")
async def delete_address(request: web.Request) -> web.Response:
    account = await acting_account(request)
    network, key = _named(request)
    async with context_of(request).pool.acquire() as connection, connection.transaction():
        if not await remove_address(connection, network, account, key):
            raise missing("watched address", request.match_info["address"])
    return web.Response(status=204)


def _named(request: web.Request) -> tuple[str, bytes]:
    network = request.match_info["network"]
    codec = context_of(request).path_codec(network)
    return network, codec.parse_address(request.match_info["address"])


def _address(row: Any, context: Context) -> dict[str, Any]:
    return {
        "network": row["network"],
        "address": context.codecs[row["network"]].format_address(row["address"]),
        "reference": row["reference"],
        "role": row["role"],
        "state": row["state"],
        "coveredFrom": row["covered_from"],
        "activeFrom": row["active_from"],
        "scannedTo": row["scanned_to"],
        "createdAt": format_time(row["created_at"]),
    }
