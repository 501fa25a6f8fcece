"""The follower's decisions, each a story told as a list of blocks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import asyncpg
import msgspec
import pytest

from indexer import coins, coverage, database, follower, origin
from indexer.chains import Header
from indexer.follower import Outcome
from indexer.model import Refused
from tests.followed import Rules, World
from tests.scripted import ADDRESSES, STRANGER, TOKEN, HexCodec, Payment, ScriptedChain, payment
from tests.test_promises import check_events

ALICE = ADDRESSES[0]


async def world_with_alice(pool: asyncpg.Pool, rules: Rules | None = None) -> World:
    world = await World.begin(pool, rules)
    await world.register("alice", ALICE)
    await world.step()
    return world


async def states(world: World) -> dict[bytes, tuple[str, int]]:
    """State and number of events by transaction."""
    rows = await world.pool.fetch("select tx, state, sequence from deposit")
    return {r["tx"]: (r["state"], r["sequence"]) for r in rows}


async def advance(world: World, blocks: int = 1, *payments: Payment) -> None:
    world.chain.mine(*payments)
    for _ in range(blocks - 1):
        world.chain.mine()
    while await world.step() in (Outcome.EXTENDED, None):
        pass


async def test_a_deposit_is_detected_then_confirmed_then_finalized(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool, Rules(finality="depth"))
    paid = payment(1, (ALICE, 5))
    await advance(world, 1, paid)
    assert (await states(world))[paid.tx] == ("detected", 1)
    await advance(world, 2)
    assert (await states(world))[paid.tx] == ("confirmed", 2)
    # As many blocks as the window has may still be replaced, and it is one of them.
    await advance(world, 5)
    assert (await states(world))[paid.tx] == ("confirmed", 2)
    await advance(world, 1)
    assert (await states(world))[paid.tx] == ("finalized", 3)
    await check_events(pool)


async def test_blocks_far_behind_are_applied_many_at_once(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    for n in range(150):
        world.chain.mine(payment(n, (ALICE, 1 + n)))
    assert await world.step() is Outcome.EXTENDED
    assert await pool.fetchval("select height from cursor") == len(world.chain.view) - 1
    assert await pool.fetchval("select count(*) from deposit") == 150
    assert await pool.fetchval("select count(*) from block") == 9
    types = await pool.fetch("select type from event order by position limit 2")
    assert [t["type"] for t in types] == ["deposit.detected", "deposit.confirmed"]


async def test_a_batch_is_bounded_by_what_it_books(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else blocks full of deposits would outlast their transaction, again and again."""
    monkeypatch.setattr(follower, "BATCH_TRANSFERS", 5)
    world = await world_with_alice(pool)
    for number in range(8):
        world.chain.mine(payment(number, (ALICE, 5), (ALICE, 6), (STRANGER, 7)))
    applied = [await height(pool)]
    while await world.step() is Outcome.EXTENDED:
        applied.append(await height(pool))
    assert [after - before for before, after in pairwise(applied)] == [3, 3, 2]
    assert len(await states(world)) == 8


async def test_what_one_transaction_writes_goes_in_parts(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it is, no statement outlasts its time, nor what is done between two."""
    monkeypatch.setattr(database, "STATEMENT_ROWS", 3)
    world = await world_with_alice(pool, Rules(finality="depth"))
    await turn(pool, active=False)
    await advance(world, 12, *[payment(number, (ALICE, 5)) for number in range(10)])
    assert set((await states(world)).values()) == {("held", 1)}
    await turn(pool, active=True)
    assert set((await states(world)).values()) == {("finalized", 4)}
    world.chain.cut(12)
    for _ in range(14):
        world.chain.mine()
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    await advance(world, 1)
    assert set((await states(world)).values()) == {("orphaned", 5)}
    await check_events(pool, rewinds=1)


async def height(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("select height from cursor"))


@pytest.mark.pitfall("P21", "P89")
async def test_equal_outputs_of_one_transaction_are_deposits_of_their_own(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await advance(world, 1, payment(1, (ALICE, 5), (ALICE, 5), (ALICE, 5)))
    assert await pool.fetchval("select array_agg(ordinal order by ordinal) from deposit") == [
        0, 1, 2,
    ]  # fmt: skip


@pytest.mark.pitfall("P22", "P48")
async def test_a_quiet_reorg_is_quiet(pool: asyncpg.Pool) -> None:
    """Mined again in another block, whatever its owner did to address, coin and role meanwhile."""
    world = await world_with_alice(pool)
    await world.register("alice", ADDRESSES[1])
    await world.register("alice", ADDRESSES[2])
    await world.step()
    one, two, three = (payment(n, (ADDRESSES[n], 5)) for n in range(3))
    await advance(world, 2, one, two, three)
    async with pool.acquire() as connection, connection.transaction():
        assert await coverage.remove_address(connection, "net", "alice", ALICE)
        await coins.change_coin(
            connection, "net", HexCodec(), 3, "native", {"active": False, "minimum": 10**9}
        )
        await coverage.register_addresses(
            connection, "net", "alice", [coverage.NewAddress(ADDRESSES[1], role="own")],
            silent=False,
        )  # fmt: skip
    before = await pool.fetchval("select count(*) from event")
    world.chain.cut(2)
    world.chain.mine()
    world.chain.mine(three, two)
    world.chain.mine(one)
    assert await world.step() is Outcome.REORGANISED
    assert await states(world) == {p.tx: ("detected", 1) for p in (one, two, three)}
    assert await pool.fetchval("select count(*) from event") == before
    heights = await pool.fetch("select tx, height, hash from deposit")
    assert {r["tx"]: r["height"] for r in heights} == {one.tx: 4, two.tx: 3, three.tx: 3}
    on_chain = {h.height: h.hash for h, _ in world.chain.view}
    assert all(on_chain[r["height"]] == r["hash"] for r in heights)


@pytest.mark.pitfall("P47")
async def test_a_dropped_deposit_is_orphaned_once_and_comes_back_as_it_first_stood(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 3, paid)
    assert (await states(world))[paid.tx] == ("confirmed", 2)
    world.chain.cut(3)
    await advance(world, 4)
    assert (await states(world))[paid.tx] == ("orphaned", 3)
    row = await pool.fetchrow("select previous, reason from deposit")
    assert (row["previous"], row["reason"]) == ("confirmed", None)
    await advance(world, 1, paid)
    assert (await states(world))[paid.tx] == ("detected", 4)
    await advance(world, 2)
    assert (await states(world))[paid.tx] == ("confirmed", 5)
    await check_events(pool)


async def test_another_amount_this_time_is_orphaned_and_found_anew(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 2, paid)
    world.chain.cut(2)
    world.chain.mine(replace(paid, outputs=((ALICE, 7),)))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    row = await pool.fetchrow("select units, state, sequence from deposit")
    assert tuple(row) == (7, "detected", 3)
    types = await pool.fetch("select type from event order by position")
    assert [t["type"] for t in types] == [
        "deposit.detected", "deposit.orphaned", "deposit.detected",
    ]  # fmt: skip


@pytest.mark.pitfall("P61")
async def test_a_lagging_or_shrinking_head_swaps_nothing(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 3, paid)
    world.chain.hidden = 2
    assert await world.step() is Outcome.IDLE
    assert (await states(world))[paid.tx] == ("confirmed", 2)


@pytest.mark.pitfall("P48")
async def test_a_shorter_fork_waits_and_an_equal_one_of_the_same_endpoint_swaps(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 3, paid)
    world.chain.cut(3)
    world.chain.mine()
    assert await world.step() is Outcome.FORKED
    world.chain.mine()
    assert await world.step() is Outcome.FORKED
    assert (await states(world))[paid.tx] == ("confirmed", 2)
    world.chain.mine(payment(2, (ALICE, 9)))
    assert await world.step() is Outcome.REORGANISED
    assert {s for s, _ in (await states(world)).values()} == {"orphaned", "detected"}


async def test_another_endpoint_at_equal_height_changes_nothing_until_it_is_higher(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    paid = payment(1, (ALICE, 5))
    await advance(world, 2, paid)
    other = ScriptedChain("node-b", list(world.chain.view), salt=500)
    other.cut(2)
    other.mine()
    other.mine()
    world.chain = other
    world.restart()
    assert await world.step() is Outcome.FORKED
    assert (await states(world))[paid.tx] == ("detected", 1)
    other.mine()
    assert await world.step() is Outcome.REORGANISED
    assert (await states(world))[paid.tx] == ("orphaned", 2)


async def test_a_reorg_in_the_first_minute_of_an_installation_finds_its_ancestor(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    for _ in range(5):
        world.chain.mine()
    await pool.execute("truncate cursor, block, coin cascade")
    await origin.begin(pool, world.chain, "net", world.rules)
    world.restart()
    await world.register("alice", ALICE)
    world.chain.cut(4)
    for n in range(5):
        world.chain.mine(payment(n, (ALICE, 1)))
    assert await world.step() is Outcome.REORGANISED
    # Its coverage began above the old cursor: only what stands there is credited.
    assert await pool.fetchval("select array_agg(height) from deposit") == [7]


@pytest.mark.pitfall("P47")
async def test_a_reorg_deeper_than_the_window_halts_and_rewind_reverses_nothing_falsely(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    kept, lost = payment(1, (ALICE, 5)), payment(2, (ALICE, 6))
    world.chain.final_depth = None
    await advance(world, 1, kept)
    await advance(world, 9, lost)
    world.chain.cut(10)
    world.chain.mine(kept)
    for _ in range(12):
        world.chain.mine()
    assert await world.step() is Outcome.HALTED
    assert await world.step() is Outcome.HALTED
    assert world.follower.reason is not None
    assert "rewind" in world.follower.reason
    before = await pool.fetchval("select count(*) from event")
    assert await origin.rewind(pool, world.chain, "net", world.rules, 1) == 2
    world.chain.hidden = 11
    assert await world.step() is Outcome.EXTENDED
    # Found again, and nobody was told anything; the other one waits for the old height to pass.
    assert await states(world) == {kept.tx: ("confirmed", 2), lost.tx: ("confirmed", 2)}
    assert await pool.fetchval("select count(*) from event") == before
    world.chain.hidden = 0
    await advance(world, 1)
    assert await states(world) == {kept.tx: ("confirmed", 2), lost.tx: ("orphaned", 3)}
    await check_events(pool)


async def test_a_rewind_in_the_middle_of_a_step_only_makes_it_step_again(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await advance(world, 6, payment(1, (ALICE, 5)))
    world.chain.cut(5)
    for _ in range(7):
        world.chain.mine()
    tip = world.chain.tip

    async def rewound_meanwhile() -> Header:
        world.chain.tip = tip  # type: ignore[method-assign]
        await origin.rewind(pool, world.chain, "net", world.rules, 1)
        return await tip()

    world.chain.tip = rewound_meanwhile  # type: ignore[method-assign]
    assert await world.step() is None
    while await world.step() is Outcome.EXTENDED:
        pass
    assert await pool.fetchval("select height from cursor") == len(world.chain.view) - 1
    await check_events(pool)


async def test_only_a_rewind_orphans_a_finalized_deposit(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool, Rules(finality="depth"))
    paid = payment(1, (ALICE, 5))
    await advance(world, 12, paid)
    assert (await states(world))[paid.tx] == ("finalized", 3)
    world.chain.cut(12)
    for _ in range(14):
        world.chain.mine()
    assert await world.step() is Outcome.HALTED
    await origin.rewind(pool, world.chain, "net", world.rules, 1)
    await advance(world, 1)
    assert (await states(world))[paid.tx] == ("orphaned", 4)


async def test_a_rewind_to_a_block_that_the_node_does_not_have_is_refused(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await advance(world, 1)
    await advance(world, 5, payment(1, (ALICE, 5)))
    assert await pool.fetchval("select height from cursor") == 7
    world.chain.cut(5)
    for _ in range(6):
        world.chain.mine()
    with pytest.raises(Refused, match="another block than ours"):
        await origin.rewind(pool, world.chain, "net", world.rules, 3)
    with pytest.raises(Refused, match="lower height"):
        await origin.rewind(pool, world.chain, "net", world.rules, 7)


@pytest.mark.pitfall("P46", "P49", "P54")
async def test_finality_is_the_nodes_and_never_goes_back_or_ahead_of_our_branch(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.finality.ASK_SECONDS", 0.0)
    world = await world_with_alice(pool, Rules(required=None))
    world.chain.final_depth = 100
    paid = payment(1, (ALICE, 5))
    await advance(world, 6, paid)
    assert (await states(world))[paid.tx] == ("detected", 1)  # stalled: no fallback to depth
    world.chain.final_depth = 2
    assert await world.step() is Outcome.IDLE
    assert (await states(world))[paid.tx] == ("finalized", 3)
    finalized = await pool.fetchval("select finalized from cursor")
    assert finalized == len(world.chain.view) - 3
    world.chain.final_depth = 6
    await world.step()
    assert await pool.fetchval("select finalized from cursor") == finalized


async def test_a_branch_below_the_finalized_block_halts(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.finality.ASK_SECONDS", 0.0)
    world = await world_with_alice(pool)
    world.chain.final_depth = 1
    await advance(world, 4, payment(1, (ALICE, 5)))
    world.chain.cut(3)
    for _ in range(4):
        world.chain.mine()
    assert await world.step() is Outcome.HALTED
    assert "finalized" in str(world.follower.reason)


@pytest.mark.pitfall("P111", "P121")
async def test_the_first_payment_in_the_very_next_block_is_found(pool: asyncpg.Pool) -> None:
    """However late the registration commits after it saw the cursor."""
    world = await World.begin(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        done = await coverage.register_addresses(
            connection, "net", "alice", [coverage.NewAddress(ALICE)], silent=False
        )
        assert done.covered_from == 2
        await advance(world, 5, payment(1, (ALICE, 5)))  # passes before anybody can know
        await transaction.commit()
    await world.step()
    assert await world.scan()
    assert await pool.fetchval("select state from deposit") == "confirmed"
    assert not await world.scan()


async def test_an_address_turns_active_on_an_idle_network(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await world.register("alice", ALICE)
    assert await world.step() is Outcome.IDLE
    row = await pool.fetchrow("select state, covered_from, active_from from watched_address")
    assert tuple(row) == ("active", 2, 2)
    assert await pool.fetchval("select count(*) from scan") == 0


async def test_ten_registrations_read_each_block_once(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await advance(world, 20, payment(1, (ALICE, 5)), payment(2, (ADDRESSES[3], 5)))
    for n in range(8):
        await world.register("alice", ADDRESSES[n], from_block=n % 3)
    await world.step()
    world.chain.fetched.clear()
    while await world.scan():
        pass
    assert len(world.chain.fetched) == len(set(world.chain.fetched)) == 22
    assert await pool.fetchval("select count(*) from deposit where state = 'finalized'") == 2


async def test_a_lower_from_block_scans_what_is_missing(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await advance(world, 5, payment(1, (ALICE, 5)))
    assert await world.register("alice", ALICE) == 7
    await world.step()
    assert not await world.scan()
    assert await world.register("alice", ALICE, from_block=1) == 1
    assert await world.scan()
    assert await pool.fetchval("select state from deposit") == "confirmed"


async def test_silent_backfill_makes_events_and_no_deliveries(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await pool.execute("insert into endpoint (id, account, url) values ('e', 'alice', 'https://x')")
    await advance(world, 5, payment(1, (ALICE, 5)))
    async with pool.acquire() as connection, connection.transaction():
        await coverage.register_addresses(
            connection, "net", "alice", [coverage.NewAddress(ALICE, from_block=1)], silent=True
        )
    await world.step()
    assert await world.scan()
    assert await pool.fetchval("select count(*) from event") == 2
    assert await pool.fetchval("select count(*) from delivery") == 0
    await advance(world, 1, payment(2, (ALICE, 5)))
    assert await pool.fetchval("select count(*) from delivery") == 1


@pytest.mark.pitfall("P19", "P35")
async def test_money_from_our_own_wallets_is_no_deposit(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    hot = ADDRESSES[5]
    await world.register("alice", hot, role="own")
    await world.register("bob", ALICE)
    await world.step()
    top_up = Payment(b"\x01" * 32, ((ALICE, 2),), sender=hot)
    sweep = Payment(b"\x02" * 32, ((hot, 9),), sender=ALICE)
    await advance(world, 1, top_up, sweep)
    rows = await pool.fetch("select account, state, reason from deposit order by account")
    assert [tuple(r) for r in rows] == [
        ("alice", "ignored", "internal"),
        ("bob", "detected", None),  # the hot wallet is a stranger to another account
    ]
    assert await pool.fetchval("select count(*) from event where account = 'alice'") == 0


@pytest.mark.pitfall("P44")
async def test_below_the_minimum_is_recorded_without_an_event(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await pool.execute("update coin set minimum = 10")
    await advance(world, 1, payment(1, (ALICE, 9)), payment(2, (ALICE, 10)))
    rows = await pool.fetch("select units, state, reason from deposit order by units")
    assert [tuple(r) for r in rows] == [(9, "ignored", "below_minimum"), (10, "detected", None)]
    assert await pool.fetchval("select count(*) from event") == 1


@pytest.mark.pitfall("P126")
async def test_an_inactive_coin_holds_and_lets_go_when_it_is_active_again(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await turn(pool, active=False)
    await advance(world, 4, payment(1, (ALICE, 5)))
    row = await pool.fetchrow("select state, reason from deposit")
    assert tuple(row) == ("held", "coin_inactive")
    await turn(pool, active=True)
    types = await pool.fetch("select type from event order by position")
    assert [t["type"] for t in types] == [
        "deposit.held", "deposit.detected", "deposit.confirmed",
    ]  # fmt: skip


async def turn(pool: asyncpg.Pool, *, active: bool) -> None:
    """Have the native coin watched, or hold what pays it."""
    async with pool.acquire() as connection, connection.transaction():
        await coins.change_coin(connection, "net", HexCodec(), 3, "native", {"active": active})


async def test_changed_confirmations_rewrite_what_is_still_detected(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 2, payment(1, (ALICE, 5)))
    async with pool.acquire() as connection, connection.transaction():
        await coins.change_coin(connection, "net", HexCodec(), 3, "native", {"confirmations": 6})
    await advance(world, 2)
    assert await pool.fetchval("select state::text || required from deposit") == "detected6"
    async with pool.acquire() as connection, connection.transaction():
        await coins.change_coin(connection, "net", HexCodec(), 3, "native", {"confirmations": 2})
    assert await pool.fetchval("select state::text || required from deposit") == "confirmed2"


async def test_removal_acts_from_the_next_block_and_keeps_history(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 1, payment(1, (ALICE, 5)))
    async with pool.acquire() as connection, connection.transaction():
        assert await coverage.remove_address(connection, "net", "alice", ALICE)
        assert not await coverage.remove_address(connection, "net", "alice", STRANGER)
    await advance(world, 3, payment(2, (ALICE, 6)))
    assert await pool.fetchval("select array_agg(units) from deposit") == [5]
    assert await pool.fetchval("select state from deposit") == "confirmed"


async def test_a_token_registered_later_is_covered_from_its_own_block(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 1, payment(1, (ALICE, 5), asset=TOKEN))
    await world.register_coin()
    await advance(world, 1, payment(2, (ALICE, 6), asset=TOKEN))
    while await world.scan():
        pass
    assert await pool.fetchval("select array_agg(units) from deposit") == [6]


@pytest.mark.pitfall("P42")
async def test_the_largest_amount_is_stored_and_told_exactly(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 1, payment(1, (ALICE, 2**256 - 1)))
    assert await pool.fetchval("select units from deposit") == 2**256 - 1
    body = (await pool.fetchval("select body from event")).decode()
    assert f'"amountUnits":"{2**256 - 1}"' in body
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute("update deposit set units = $1", 2**256)


async def test_two_followers_on_one_database_write_each_block_once(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    twin = world.process()
    for n in range(20):
        world.chain.mine(payment(n, (ALICE, 1 + n)))
        await asyncio.gather(world.step(), twin.step())
    await world.settle()
    assert await pool.fetchval("select count(*) from deposit") == 20
    await check_events(pool)


@pytest.mark.pitfall("P117")
async def test_a_block_older_than_its_parent_changes_no_order(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    for number, seconds in enumerate((1_000, 500, 900)):
        world.chain.mine(payment(number, (ALICE, 1 + number)))
        header, payments = world.chain.view[-1]
        world.chain.view[-1] = (msgspec.structs.replace(header, time=seconds), payments)
    assert await world.step() is Outcome.EXTENDED
    rows = await pool.fetch(
        "select units, state, extract(epoch from time)::bigint from deposit order by 1"
    )
    assert [tuple(r) for r in rows] == [
        (1, "confirmed", 1_000),
        (2, "detected", 500),
        (3, "detected", 900),
    ]
