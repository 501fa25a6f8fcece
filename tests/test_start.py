"""Where a chain begins for us: at its first block, at a height, at its head."""

from __future__ import annotations

import asyncpg
import pytest

from indexer import origin
from indexer.follower import Outcome
from indexer.model import Unavailable
from tests.followed import WINDOW, Rules, World
from tests.scripted import ScriptedChain, payment
from tests.test_follower import ALICE, advance


async def begin(pool: asyncpg.Pool, blocks: int, rules: Rules) -> World:
    """Over a chain that has some blocks already, each paying alice its height."""
    world = await World.begin(pool)
    await pool.execute("truncate cursor, block, coin cascade")
    world.chain = ScriptedChain()
    for height in range(1, blocks):
        world.chain.mine(payment(height, (ALICE, height)))
    world.rules = rules
    await origin.begin(pool, world.chain, "net", rules)
    world.restart()
    await world.register("alice", ALICE)
    return world


async def units(pool: asyncpg.Pool) -> list[int]:
    rows = await pool.fetch("select units from deposit where state <> 'orphaned' order by units")
    return [row["units"] for row in rows]


async def test_from_the_first_block_of_a_chain_shorter_than_the_window(pool: asyncpg.Pool) -> None:
    world = await begin(pool, 5, Rules(start=0))
    row = await pool.fetchrow("select height, hash from cursor")
    assert tuple(row) == (-1, bytes(32))
    await advance(world, 1)
    assert await units(pool) == [1, 2, 3, 4]
    assert await pool.fetchval("select min(height) from block") == 0
    world.chain.cut(WINDOW)  # everything above the first block
    for height in range(1, 8):
        world.chain.mine(payment(100 + height, (ALICE, 100 + height)))
    assert await world.step() is Outcome.REORGANISED
    assert await units(pool) == list(range(101, 108))


async def test_from_a_height_with_the_headers_below_it(pool: asyncpg.Pool) -> None:
    world = await begin(pool, 30, Rules(start=20))
    assert await pool.fetchval("select min(height) from block") == 19 - WINDOW
    await advance(world, 1)
    assert await units(pool) == list(range(20, 30))


async def test_a_reorg_of_everything_above_the_lowest_stored_block(pool: asyncpg.Pool) -> None:
    world = await begin(pool, 30, Rules())
    assert await pool.fetchval("select min(height) from block") == 29 - WINDOW
    world.chain.cut(WINDOW)
    for height in range(30 - WINDOW, 31):
        world.chain.mine(payment(height, (ALICE, height)))
    assert await world.step() is Outcome.REORGANISED
    assert await units(pool) == [30]
    world.chain.cut(WINDOW + 1)
    for _ in range(WINDOW + 2):
        world.chain.mine()
    assert await world.step() is Outcome.HALTED


async def test_a_start_above_the_head_waits(pool: asyncpg.Pool) -> None:
    with pytest.raises(Unavailable, match="above the chain's head"):
        await begin(pool, 5, Rules(start=6))
    assert await pool.fetchval("select count(*) from cursor") == 0


async def test_a_reorg_while_catching_up_loses_nothing(pool: asyncpg.Pool) -> None:
    """What is fetched ahead is of the old branch when the new one appears."""
    world = await begin(pool, 5, Rules(start=0))
    for height in range(5, 450):
        world.chain.mine(payment(height, (ALICE, height)))
    assert await world.step() is Outcome.EXTENDED
    assert await pool.fetchval("select height from cursor") < 449
    cursor = await pool.fetchval("select height from cursor")
    gone = world.chain.cut(449 - cursor + 3)
    for payments in gone:
        world.chain.mine(*payments)
    world.chain.mine()
    while await world.step() in (Outcome.EXTENDED, Outcome.REORGANISED, None):
        pass
    assert await units(pool) == list(range(1, 450))
    assert await pool.fetchval("select count(*) from event where type like '%orphaned'") == 0
