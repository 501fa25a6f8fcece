"""Coins whose deposits must show in balances: when that is asked, and what the answer decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg
import pytest

from indexer import coverage
from indexer.chains import Holding
from indexer.follower import Outcome
from indexer.model import Unavailable
from tests.followed import World
from tests.scripted import ADDRESSES, STRANGER, TOKEN, Payment, payment
from tests.test_follower import ALICE, advance, world_with_alice
from tests.test_rewind import before_blocks

BOB = ADDRESSES[1]

Row: TypeAlias = tuple[int, str, str | None]


async def checked_world(pool: asyncpg.Pool) -> World:
    """Alice is watched, and a token whose balances must agree is registered."""
    world = await world_with_alice(pool)
    await world.register_coin(balance_check=True)
    await world.step()
    return world


def token_payment(number: int, units: int, to: bytes = ALICE) -> Payment:
    return payment(number, (to, units), asset=TOKEN)


async def rows(world: World) -> list[Row]:
    found = await world.pool.fetch("select units, state, reason from deposit order by units, id")
    return [(row["units"], row["state"], row["reason"]) for row in found]


def says(verdict: bool | None, *holders: bytes) -> Callable[[Holding], bool | None]:
    """An answer about some holders; of all others balances agree."""
    return lambda holding: verdict if holding.holder in holders else True


@pytest.mark.pitfall("P7", "P13")
@pytest.mark.parametrize(
    ("verdict", "row"),
    [
        (True, (5, "detected", None)),
        (False, (5, "held", "balance_mismatch")),
        (None, (5, "held", "balance_unknown")),
    ],
)
async def test_a_deposit_stands_as_the_balance_says(
    pool: asyncpg.Pool, verdict: bool | None, row: Row
) -> None:
    world = await checked_world(pool)
    await world.register("alice", BOB)
    world.chain.agrees = says(verdict, ALICE)
    await advance(world, 3, token_payment(1, 5), token_payment(2, 6, BOB))
    state = "confirmed" if verdict else row[1]
    assert await rows(world) == [(5, state, row[2]), (6, "confirmed", None)]


async def test_each_balance_is_asked_once_and_only_where_it_matters(pool: asyncpg.Pool) -> None:
    world = await checked_world(pool)
    await advance(
        world,
        2,
        token_payment(1, 5),
        token_payment(2, 6),
        token_payment(3, 7, STRANGER),
        payment(4, (ALICE, 8)),
    )
    (asked,) = world.chain.balances
    assert (asked.asset, asked.holder) == (TOKEN, ALICE)
    assert asked.block.header.height == len(world.chain.view) - 2


async def test_a_coin_that_wants_no_check_asks_for_no_balance(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await world.register_coin()
    await advance(world, 2, token_payment(1, 5), payment(2, (ALICE, 6)))
    assert len(await rows(world)) == 2
    assert world.chain.balances == []


async def test_a_scan_asks_as_well(pool: asyncpg.Pool) -> None:
    world = await checked_world(pool)
    await advance(world, 2, token_payment(1, 5, BOB))
    world.chain.agrees = says(False, BOB)
    await world.register("alice", BOB, from_block=1)
    await world.step()
    while await world.scan():
        pass
    assert await rows(world) == [(5, "held", "balance_mismatch")]


async def test_a_swap_asks_about_what_is_new_and_leaves_what_stood(pool: asyncpg.Pool) -> None:
    world = await checked_world(pool)
    stays = token_payment(1, 5)
    await advance(world, 1, stays)
    world.chain.cut(1)
    world.chain.agrees = says(False, ALICE)
    world.chain.mine(stays, token_payment(2, 6))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    assert await rows(world) == [(5, "detected", None), (6, "held", "balance_mismatch")]


async def test_another_amount_this_time_is_asked_about_anew(pool: asyncpg.Pool) -> None:
    world = await checked_world(pool)
    await advance(world, 1, token_payment(1, 5))
    world.chain.cut(1)
    world.chain.agrees = says(None, ALICE)
    world.chain.mine(token_payment(1, 4))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    assert await rows(world) == [(4, "held", "balance_unknown")]
    types = await pool.fetchval("select array_agg(type order by sequence) from event")
    assert types == ["deposit.detected", "deposit.orphaned", "deposit.held"]


async def activate_bob(world: World) -> None:
    """As another process does."""
    await world.register("alice", BOB)
    async with world.pool.acquire() as connection:
        assert await coverage.activate(connection, "net") == 1


async def turn_on(world: World) -> None:
    await world.change_coin(TOKEN, balance_check=True)


@pytest.mark.pitfall("P121")
@pytest.mark.parametrize("act", [activate_bob, turn_on])
async def test_what_is_matched_late_is_not_booked_unasked(
    pool: asyncpg.Pool, act: Callable[[World], Awaitable[None]]
) -> None:
    """The step that meets it leaves all as it is; the next one asks."""
    world = await world_with_alice(pool)
    if act is turn_on:
        await world.register("alice", BOB)
    await world.register_coin(balance_check=act is activate_bob)
    await world.step()
    world.chain.agrees = says(False, BOB)
    world.chain.mine(token_payment(1, 5, BOB))
    before_blocks(world.chain, lambda: act(world))
    assert await world.step() is None
    assert await rows(world) == []
    assert await world.step() is Outcome.EXTENDED
    assert await rows(world) == [(5, "held", "balance_mismatch")]


async def test_what_a_scan_matches_late_is_not_booked_unasked(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await world.register_coin()
    await world.step()
    await advance(world, 2, token_payment(1, 5, BOB))
    world.chain.agrees = says(False, BOB)
    await world.register("alice", BOB, from_block=1)
    await world.step()
    before_blocks(world.chain, lambda: turn_on(world))
    assert not await world.scan()
    assert await rows(world) == []
    while await world.scan():
        pass
    assert await rows(world) == [(5, "held", "balance_mismatch")]


async def test_a_check_that_is_turned_off_is_asked_no_more(pool: asyncpg.Pool) -> None:
    world = await checked_world(pool)
    world.chain.agrees = says(False, ALICE)
    await advance(world, 1, token_payment(1, 5))
    await world.change_coin(TOKEN, balance_check=False)
    await advance(world, 1, token_payment(2, 6))
    assert await rows(world) == [(5, "held", "balance_mismatch"), (6, "detected", None)]
    assert len(world.chain.balances) == 1


async def test_a_node_that_fails_is_asked_again_before_anything_is_booked(
    pool: asyncpg.Pool,
) -> None:
    world = await checked_world(pool)

    def fail(_: Holding) -> bool:
        raise Unavailable("no answer")

    world.chain.agrees = fail
    world.chain.mine(token_payment(1, 5))
    with pytest.raises(Unavailable):
        await world.follower.step()
    assert await rows(world) == []
    world.chain.agrees = says(True)
    assert await world.step() is Outcome.EXTENDED
    assert await rows(world) == [(5, "detected", None)]


async def test_what_a_person_must_see_is_not_let_go_when_its_coin_turns_active(
    pool: asyncpg.Pool,
) -> None:
    world = await checked_world(pool)
    await world.register("alice", BOB)
    await world.change_coin(TOKEN, active=False, cap=100)
    world.chain.agrees = says(False, ALICE)
    await advance(
        world, 1, token_payment(1, 5), token_payment(2, 6, BOB), token_payment(3, 101, BOB)
    )
    held = [(5, "held", "balance_mismatch"), (101, "held", "above_cap")]
    assert await rows(world) == [held[0], (6, "held", "coin_inactive"), held[1]]
    await world.change_coin(TOKEN, active=True)
    assert await rows(world) == [held[0], (6, "detected", None), held[1]]


async def test_what_is_below_the_minimum_is_ignored_whatever_its_balance(
    pool: asyncpg.Pool,
) -> None:
    world = await checked_world(pool)
    await world.change_coin(TOKEN, minimum=10)
    world.chain.agrees = says(False, ALICE)
    await advance(world, 1, token_payment(1, 5))
    assert await rows(world) == [(5, "ignored", "below_minimum")]
