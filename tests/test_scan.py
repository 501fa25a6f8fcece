"""A scan books what is on our chain, in an order in which nobody waits for a long backfill."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from indexer import cursors, feed, ledger, origin
from indexer.cursors import Stale
from indexer.follower import Outcome
from indexer.model import Unavailable
from indexer.scan.booking import PastBooking
from tests.followed import World
from tests.scripted import ADDRESSES, ScriptedChain, payment
from tests.test_follower import ALICE, advance, world_with_alice

BOB = ADDRESSES[1]


async def shorten(pool: asyncpg.Pool, last: int) -> None:
    """Have the open scan end earlier."""
    await pool.execute(
        "update scan set last = $1, unread = unread * int8multirange(int8range(null, $1, '[]'))",
        last,
    )


@pytest.mark.pitfall("P47", "P122")
async def test_blocks_of_another_branch_below_the_stored_headers_are_not_booked(
    pool: asyncpg.Pool,
) -> None:
    """A node that is on a branch deeper than the window halts the network; scans go on."""
    world = await world_with_alice(pool)
    world.chain.final_depth = None
    await advance(world, 14)
    await world.register("bob", BOB, from_block=1)
    await world.step()
    ours = ScriptedChain(view=list(world.chain.view), salt=900)
    world.chain.cut(13)
    for n in range(14):
        world.chain.mine(payment(n, (BOB, 1 + n)))
    assert await world.step() is Outcome.HALTED
    await shorten(pool, 4)  # wholly below the window
    with pytest.raises(Unavailable, match="another branch"):
        await world.scanner.step()
    assert await pool.fetchval("select count(*) from deposit") == 0
    world.chain.view = ours.view
    assert await world.scanner.step()
    assert await pool.fetchval("select state from scan") == "done"


async def test_a_scan_on_a_forked_node_waits_like_for_one_that_is_down(pool: asyncpg.Pool) -> None:
    """Stale would mean: step again at once."""
    world = await world_with_alice(pool)
    await advance(world, 5)
    await world.register("bob", BOB, from_block=4)
    await world.step()
    world.chain.cut(3)
    world.chain.mine(payment(1, (BOB, 1)))
    world.chain.mine()
    assert await world.step() is Outcome.FORKED
    await shorten(pool, 4)
    with pytest.raises(Unavailable, match="than ours"):
        await world.scanner.step()
    assert await pool.fetchval("select count(*) from deposit") == 0


async def test_a_gap_is_closed_before_a_long_backfill(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.claims.GAP_BLOCKS", 10)
    monkeypatch.setattr("indexer.scan.claims.CALM", timedelta())
    world = await World.begin(pool)
    await advance(world, 60, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=0)
    await world.step()
    await advance(world, 4, payment(2, (BOB, 2)))
    await world.register("bob", BOB, from_block=60)
    await world.step()
    assert await world.scan()
    assert await pool.fetchval("select array_agg(account) from deposit") == ["bob"]
    while await world.scan():
        pass
    assert await pool.fetchval("select count(*) from deposit") == 2


async def test_a_scan_above_a_rewound_cursor_does_not_hold_up_the_others(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.stride.FIRST_BLOCKS", 5)
    world = await World.begin(pool)
    await advance(world, 20, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    await pool.execute(
        "insert into scan (network, first, last, unread) values ('net', 18, 19, '{[18,19]}')"
    )
    world.chain.hidden = 10
    await origin.rewind(pool, world.chain, "net", world.rules, 10)
    assert await world.scan()
    assert await pool.fetchval("select count(*) from deposit") == 1


async def test_a_rewind_under_a_scan_makes_it_read_again(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it finds may be as deep as the cursor says, and no deeper."""
    world = await World.begin(pool)
    await advance(world, 6)
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    hold = cursors.hold_headers

    async def rewound_just_before(connection: asyncpg.Connection, *args: Any) -> dict[int, bytes]:
        monkeypatch.undo()
        await origin.rewind(pool, world.chain, "net", world.rules, 7 - 1)
        return await hold(connection, *args)

    await shorten(pool, 3)
    monkeypatch.setattr(cursors, "hold_headers", rewound_just_before)
    with pytest.raises(Stale, match="rewound"):
        await world.scanner.step()
    assert await world.scanner.step()


async def test_the_lowest_header_moves_while_a_scan_reads(pool: asyncpg.Pool) -> None:
    """It must not read for ever where blocks come faster than it reads."""
    world = await World.begin(pool)
    await advance(world, 8)
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    await shorten(pool, 2)
    read = world.chain.blocks

    async def moving(first: int, last: int) -> Any:
        async for block in read(first, last):
            yield block
        world.chain.blocks = read  # type: ignore[method-assign]
        await advance(world, 5)

    world.chain.blocks = moving  # type: ignore[method-assign]
    assert await world.scanner.step()
    assert await pool.fetchval("select state from scan") == "done"


async def test_the_lowest_header_moves_right_before_blocks_are_booked(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that were to be held by their headers are not taken on trust without them."""
    world = await World.begin(pool)
    await advance(world, 8)
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    await shorten(pool, 2)
    confirm = PastBooking.confirm

    async def moving(*args: Any) -> None:
        monkeypatch.undo()
        await confirm(*args)
        await advance(world, 5)

    monkeypatch.setattr(PastBooking, "confirm", moving)
    with pytest.raises(Stale, match="moved"):
        await world.scanner.step()
    assert await world.scanner.step()


@pytest.mark.pitfall("P114")
async def test_two_scanners_that_find_the_same_transfer_book_it_once(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    twin, store = world.process(), ledger.store

    async def too_late(*args: Any) -> int:
        monkeypatch.undo()
        await pool.execute("update scan_claim set until = clock()")  # we slept past it
        assert await twin.scanner.step()
        return await store(*args)

    monkeypatch.setattr(ledger, "store", too_late)
    with pytest.raises(Stale, match="another writer"):
        await world.scanner.step()
    await world.settle()
    assert await pool.fetchval("select count(*) from deposit") == 1


async def test_positions_are_given_out_in_the_order_of_commit(pool: asyncpg.Pool) -> None:
    """Two writers for one account: the second waits until the first is done."""
    await World.begin(pool)
    async with pool.acquire() as first, pool.acquire() as second:
        transaction = first.transaction()
        await transaction.start()
        assert await feed.take_positions(first, {"alice": 2}) == {"alice": 0}
        waiting = asyncio.create_task(feed.take_positions(second, {"alice": 1}))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        await transaction.commit()
        assert await waiting == {"alice": 2}
