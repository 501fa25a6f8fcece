"""`/v1/deposits`: lists with filters, and one with its events and deliveries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import asyncpg

from indexer.api.context import Context
from indexer.api.delivery import DONE, LIVE, Delivery, delivery_view
from indexer.api.errors import Conflict, missing, shown
from indexer.api.events import event_view
from indexer.api.inputs import Body, FilterText, Instant, Text
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import DepositData, Event, Time
from indexer.chains import Codec
from indexer.ledger import coin_from, deposit_from
from indexer.model import Coin, Decision, Refused, State, format_time, view
from indexer.review import review

_DEPOSITS: Final = (
    "select d.*, c.height as cursor from deposit d left join cursor c on c.network = d.network"
)

routes = Routes("Deposits")


class DepositQuery(PageQuery):
    network: FilterText | None = None
    coin: FilterText | None = None
    address: FilterText | None = None
    reference: FilterText | None = None
    transaction_hash: FilterText | None = None
    status: State | None = None
    since: Instant | None = None
    until: Instant | None = None


class Deposit(DepositData):
    createdAt: Time
    updatedAt: Time


class DepositHistory(Deposit):
    events: list[Event]
    deliveries: list[Delivery]


@routes.operation("GET", "/v1/deposits", needs="read", takes=DepositQuery, answer=Page[Deposit])
async def list_deposits(call: Call, query: DepositQuery) -> Page[Deposit]:
    """List deposits, newest first."""
    context = call.context
    statement = _filtered(context, query, call.account)
    text = statement.page(query, "d.created_at", "d.id", until=query.until)
    rows = await context.pool.fetch(text, *statement.arguments)
    coins = await _coins(context.pool, rows)
    return page(rows, query, "id", lambda row: _deposit(row, coins, context))


def _filtered(context: Context, query: DepositQuery, account: str | None) -> Statement:
    statement = Statement(_DEPOSITS)
    _on_networks(statement, context, query)
    filters = {"d.coin": query.coin, "d.reference": query.reference, "d.state": query.status}
    if account is not None:
        statement.where("d.account = ?", account)
    elif query.network or any(filters.values()):  # their indexes begin with the account
        statement.where("d.account = any (array(select id from account))")
    for condition, value in (
        *((f"{column} = ?", value) for column, value in filters.items()),
        ("d.created_at >= ?", query.since),
    ):
        if value is not None:
            statement.where(condition, value)
    return statement


def _on_networks(statement: Statement, context: Context, query: DepositQuery) -> None:
    """The network that is asked for, or all; an address or a hash may be other bytes on each."""
    codecs: Mapping[str, Codec] = context.codecs
    if query.network is not None:
        codecs = {query.network: context.codec(query.network)}
    bytes_of = {}
    if query.address is not None:
        bytes_of["address"] = _keys(codecs, query.address, lambda codec: codec.parse_address)
    if query.transaction_hash is not None:
        bytes_of["tx"] = _keys(codecs, query.transaction_hash, lambda codec: codec.parse_hash)
    if not bytes_of and query.network is None:
        statement.where("d.network = any (?::text[])", list(codecs))
        return
    networks = [name for name in codecs if all(name in keys for keys in bytes_of.values())]
    if not networks:
        statement.where("false")
    condition = " and ".join(f"d.{column} = ?" for column in ("network", *bytes_of))
    for network in networks:
        statement.either(condition, network, *(keys[network] for keys in bytes_of.values()))


def _keys(
    codecs: Mapping[str, Codec], text: str, parser: Callable[[Codec], Callable[[str], bytes]]
) -> dict[str, bytes]:
    """What a text means on each network where it means anything; Refused where on none."""
    found: dict[str, bytes] = {}
    refusals: list[Refused] = []
    for network, codec in codecs.items():
        try:
            found[network] = parser(codec)(text)
        except Refused as refusal:
            refusals.append(refusal)
    if len(refusals) == 1 and not found:
        raise refusals[0]
    if refusals and not found:
        raise Refused(f"{shown(text)!r} is nothing on any network: {' '.join(codecs)}")
    return found


@routes.operation("GET", "/v1/deposits/{id}", needs="read", answer=DepositHistory)
async def get_deposit(call: Call) -> DepositHistory:
    """Show one deposit with its events and their deliveries."""
    context, deposit_id, account = call.context, call.path["id"], call.account
    statement = Statement(_DEPOSITS)
    statement.where("d.network = any (?::text[])", list(context.codecs))
    statement.where("d.id = ?", deposit_id)
    if account is not None:
        statement.where("d.account = ?", account)
    async with (
        context.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await connection.fetchrow(statement.text, *statement.arguments)
        if row is None:
            raise missing("deposit", deposit_id)
        coins = await _coins(connection, [row])
        events = await connection.fetch(_EVENTS, deposit_id)
        deliveries = await connection.fetch(_DELIVERIES, deposit_id)
    return {
        **_deposit(row, coins, context),
        "events": [event_view(event) for event in events],
        "deliveries": [delivery_view(delivery, context.vault) for delivery in deliveries],
    }


class Note(Body):
    note: Text | None = None


class Rejection(Body):
    note: Text


@routes.operation(
    "POST",
    "/v1/deposits/{id}/release",
    needs="admin",
    takes=Note,
    answer=Deposit,
    refuses=(409,),
)
async def release_deposit(call: Call, _: Note) -> Deposit:
    """Let a held or ignored deposit go on; the note is kept in the audit log."""
    return await _review(call, "release")


@routes.operation(
    "POST",
    "/v1/deposits/{id}/reject",
    needs="admin",
    takes=Rejection,
    answer=Deposit,
    refuses=(409,),
)
async def reject_deposit(call: Call, _: Rejection) -> Deposit:
    """Refuse a held deposit for good; the note is kept in the audit log."""
    return await _review(call, "reject")


async def _review(call: Call, decision: Decision) -> Deposit:
    context, statement = call.context, Statement(_DEPOSITS)
    statement.where("d.network = any (?::text[]) and d.id = ?", [*context.codecs], call.path["id"])
    if (account := call.account) is not None:
        statement.where("d.account = ?", account)
    connection = await call.begin()
    row = await connection.fetchrow(statement.text, *statement.arguments)
    if row is None:
        raise missing("deposit", call.path["id"])
    network = context.settings.networks[row["network"]]
    codec = context.codecs[network.id]
    try:
        await review(connection, network.id, codec, network.required, row["id"], decision)
    except Refused as refusal:
        raise Conflict(str(refusal)) from None
    row = await connection.fetchrow(statement.text, *statement.arguments)
    return _deposit(row, await _coins(connection, [row]), context)


_EVENTS: Final = "select position, id, body from event where deposit = $1 order by sequence"

# Reached by their events: that is what they are indexed by.
_DELIVERIES: Final = f"""
    {LIVE} where v.deposit = $1 union all {DONE} where v.deposit = $1
     order by sequence, created_at, id
"""


async def _coins(
    connection: asyncpg.Connection | asyncpg.Pool, rows: Sequence[Any]
) -> dict[str, Coin]:
    found = await connection.fetch(
        "select *, status = 'active' as active from coin where id = any ($1)",
        list({row["coin"] for row in rows}),
    )
    return {row["id"]: coin_from(row) for row in found}


def _deposit(row: Any, coins: Mapping[str, Coin], context: Context) -> Deposit:
    """A deposit as callbacks show it, with the confirmations of this moment."""
    deep = 0 if row["cursor"] is None else max(0, row["cursor"] - row["height"] + 1)
    confirmations = 0 if row["state"] == State.ORPHANED else deep
    codec = context.codecs[row["network"]]
    data = view(deposit_from(row), coins[row["coin"]], codec, confirmations)
    return {
        **cast(DepositData, data),
        "createdAt": format_time(row["created_at"]),
        "updatedAt": format_time(row["updated_at"]),
    }
