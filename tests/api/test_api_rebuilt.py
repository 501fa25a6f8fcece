"""A database that is lost and indexed anew: receivers hear what they have heard before."""

from __future__ import annotations

from typing import Final

import asyncpg
import pytest

from indexer.database import connect_pool
from tests.api.world import HEIGHT, World, address
from tests.callback_runs import dispatching, settled
from tests.conftest import TEMPLATE, Server
from tests.harness.receiver import Receiver, receiver

ETHER: Final = 10**18
DEPOSITS: Final = 4


async def index(pool: asyncpg.Pool, shop: Receiver) -> None:
    """Watch, be paid, see it confirmed, and have it all delivered."""
    world = await World.begin(pool)
    try:
        async with world.with_callbacks(allow_private=True, allow_http=True) as alice:
            made = await alice.post("/v1/endpoints", {"url": shop.url})
            shop.secrets.append(made.body["secret"])
        numbers = range(1, DEPOSITS + 1)
        await world.alice.register("ethereum", *(address(number) for number in numbers))
        await world.activate("ethereum")
        for number in numbers:
            await world.pay(number, address(number), ETHER, height=HEIGHT + number)
        await world.pay(99, address(99), ETHER, height=HEIGHT + 50)  # nobody's, but the chain grows
        async with dispatching(pool, world.context.vault):
            await settled(pool)
    finally:
        await world.close()


@pytest.mark.case(36)
async def test_a_database_indexed_from_scratch_gives_every_event_the_id_it_had(
    pool: asyncpg.Pool, server: Server
) -> None:
    dsn = await server.create(TEMPLATE)
    async with receiver() as shop:
        await index(pool, shop)
        first = list(shop.requests)
        other = await connect_pool(dsn)
        try:
            await index(other, shop)
        finally:
            await other.close()
            await server.drop(dsn)
    second = shop.requests[len(first) :]
    assert not shop.refused
    assert len({each.id for each in first}) == len(first) == 2 * DEPOSITS
    known = {each.id: (each.deposit, each.sequence, each.type) for each in first}
    assert {each.id: (each.deposit, each.sequence, each.type) for each in second} == known
