"""`/v1/addresses`: what an account asks to be told about."""

from __future__ import annotations

import asyncio
from types import NoneType
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from indexer.api.context import Context
from indexer.api.errors import missing
from indexer.api.inputs import MAX_HEIGHT, Body, FilterText, Text, bad_field, refusal
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.chains import Codec
from indexer.coverage import NewAddress, register_addresses, remove_address
from indexer.model import Refused, format_time

MAX_ADDRESSES: Final = 10_000  # a call
PARSED_AT_ONCE: Final = 200  # addresses; then other requests have their turn
MAX_ADDRESS_TEXT: Final = 128  # characters; the longest text form has 90

# `scanned_to`: its coverage is read up to here; from `active_from` on the follower reads.
_ADDRESSES: Final = """
    select w.network, w.address, w.reference, w.role, w.state, w.covered_from, w.active_from,
           w.created_at, w.id,
           coalesce((select min(greatest(s.next, w.covered_from)) from scan s
                      where s.network = w.network and s.state = 'open'
                        and (s.version = w.changed_version or s.account = w.account)
                        and s.last >= w.covered_from and s.next < w.active_from),
                    w.active_from) - 1 as scanned_to
      from watched_address w
"""

routes = Routes("Addresses")


def _as_object(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


class NewWatchedAddress(Body):
    address: str = Field(max_length=MAX_ADDRESS_TEXT)
    reference: Text | None = None
    from_block: int | None = Field(default=None, ge=0, le=MAX_HEIGHT)
    role: Literal["deposit", "own"] | None = None


class Registration(Body):
    network: Text
    addresses: list[Annotated[NewWatchedAddress, BeforeValidator(_as_object)]] = Field(
        min_length=1, max_length=MAX_ADDRESSES
    )
    callbacks: bool = True


class AddressQuery(PageQuery):
    network: FilterText | None = None
    reference: FilterText | None = None


class Registered(TypedDict):
    created: int
    existing: int
    coveredFrom: int


class WatchedAddress(TypedDict):
    network: str
    address: str
    reference: str | None
    role: Literal["deposit", "own"]
    state: Literal["pending", "active"]
    coveredFrom: int
    activeFrom: int | None
    scannedTo: int | None
    createdAt: Time


@routes.operation(
    "POST", "/v1/addresses", needs="write", takes=Registration, answer=Registered, status=201
)
async def register(call: Call, body: Registration) -> Registered:
    """Watch addresses: from `coveredFrom` on, no transfer to them is missed."""
    account = call.acting_account
    addresses = await _parse(call.context.codec(body.network), body.addresses)
    done = await register_addresses(
        await call.begin(), body.network, account, addresses, silent=not body.callbacks
    )
    return {"created": done.created, "existing": done.existing, "coveredFrom": done.covered_from}


async def _parse(codec: Codec, given: list[NewWatchedAddress]) -> list[NewAddress]:
    """One bad address refuses them all, and each bad one is named."""
    parsed, bad = [], []
    for index, item in enumerate(given):
        if index % PARSED_AT_ONCE == 0:
            await asyncio.sleep(0)
        try:
            key = codec.parse_address(item.address)
        except Refused as error:
            bad.append(bad_field(f"addresses[{index}]", str(error), item.address))
            continue
        parsed.append(NewAddress(key, item.reference, item.from_block, item.role))
    if bad:
        raise refusal(bad)
    return parsed


@routes.operation(
    "GET", "/v1/addresses", needs="read", takes=AddressQuery, answer=Page[WatchedAddress]
)
async def list_addresses(call: Call, query: AddressQuery) -> Page[WatchedAddress]:
    """List watched addresses, newest first."""
    context, account = call.context, call.account
    statement = Statement(_ADDRESSES)
    statement.where("w.state <> 'removed'")
    if query.network is None:
        statement.where("w.network = any (?::text[])", list(context.codecs))
    else:
        context.codec(query.network)
        statement.where("w.network = ?", query.network)
    if account is not None:
        statement.where("w.account = ?", account)
    elif query.network or query.reference:  # their indexes begin with the account
        statement.where("w.account = any (array(select id from account))")
    if query.reference is not None:
        statement.where("w.reference = ?", query.reference)
    text = statement.page(query, "w.created_at", "w.id", int)
    rows = await context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", lambda row: _address(row, context))


@routes.operation("GET", "/v1/addresses/{network}/{address}", needs="read", answer=WatchedAddress)
async def get_address(call: Call) -> WatchedAddress:
    """Show one watched address."""
    account, context = call.acting_account, call.context
    network, key = _named(call)
    statement = Statement(_ADDRESSES)
    statement.where("w.state <> 'removed' and w.network = ?", network)
    statement.where("w.account = ? and w.address = ?", account, key)
    row = await context.pool.fetchrow(statement.text, *statement.arguments)
    if row is None:
        raise missing("watched address", call.path["address"])
    return _address(row, context)


@routes.operation("DELETE", "/v1/addresses/{network}/{address}", needs="write", answer=NoneType)
async def delete_address(call: Call) -> None:
    """Watch an address no longer, from the next block on; its history stays."""
    account = call.acting_account
    network, key = _named(call)
    if not await remove_address(await call.begin(), network, account, key):
        raise missing("watched address", call.path["address"])


def _named(call: Call) -> tuple[str, bytes]:
    network = call.path["network"]
    return network, call.context.path_codec(network).parse_address(call.path["address"])


def _address(row: Any, context: Context) -> WatchedAddress:
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
