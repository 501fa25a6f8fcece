"""Where the networks stand, by the API."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from indexer.lease import FOLLOW, LEASE
from tests import contract
from tests.api.world import HEIGHT, World

PROCESS = UUID(int=1)


async def ethereum(world: World) -> dict[str, Any]:
    listed = (await world.alice.get("/v1/networks")).body["items"]
    found: dict[str, Any] = next(each for each in listed if each["network"] == "ethereum")
    return found


async def test_a_network_says_where_it_stands_in_the_promised_order(world: World) -> None:
    await world.pool.execute(
        "update network set state = 'following', head = $1, updated_at = clock()", HEIGHT + 2
    )
    found = await ethereum(world)
    assert " ".join(found) == contract.ANSWERS["GET /v1/networks"]
    assert list(found.values()) == [
        *("ethereum", "evm", HEIGHT + 2, HEIGHT, 2, None),
        *("following", None),
    ]


async def test_a_network_that_nobody_follows_any_more_is_not_following(world: World) -> None:
    await world.pool.execute(
        "update network set state = 'following', updated_at = clock() - interval '5 minutes'"
    )
    await world.pool.execute(
        "insert into lease (name, holder, until, process) values ($1, $2, clock() + $3, 'test:1')",
        f"{FOLLOW}ethereum",
        PROCESS,
        LEASE,
    )
    assert (await ethereum(world))["state"] == "following"  # who holds it waits for the next block
    await world.pool.execute("update lease set until = clock() - interval '1 second'")
    found = await ethereum(world)
    assert found["state"] == "unreachable"
    said = r"no process has spoken of it for 3\d\d s; then it was following"
    assert re.fullmatch(said, found["reason"])
