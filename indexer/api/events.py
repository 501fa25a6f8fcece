"""`GET /v1/events`: an account's feed, gapless by position, whatever its endpoints filter."""

from __future__ import annotations

from typing import Any, cast

import asyncpg
import orjson
from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.errors import Problem
from indexer.api.inputs import Query
from indexer.api.operation import Call, Routes
from indexer.api.pages import DEFAULT_LIMIT, MAX_BIGINT, MAX_LIMIT
from indexer.api.shapes import Event

routes = Routes("Events")


class FeedQuery(Query):
    after: int | None = Field(default=None, ge=0, le=MAX_BIGINT)
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class Feed(TypedDict):
    """A part of an account's feed; it goes on after `nextCursor`, null at its end."""

    items: list[Event]
    nextCursor: str | None


@routes.operation(
    "GET", "/v1/events", needs="read", takes=FeedQuery, answer=Feed, refuses=(409, 410)
)
async def list_events(call: Call, query: FeedQuery) -> Feed:
    """List the account's events after a position, oldest first, without gaps."""
    account = call.acting_account
    _, rows = await read_feed(call.context.pool, account, query.after, query.limit + 1)
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    return {
        "items": [event_view(row) for row in shown],
        "nextCursor": str(shown[-1]["position"]) if more else None,
    }


async def read_feed(
    pool: asyncpg.Pool, account: str, after: int | None, limit: int
) -> tuple[int, list[Any]]:
    """Where it reads from, and rows for `event_view` from there on, oldest first.

    `after` None: from the oldest that is kept. Problem (409, 410) for one that the feed never
    reached, or that it has forgotten.
    """
    async with (
        pool.acquire() as connection,
        # One snapshot: what is forgotten between two looks would be missing without a word.
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        after = await _start(connection, account, after)
        # Positions become visible in their order: the account's row is locked where they are taken.
        rows = await connection.fetch(
            """
            select position, id, body from event
             where account = $1 and position > $2 order by position limit $3
            """,
            account,
            after,
            limit,
        )
    return after, rows


async def _start(connection: asyncpg.Connection, account: str, after: int | None) -> int:
    """The position to read behind; from the oldest kept one where the caller names none."""
    row = await connection.fetchrow(
        "select position as newest, forgotten from account where id = $1", account
    )
    if after is None:
        after = row["forgotten"]
    if after > row["newest"]:
        raise Problem(
            409,
            f"the newest event is {row['newest']}, {after} is beyond it: begin the feed anew",
            code="FEED_RESET",
        )
    if after < row["forgotten"]:
        raise Problem(410, f"events up to {row['forgotten']} are no longer kept")
    return int(after)


def event_view(row: Any) -> Event:
    """An event with what its callbacks carry; `id` is their `webhook-id`."""
    event = {"position": row["position"], "id": row["id"], **orjson.loads(row["body"])}
    return cast(Event, event)
