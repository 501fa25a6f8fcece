"""`/v1/endpoints`: where an account wants its callbacks, and which."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Final, Literal, NotRequired, cast

import orjson
from pydantic import Field, StringConstraints
from typing_extensions import TypedDict

from callbacks import endpoints
from callbacks.api.checks import MASK, check
from callbacks.endpoints import Given
from callbacks.guard import MAX_URL
from indexer.api.context import Context
from indexer.api.errors import Conflict, missing
from indexer.api.inputs import AmountText, Body, Rate, Text
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Amount, Time, optional_time
from indexer.model import format_time

MAX_ENDPOINTS: Final = 1_000  # of one account: each event is offered to all of them
MAX_FILTERS: Final = 100  # entries of one filter
MIN_RATE: Final = 0.1  # deliveries a second
MAX_RATE: Final = 1_000.0
MAX_CONCURRENCY: Final = 64  # deliveries at once
MIN_HEARTBEAT: Final = 60  # seconds
MAX_HEARTBEAT: Final = 7 * 24 * 3600

routes = Routes("Endpoints")

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
Pattern = Annotated[str, StringConstraints(pattern=r"^[a-z*]+(\.[a-z*]+)*$", max_length=64)]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=MAX_FILTERS)]
Names = Annotated[list[Text], Field(min_length=1, max_length=MAX_FILTERS)]


class EndpointChange(Body):
    """What is left out stays; null is what it is where nobody sets it."""

    url: Url | None = None
    events: Patterns | None = None
    networks: Names | None = None
    coins: Names | None = None
    min_amount: AmountText | None = None
    headers: dict[str, str] | None = None
    rate_limit: Annotated[Rate, Field(ge=MIN_RATE, le=MAX_RATE)] | None = None
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    heartbeat_seconds: Annotated[int, Field(ge=MIN_HEARTBEAT, le=MAX_HEARTBEAT)] | None = None
    description: Text | None = None

    def given(self) -> Given:
        return cast(Given, {name: getattr(self, name) for name in self.model_fields_set})


class NewEndpoint(EndpointChange):
    url: Url


class Health(TypedDict):
    """How an endpoint fares that fails. Until `openUntil` nothing is sent, then a probe."""

    failures: int
    failingSince: Time | None
    openUntil: Time | None
    pausedUntil: Time | None


class Secret(TypedDict):
    """One that signs; `expiresAt` null: the newest."""

    createdAt: Time
    expiresAt: Time | None


class Endpoint(TypedDict):
    id: str
    account: str | None
    url: str
    events: list[str] | None
    networks: list[str] | None
    coins: list[str] | None
    minAmount: Amount | None
    headers: dict[str, str]
    rateLimit: float
    concurrency: int
    heartbeatSeconds: int | None
    description: str | None
    state: Literal["active", "paused", "disabled"]
    stateReason: str | None
    stateSince: Time
    health: Health | None
    secrets: list[Secret]
    sourceAddresses: list[str]
    createdAt: Time


class CreatedEndpoint(Endpoint):
    secret: NotRequired[str]


@routes.operation(
    "POST",
    "/v1/endpoints",
    needs="write",
    takes=NewEndpoint,
    answer=CreatedEndpoint,
    status=201,
)
async def create_endpoint(call: Call, body: NewEndpoint) -> CreatedEndpoint:
    """Create an endpoint. Its secret is shown this once.

    Without `events` it gets all deposit.* but deposit.finalized. One that an admin creates without
    `?account=` is the operator's own: it gets the news of all endpoints.
    """
    context, account, given = call.context, call.account, body.given()
    await check(given, context, account)
    connection = await call.begin()
    if await endpoints.count(connection, account) >= MAX_ENDPOINTS:
        raise Conflict(f"there are {MAX_ENDPOINTS} endpoints already, as many as there can be")
    name, secret = await endpoints.create_endpoint(connection, context.vault, account, given)
    return {**await show(call, name), "secret": secret}


@routes.operation("GET", "/v1/endpoints", needs="write", takes=PageQuery, answer=Page[Endpoint])
async def list_endpoints(call: Call, query: PageQuery) -> Page[Endpoint]:
    """List endpoints, newest first."""
    statement = await _visible(call)
    text = statement.page(query, "e.created_at", "e.id")
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", lambda row: _endpoint(row, call.context))


@routes.operation("GET", "/v1/endpoints/{id}", needs="write", answer=Endpoint)
async def get_endpoint(call: Call) -> Endpoint:
    """Show one endpoint."""
    return await show(call, call.path["id"])


@routes.operation(
    "PATCH", "/v1/endpoints/{id}", needs="write", takes=EndpointChange, answer=Endpoint
)
async def change_endpoint(call: Call, body: EndpointChange) -> Endpoint:
    """Change what is given. Filters act on the events from now on."""
    name, given = call.path["id"], body.given()
    await check(given, call.context, (await show(call, name))["account"])
    await locked(call)
    await endpoints.change_endpoint(await call.begin(), call.context.vault, name, given)
    return await show(call, name)


@routes.operation("DELETE", "/v1/endpoints/{id}", needs="write", answer=NoneType)
async def delete_endpoint(call: Call) -> None:
    """Delete an endpoint; what waits for it is cancelled."""
    name, pool = call.path["id"], call.context.pool
    await show(call, name)
    async with pool.acquire() as connection:
        await endpoints.pause(connection, name, "deleting")
    await endpoints.cancel(pool, name, "endpoint_deleted")
    await locked(call)
    await endpoints.delete_endpoint(await call.begin(), name)


async def locked(call: Call) -> str:
    """Lock the endpoint of the path until the call's end; its state. 404 if the caller has none."""
    state = await endpoints.lock(await call.begin(), call.path["id"], call.account)
    if state is None:
        raise missing("endpoint", call.path["id"])
    return state


async def show(call: Call, name: str) -> Endpoint:
    """One endpoint as the call's transaction sees it. 404 if the caller has none of that name."""
    statement = await _visible(call)
    statement.where("e.id = ?", name)
    reader = call.connection or call.context.pool
    row = await reader.fetchrow(statement.text, *statement.arguments)
    if row is None:
        raise missing("endpoint", name)
    return _endpoint(row, call.context)


async def _visible(call: Call) -> Statement:
    statement = Statement(endpoints.VIEW)
    account = call.account
    if account is not None:
        statement.where("e.account = ?", account)
    return statement


def _endpoint(row: Any, context: Context) -> Endpoint:
    """As its owner sees it. The URL may hold a secret of his: it is never logged."""
    headers = {}
    if row["headers"] is not None:
        headers = orjson.loads(context.vault.decrypt(row["headers"], row["id"]))
    return {
        "id": row["id"],
        "account": row["account"],
        "url": row["url"],
        "events": row["events"],
        "networks": row["networks"],
        "coins": row["coins"],
        "minAmount": row["min_amount"],
        "headers": dict.fromkeys(headers, MASK),
        "rateLimit": row["rate_limit"],
        "concurrency": row["concurrency"],
        "heartbeatSeconds": row["heartbeat_seconds"],
        "description": row["description"],
        "state": row["state"],
        "stateReason": row["state_reason"],
        "stateSince": format_time(row["state_since"]),
        "health": _health(row),
        "secrets": [
            {"createdAt": format_time(made), "expiresAt": optional_time(ends)}
            for made, ends in zip(row["secrets_made"], row["secrets_end"], strict=True)
        ],
        "sourceAddresses": [
            str(each.network_address if each.num_addresses == 1 else each)
            for each in context.settings.callbacks.source_addresses
        ],
        "createdAt": format_time(row["created_at"]),
    }


def _health(row: Any) -> Health | None:
    if not row["failures"]:
        return None
    return {
        "failures": row["failures"],
        "failingSince": optional_time(row["failing_since"]),
        "openUntil": optional_time(row["open_until"]),
        "pausedUntil": optional_time(row["paused_until"]),
    }
