"""`/v1/endpoints/{id}/resend`: a range of an endpoint's past, sent again."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from callbacks import resends
from callbacks.api.endpoints import locked, show
from indexer.api.concealed import RESEND, conceal, reveal
from indexer.api.errors import missing
from indexer.api.inputs import Body, Instant
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.model import format_time
from indexer.secret import Vault

routes = Routes("Deliveries")

Ended = Literal["delivered", "exhausted", "cancelled"]


class ResendRange(Body):
    """Events from `since` to `until`, inclusive and exclusive; of `states` only those that ended
    so, without them also those that never had a delivery."""

    since: Instant
    until: Instant | None = None
    states: Annotated[list[Ended], Field(min_length=1, max_length=3)] | None = None
    dry_run: bool = False


class ResendCount(TypedDict):
    count: int


class Resend(TypedDict):
    """A range that is not done yet; `count`: its events when it was asked for."""

    id: str
    since: Time
    until: Time
    states: list[Ended] | None
    count: int
    createdAt: Time


@routes.operation(
    "POST",
    "/v1/endpoints/{id}/resend",
    needs="write",
    takes=ResendRange,
    answer=ResendCount,
    creates=True,
)
async def resend_range(call: Call, body: ResendRange) -> ResendCount:
    """Send the events of a time again, at a fifth of the endpoint's rate; or count them.

    It reaches 30 days back, and what happened before there was the endpoint.
    """
    name = call.path["id"]
    if body.dry_run:
        await show(call, name)
        async with call.context.pool.acquire() as connection:
            wanted = await resends.bounded(connection, body.since, body.until, body.states)
            return {"count": await resends.count(connection, name, wanted)}
    await locked(call)
    connection = await call.begin()
    wanted = await resends.bounded(connection, body.since, body.until, body.states)
    return {"count": await resends.begin(connection, name, wanted)}


@routes.operation(
    "GET", "/v1/endpoints/{id}/resends", needs="read", takes=PageQuery, answer=Page[Resend]
)
async def list_resends(call: Call, query: PageQuery) -> Page[Resend]:
    """List the ranges that are not done yet, newest first."""
    statement = Statement("select * from resend")
    statement.where("endpoint = ?", (await show(call, call.path["id"]))["id"])
    text = statement.page(query, "created_at", "id", int)
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", lambda row: _resend(row, call.context.vault))


@routes.operation("DELETE", "/v1/endpoints/{id}/resends/{resend}", needs="write", answer=NoneType)
async def cancel_resend(call: Call) -> None:
    """Cancel a range: what is not on its way yet is not sent again."""
    await locked(call)
    number = reveal(call.context.vault, RESEND, call.path["resend"])
    if number is None or not await resends.cancel(await call.begin(), call.path["id"], number):
        raise missing("resend", call.path["resend"])


def _resend(row: Any, vault: Vault) -> Resend:
    return {
        "id": conceal(vault, RESEND, row["id"]),
        "since": format_time(row["since"]),
        "until": format_time(row["until"]),
        "states": row["states"],
        "count": row["count"],
        "createdAt": format_time(row["created_at"]),
    }
