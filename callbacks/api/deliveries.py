"""Deliveries: an endpoint's, newest first, and one with its attempts."""

from __future__ import annotations

from typing import Any, Final, Literal

import asyncpg
from typing_extensions import TypedDict

from callbacks import endpoints, resends
from callbacks.api.endpoints import show
from indexer.api.concealed import DELIVERY, conceal, reveal
from indexer.api.delivery import DONE, LIVE, Delivery, delivery_view
from indexer.api.errors import Conflict, Problem, missing
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.model import format_time
from indexer.secret import Vault

MAX_ATTEMPTS: Final = 500  # shown of a delivery, the newest
MS_DIGITS: Final = 3  # behind the point of milliseconds

routes = Routes("Deliveries")

State = Literal["pending", "delivered", "exhausted", "cancelled"]

# By state: where it is looked for. A constant lets the planner use the index of what failed.
_FINISHED: Final = {
    "delivered": "d.state = 'delivered'",
    "exhausted": "d.state = 'exhausted'",
    "cancelled": "d.state = 'cancelled'",
}


class DeliveryQuery(PageQuery):
    state: State | None = None


class Attempt(TypedDict):
    """One HTTP request. `error` null: success. Times are milliseconds, null: a step not taken."""

    delivery: str
    number: int
    at: Time
    charged: bool
    status: int | None
    error: str | None
    address: str | None
    dnsMs: float | None
    connectMs: float | None
    tlsMs: float | None
    firstByteMs: float | None
    totalMs: float
    head: str | None


class DeliveryHistory(Delivery):
    attempts: list[Attempt]


@routes.operation(
    "GET",
    "/v1/endpoints/{id}/deliveries",
    needs="read",
    takes=DeliveryQuery,
    answer=Page[Delivery],
)
async def list_deliveries(call: Call, query: DeliveryQuery) -> Page[Delivery]:
    """List the deliveries to an endpoint, newest first."""
    name = (await show(call, call.path["id"]))["id"]
    rows: list[Any] = []
    async with call.context.pool.acquire() as connection, _snapshot(connection):
        for statement in _tables(query.state):
            statement.where("d.endpoint = ?", name)
            text = statement.page(query, "d.created_at", "d.id", int)
            rows += await connection.fetch(text, *statement.arguments)
    rows.sort(key=lambda row: (row["created_at"], row["id"]), reverse=True)
    vault = call.context.vault
    return page(rows, query, "id", lambda row: delivery_view(row, vault))


def _tables(state: State | None) -> list[Statement]:
    """What has to be read for deliveries in a state, or in any."""
    if state is None:
        return [Statement(LIVE), Statement(DONE)]
    if state == "pending":
        return [Statement(LIVE)]
    finished = Statement(DONE)
    finished.where(_FINISHED[state])
    return [finished]


@routes.operation("GET", "/v1/deliveries/{id}", needs="read", answer=DeliveryHistory)
async def get_delivery(call: Call) -> DeliveryHistory:
    """Show one delivery with its attempts, the first of them first."""
    vault = call.context.vault
    async with call.context.pool.acquire() as connection, _snapshot(connection):
        row = await _find(call, connection)
        attempts = await connection.fetch(_ATTEMPTS, row["id"], MAX_ATTEMPTS)
    return {
        **delivery_view(row, vault),
        "attempts": [attempt_view(attempt, vault) for attempt in reversed(attempts)],
    }


_ATTEMPTS: Final = "select * from attempt where delivery = $1 order by number desc limit $2"


@routes.operation(
    "POST",
    "/v1/deliveries/{id}/resend",
    needs="write",
    answer=Delivery,
    refuses=(409, 410),
    creates=True,
)
async def resend_delivery(call: Call) -> Delivery:
    """Send a delivery again, or now where it waits for its next attempt."""
    connection = await call.begin()
    row = await _find(call, connection)
    if row["type"] is None:
        raise Problem(410, "the event of this delivery is no longer kept")
    if not await endpoints.share(connection, row["endpoint"]):
        raise Conflict("the endpoint of this delivery was deleted")
    if row["state"] == "pending":
        await resends.send_now(connection, row["id"])
    else:
        await resends.send_again(connection, row["endpoint"], [row["event"]])
    return delivery_view(await _find(call, connection), call.context.vault)


def _snapshot(connection: asyncpg.Connection) -> Any:
    """A transaction in which a delivery that ends is not seen twice, nor not at all."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


async def _find(call: Call, connection: asyncpg.Connection) -> Any:
    """The row of the delivery in the path. 404 if the caller has none."""
    number, account = reveal(call.context.vault, DELIVERY, call.path["id"]), call.account
    for statement in _tables(None) if number is not None else ():
        statement.where("d.id = ?", number)
        if account is not None:
            statement.where("v.account = ?", account)
        row = await connection.fetchrow(statement.text, *statement.arguments)
        if row is not None:
            return row
    raise missing("delivery", call.path["id"])


def attempt_view(row: Any, vault: Vault) -> Attempt:
    return {
        "delivery": conceal(vault, DELIVERY, row["delivery"]),
        "number": row["number"],
        "at": format_time(row["at"]),
        "charged": row["charged"],
        "status": row["status"],
        "error": row["error"],
        "address": None if row["address"] is None else str(row["address"]),
        "dnsMs": _rounded(row["dns_ms"]),
        "connectMs": _rounded(row["connect_ms"]),
        "tlsMs": _rounded(row["tls_ms"]),
        "firstByteMs": _rounded(row["first_byte_ms"]),
        "totalMs": round(row["total_ms"], MS_DIGITS),
        "head": row["head"],
    }


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, MS_DIGITS)
