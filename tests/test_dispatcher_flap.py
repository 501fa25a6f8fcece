"""A deposit that leaves the chain and comes back, as a receiver sees it: in order, or in any."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import asyncpg
import pytest

from indexer.follower import Outcome
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import dispatching, hurried, settled
from tests.followed import World
from tests.harness.witness import witness
from tests.scripted import ADDRESSES, payment

ACCOUNT = "alice"
FLAPS = 3
REPLAYS = 200


def believed(bodies: Iterable[bytes]) -> dict[str, dict[str, Any]]:
    """What a receiver believes of each deposit that keeps the highest sequence it has seen."""
    known: dict[str, dict[str, Any]] = {}
    for body in bodies:
        data = json.loads(body)["data"]
        if data["sequence"] > known.get(data["id"], {"sequence": 0})["sequence"]:
            known[data["id"]] = data
    return known


async def flap(world: World) -> None:
    """Confirmed, orphaned, and confirmed in another block, again and again, with another amount."""
    paid = payment(1, (ADDRESSES[0], 5))
    for flaps in range(FLAPS + 1):
        for blocks in ([replace(paid, outputs=((ADDRESSES[0], 5 + flaps),))], [], []):
            world.chain.mine(*blocks)
        while await world.step() is not Outcome.IDLE:
            pass
        if flaps < FLAPS:
            world.chain.cut(3)
            for _ in range(4):
                world.chain.mine()
            while await world.step() is not Outcome.IDLE:
                pass


@pytest.mark.case(35)
async def test_a_flapping_reorg_converges_in_whatever_order_it_is_replayed(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    world = await World.begin(pool)
    await world.register(ACCOUNT, ADDRESSES[0])
    await world.step()
    async with witness(fail=0.2, seed=35) as shop, dispatching(pool, vault), hurried(pool):
        shop.know(await bulk.endpoints(pool, vault, {ACCOUNT: shop.url(ACCOUNT)}))
        await flap(world)
        await settled(pool)
    [deposit] = await pool.fetch("select id, state, units from deposit")
    events = await pool.fetch("select id, sequence, body from event order by sequence")
    accepted = [each for each in shop.arrivals if each.accepted]
    assert [each.event for each in accepted] == [row["id"] for row in events]
    assert len({row["id"] for row in events}) == len(events) == 2 + 3 * FLAPS
    assert [row["sequence"] for row in events] == list(range(1, len(events) + 1))
    last = believed(each.body for each in accepted)
    assert (last[deposit["id"]]["status"], last[deposit["id"]]["amountUnits"]) == (
        deposit["state"],
        str(deposit["units"]),
    )
    assert (deposit["state"], deposit["units"]) == ("confirmed", 5 + FLAPS)
    rng = Random(35)
    for _ in range(REPLAYS):
        replayed = [each.body for each in accepted] + rng.choices([each.body for each in accepted])
        rng.shuffle(replayed)
        assert believed(replayed) == last
