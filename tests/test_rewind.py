"""Rewinds and swaps that meet something else: removals, finality, a chain that moves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import asyncpg
import pytest

from indexer import coverage, follower, origin
from indexer.chains import Block
from indexer.cursors import Stale
from indexer.follower import Outcome
from indexer.model import Unavailable
from tests.followed import World
from tests.scripted import ADDRESSES, ScriptedChain, payment
from tests.test_follower import ALICE, advance, states, world_with_alice

EMPTY = ADDRESSES[1]


def before_blocks(chain: ScriptedChain, act: Callable[[], Awaitable[object]]) -> None:
    """Have something happen once, when the follower asks for blocks."""
    serve = chain.blocks

    async def blocks(first: int, last: int) -> AsyncGenerator[Block, None]:
        chain.blocks = serve  # type: ignore[method-assign]
        await act()
        async for block in serve(first, last):
            yield block

    chain.blocks = blocks  # type: ignore[method-assign]


async def removed_long_ago(pool: asyncpg.Pool) -> World:
    """Two addresses removed more than a window ago, one with a deposit, in a new process."""
    world = await world_with_alice(pool)
    await world.register("alice", EMPTY)
    await world.step()
    await advance(world, 1, payment(1, (ALICE, 5)))
    async with pool.acquire() as connection, connection.transaction():
        for key in (ALICE, EMPTY):
            assert await coverage.remove_address(connection, "net", "alice", key)
    await advance(world, 30)
    world.restart()
    await world.step()
    return world


@pytest.mark.pitfall("P47")
async def test_a_rewind_finds_the_deposits_of_addresses_that_nobody_watches_any_more(
    pool: asyncpg.Pool,
) -> None:
    world = await removed_long_ago(pool)
    before = await pool.fetchval("select count(*) from event")
    assert await origin.rewind(pool, world.chain, "net", world.rules, 1) == 1
    world.chain.hidden = 20
    await advance(world, 1)
    assert await pool.fetchval("select count(*) from deposit where unplaced") == 0
    world.chain.hidden = 0
    await advance(world, 1)
    assert await pool.fetchval("select count(*) from event") == before


async def test_and_where_a_process_that_starts_on_the_way_meets_them(pool: asyncpg.Pool) -> None:
    world = await removed_long_ago(pool)
    world.chain.final_depth = None
    before = await pool.fetchval("select count(*) from event")
    moved = world.chain.view[2][1]
    world.chain.view[2:] = []
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    await advance(world, 20)
    world.restart()
    await advance(world, 1, *moved)
    assert await pool.fetchval("select count(*) from deposit where unplaced") == 0
    assert await pool.fetchval("select count(*) from event") == before


async def test_and_where_a_swap_brings_them(pool: asyncpg.Pool) -> None:
    world = await removed_long_ago(pool)
    world.chain.final_depth = None
    before = await pool.fetchval("select count(*) from event")
    moved = world.chain.view[2][1]
    world.chain.view[2:] = []
    for _ in range(20):
        world.chain.mine()
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    await advance(world, 1)
    world.restart()  # above the window in which the removal would be remembered
    world.chain.cut(4)
    world.chain.mine(*moved)
    for _ in range(20):
        world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    while await world.step() is Outcome.EXTENDED:
        pass
    assert await pool.fetchval("select count(*) from deposit where unplaced") == 0
    assert await pool.fetchval("select count(*) from event") == before


async def test_a_new_payment_before_the_removal_is_found_after_a_rewind(
    pool: asyncpg.Pool,
) -> None:
    world = await removed_long_ago(pool)
    world.chain.final_depth = None
    world.chain.view[2:] = []
    world.chain.mine(payment(7, (EMPTY, 7)))
    for _ in range(40):
        world.chain.mine()
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    await advance(world, 1)
    rows = await pool.fetch("select units, state from deposit order by units")
    # What the node called final on the other branch is final no more, though our headers are above.
    assert [tuple(r) for r in rows] == [(5, "orphaned"), (7, "confirmed")]


async def test_a_rewind_onto_a_block_that_was_replaced_meanwhile_is_not_done(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await advance(world, 6, payment(1, (ALICE, 5)))
    asked = world.chain.headers

    async def swapped_meanwhile(heights: range) -> object:
        answer = await asked(heights)
        if len(heights) > 2:
            world.chain.headers = asked  # type: ignore[method-assign]
            world.chain.cut(4)
            await advance(world, 6)
        return answer

    world.chain.headers = swapped_meanwhile  # type: ignore[assignment, method-assign]
    with pytest.raises(Unavailable, match="replaced meanwhile"):
        await origin.rewind(pool, world.chain, "net", world.rules, 5)
    assert await pool.fetchval("select rewinds from cursor") == 0


async def test_what_became_final_while_a_branch_was_fetched_is_not_swapped(
    pool: asyncpg.Pool,
) -> None:
    """Another follower may learn it in the middle of a swap."""
    world = await world_with_alice(pool)
    world.chain.final_depth = None
    paid = payment(1, (ALICE, 5))
    await advance(world, 4, paid)
    world.chain.cut(4)
    for _ in range(5):
        world.chain.mine()
    await world.follower.close()

    async def finalize() -> None:
        await pool.execute("update cursor set finalized = 3, version = version + 1")
        await pool.execute("update deposit set state = 'finalized'")

    serve = world.chain.blocks

    async def blocks(first: int, last: int) -> AsyncGenerator[Block, None]:
        if first == 2:  # the branch, above the common ancestor
            await finalize()
        async for block in serve(first, last):
            yield block

    world.chain.blocks = blocks  # type: ignore[method-assign]
    with pytest.raises(Stale, match="finality"):
        await world.follower.step()
    assert (await states(world))[paid.tx][0] == "finalized"
    assert await world.step() is Outcome.HALTED


async def test_an_endpoint_that_is_no_longer_than_we_are_swaps_nothing_in_mid_step(
    pool: asyncpg.Pool,
) -> None:
    """The followed endpoint changes between the look at the tip and the look at the branch."""
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 2, paid)
    other = ScriptedChain("node-b", list(world.chain.view), salt=500)
    other.cut(2)
    for _ in range(3):
        other.mine()

    async def fail_over() -> None:
        world.chain.view, world.chain.source = list(other.view), "node-b"
        world.chain.hidden = 1

    world.chain.mine()
    serve = other.blocks

    async def blocks(first: int, last: int) -> AsyncGenerator[Block, None]:
        await fail_over()
        async for block in serve(first, last):
            yield block

    world.chain.blocks = blocks  # type: ignore[method-assign]
    assert await world.step() is Outcome.FORKED
    assert (await states(world))[paid.tx] == ("detected", 1)
    world.chain.hidden = 0
    del world.chain.blocks
    assert await world.step() is Outcome.REORGANISED


async def test_a_long_branch_is_swapped_up_to_a_bound_of_bytes(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "BATCH_BYTES", 500)  # five scripted blocks
    world = await world_with_alice(pool)
    await advance(world, 3)
    world.chain.cut(3)
    for _ in range(30):
        world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    assert await pool.fetchval("select height from cursor") == 6
    await advance(world, 1)


async def test_the_watch_set_is_loaded_before_the_cursor_is_locked(pool: asyncpg.Pool) -> None:
    """Ten million keys take a while."""
    world = await world_with_alice(pool)
    world.restart()
    world.chain.mine()
    before_blocks(world.chain, loaded := Seen(world))
    await world.step()
    assert loaded.keys == 1


class Seen:
    """How many keys a world's watch set has when it is called."""

    def __init__(self, world: World) -> None:
        self._world, self.keys = world, 0

    async def __call__(self) -> None:
        self.keys = len(self._world.watch)


async def test_what_stands_nowhere_is_not_confirmed_by_a_change_of_its_coin(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    world.chain.final_depth = None
    await advance(world, 2, payment(1, (ALICE, 5)))
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    world.chain.cut(2)
    await advance(world, 2)  # up to the old height, and not beyond
    await world.change_coin(b"", confirmations=1)
    assert await pool.fetchval("select state from deposit") == "detected"
