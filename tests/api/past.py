"""A past for the tests of endpoints' routes: endpoints, and alice's deposits with their events."""

from __future__ import annotations

from typing import Any, Final

from indexer.api.concealed import DELIVERY, conceal, reveal
from tests import callback_rows as rows
from tests.api.world import Caller, World

URL: Final = "https://8.8.8.8/hook"  # a literal: nothing is looked up


async def endpoint(caller: Caller, url: str = URL, **given: Any) -> tuple[str, str]:
    """The path and the secret of a new one."""
    made = await caller.post("/v1/endpoints", {"url": url, **given})
    assert made.status == 201, made
    return f"/v1/endpoints/{made.body['id']}", made.body["secret"]


async def happen(world: World, deposits: int, events: int = 1) -> list[str]:
    """The ids of so many new deposits of alice's, each with so many events."""
    if not await world.pool.fetchval("select exists (select from network where id = 'net')"):
        await rows.world(world.pool)
    first = await world.pool.fetchval("select count(*) from deposit")
    return [
        await rows.history(world.pool, number, events, account="alice")
        for number in range(first, first + deposits)
    ]


def named(world: World, number: int) -> str:
    """The id that the delivery of this number has for callers."""
    return conceal(world.context.vault, DELIVERY, number)


def numbered(world: World, shown_id: str) -> int:
    """The number that the delivery of this id has in the database."""
    number = reveal(world.context.vault, DELIVERY, shown_id)
    assert number is not None, shown_id
    return number


async def states(world: World) -> list[tuple[str, str | None]]:
    """State and reason of all deliveries, the oldest first."""
    found = await world.pool.fetch(
        """
        select id, 'pending' as state, null as reason from delivery
         union all select id, state::text, reason from delivery_done order by id
        """
    )
    return [(row["state"], row["reason"]) for row in found]
