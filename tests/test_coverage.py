"""What a registration covers: removal, return, a change of role, silence, each to the block."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from indexer import coverage
from indexer.follower import Outcome
from tests.followed import World
from tests.scripted import ADDRESSES, STRANGER, TOKEN, Payment, payment
from tests.test_follower import ALICE, advance, world_with_alice
from tests.test_rewind import before_blocks


async def remove(world: World, key: bytes) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        assert await coverage.remove_address(connection, "net", "alice", key)


async def scan_all(world: World) -> None:
    while await world.scan():
        pass


async def amounts(world: World) -> list[int]:
    """Of the deposits that stand, by amount."""
    rows = await world.pool.fetch(
        "select units from deposit where state <> 'orphaned' order by units"
    )
    return [row["units"] for row in rows]


async def rung(world: World) -> list[int]:
    """Amounts that an endpoint is told of."""
    rows = await world.pool.fetch(
        """
        select distinct d.units from delivery v join deposit d on d.id = v.deposit order by d.units
        """
    )
    return [row["units"] for row in rows]


async def test_what_came_before_a_removal_is_found_by_a_scan_and_by_a_swap_after_it(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    await advance(world, 1)
    await remove(world, ALICE)
    await advance(world, 1, payment(2, (ALICE, 2)))
    assert await amounts(world) == []
    await scan_all(world)
    assert await amounts(world) == [1]
    world.chain.cut(2)
    world.chain.mine(payment(3, (ALICE, 3)))  # the last block before the removal, another by now
    world.chain.mine(payment(4, (ALICE, 4)))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    assert await amounts(world) == [1, 3]


async def test_a_scan_finds_a_removed_address_after_a_restart_too(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    await remove(world, ALICE)
    await advance(world, 30)
    world.restart()
    await scan_all(world)
    assert await amounts(world) == [1]


async def test_what_our_own_wallet_received_stays_no_deposit_when_its_role_changes(
    pool: asyncpg.Pool,
) -> None:
    """Neither a swap nor a scan for somebody else may credit old sweeps."""
    world = await World.begin(pool)
    hot = ADDRESSES[5]
    await world.register("alice", hot, role="own")
    await world.step()
    await advance(world, 1, payment(1, (hot, 1)))
    await advance(world, 1, payment(2, (hot, 2)))
    assert await world.register("alice", hot, role="deposit") == 4
    await world.step()
    await advance(world, 1, payment(3, (hot, 3)))
    world.chain.cut(2)
    world.chain.mine(payment(2, (hot, 2)))
    world.chain.mine(payment(3, (hot, 3)))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    await world.register("alice", ALICE, from_block=0)
    await world.step()
    await scan_all(world)
    assert await amounts(world) == [3]


async def test_our_own_wallet_stays_ours_when_it_is_registered_again_without_a_role(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ALICE, role="own")
    await world.step()
    assert await world.register("alice", ALICE) == 2
    await advance(world, 1, payment(1, (ALICE, 1)))
    row = await pool.fetchrow("select role, state, active_from from watched_address")
    assert tuple(row) == ("own", "active", 2)
    assert await amounts(world) == []


async def test_an_address_registered_again_after_its_removal_starts_over(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ALICE, role="own")
    await pool.execute("update watched_address set reference = 'hot'")
    await world.step()
    await remove(world, ALICE)
    await advance(world, 2, payment(1, (ALICE, 1)))
    assert await world.register("alice", ALICE) == 4
    await world.step()
    await advance(world, 1, payment(2, (ALICE, 2)))
    assert await amounts(world) == [2]
    row = await pool.fetchrow("select role, reference from watched_address")
    assert tuple(row) == ("deposit", None)


async def test_only_what_passed_before_the_registration_is_silent(
    pool: asyncpg.Pool,
) -> None:
    """A payment in the next block is new, even where a scan has to find it."""
    world = await World.begin(pool)
    await pool.execute("insert into endpoint (id, account, url) values ('e', 'alice', 'https://x')")
    await advance(world, 2, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE, from_block=1, silent=True)
    world.chain.mine(payment(2, (ALICE, 2)))
    await world.follower.close()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from watched_address for update")
        await world.step()  # can't activate it, and goes on
    await world.step()
    await scan_all(world)
    assert await amounts(world) == [1, 2]
    assert await rung(world) == [2]


async def test_each_backfill_is_silent_or_not_as_it_was_asked(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await pool.execute("insert into endpoint (id, account, url) values ('e', 'alice', 'https://x')")
    for n in range(2, 8):
        await advance(world, 1, payment(n, (ALICE, n)))
    await world.register("alice", ALICE)
    await world.step()
    await world.register("alice", ALICE, from_block=6, silent=True)
    await world.register("alice", ALICE, from_block=4)
    await world.register("alice", ALICE, from_block=3, silent=True)
    await world.register("alice", ALICE, silent=True)
    await scan_all(world)
    assert await amounts(world) == [3, 4, 5, 6, 7]
    assert await rung(world) == [4, 5]
    await advance(world, 1, payment(8, (ALICE, 8)))
    assert await rung(world) == [4, 5, 8]


async def test_a_wallet_that_was_removed_is_a_stranger_from_the_next_block_on(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await world.register("alice", STRANGER, role="own")
    await world.step()
    await advance(world, 1, payment(1, (ALICE, 1)))
    await remove(world, STRANGER)
    await advance(world, 1, Payment(b"\x02" * 32, ((ALICE, 2),)))
    rows = await pool.fetch("select units, reason from deposit order by units")
    assert [tuple(row) for row in rows] == [(1, "internal"), (2, None)]


async def test_a_registration_that_waits_for_an_activation_sees_what_it_made(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1)))
    await world.register("alice", ALICE)
    async with pool.acquire() as connection, connection.transaction():
        await coverage.activate(connection, "net")
        waiting = asyncio.create_task(world.register("alice", ALICE, from_block=1))
        while not await pool.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)
    assert await waiting == 1
    await scan_all(world)
    assert await amounts(world) == [1]


@pytest.mark.pitfall("P121")
async def test_what_another_process_activates_while_blocks_are_fetched_is_matched(
    pool: asyncpg.Pool,
) -> None:
    """Its scan ends at the cursor: the block in hand is the follower's."""
    world = await World.begin(pool)
    await world.step()

    async def register() -> None:
        await world.register("alice", ALICE)
        async with pool.acquire() as connection:
            assert await coverage.activate(connection, "net") == 1

    world.chain.mine(payment(1, (ALICE, 1)))
    before_blocks(world.chain, register)
    assert await world.step() is Outcome.EXTENDED
    assert await amounts(world) == [1]


async def test_an_address_registered_twice_alike_is_written_once(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    versions = []
    for from_block, role in ((None, None), (None, None), (5, "deposit"), (0, None), (None, "own")):
        await world.register("alice", ADDRESSES[0], from_block, role)
        versions.append(await pool.fetchval("select ctid::text from watched_address"))
    assert [versions.index(v) for v in versions] == [0, 0, 0, 3, 4]


async def test_blocks_go_on_between_the_parts_of_what_many_registered(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.follower.ACTIVATION_SECONDS", 0.0)
    monkeypatch.setattr("indexer.coverage.ACTIVATED_AT_ONCE", 3)
    world = await World.begin(pool)
    for key in ADDRESSES:
        await world.register("alice", key)
    seen = []
    for number in range(4):
        world.chain.mine(payment(number, *((key, 1) for key in ADDRESSES)))
        assert await world.step() is Outcome.EXTENDED
        active = await pool.fetchval("select count(*) from watched_address where state = 'active'")
        seen.append((active, world.follower.activating))
    assert seen == [(3, True), (6, True), (8, True), (8, False)]
    await world.settle()
    assert await pool.fetchval("select count(*) from deposit") == 4 * len(ADDRESSES)


async def test_a_token_is_not_credited_below_its_own_coverage(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1), asset=TOKEN))
    await world.register_coin()
    await world.register("alice", ALICE, from_block=0)
    await world.step()
    await scan_all(world)
    assert await amounts(world) == []


async def test_two_registrations_that_meet_at_a_removed_address_start_it_over_once(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ALICE)
    await world.step()
    await remove(world, ALICE)
    async with pool.acquire() as connection, connection.transaction():
        await coverage.register_addresses(
            connection, "net", "alice", [coverage.NewAddress(ALICE)], silent=False
        )
        waiting = asyncio.create_task(world.register("alice", ALICE, from_block=1))
        while not await pool.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.01)
    assert await waiting == 1
    row = await pool.fetchrow("select state, active_from, covered_from from watched_address")
    assert tuple(row) == ("pending", None, 1)


@pytest.mark.parametrize(("account", "network"), [("nobody", "net"), ("alice", "nowhere")])
async def test_an_address_of_nobody_or_nowhere_is_refused(
    pool: asyncpg.Pool, account: str, network: str
) -> None:
    await world_with_alice(pool)
    with pytest.raises(asyncpg.ForeignKeyViolationError, match=f"'{account}'.*|'{network}'.*"):
        await pool.execute(
            "insert into watched_address (network, address, account, covered_from) "
            "values ($2, '\\x99', $1, 0)",
            account,
            network,
        )
