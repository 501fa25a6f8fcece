"""The watch set follows the database: all that may be paid is in it, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import coverage, cursors, keyset, watchset
from indexer.follower import Outcome
from indexer.keyset import KeySet, Loading
from indexer.watchset import WatchSet
from tests.followed import HOT, WINDOW, World
from tests.scripted import ADDRESSES, STRANGER, TOKEN, payment
from tests.test_coverage import amounts, remove, scan_all
from tests.test_follower import ALICE, advance, world_with_alice
from tests.test_promises import act, check, check_events, histories
from tests.test_rewind import before_blocks

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
HISTORIES: Final = 2_000 if SOAK else 12

pytestmark = pytest.mark.timeout(3_600 if SOAK else 240)


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key joins the bulk at once, and every removal makes it load all again."""
    monkeypatch.setattr(keyset, "RECENT_KEYS", 1)
    monkeypatch.setattr(watchset, "REMOVED_KEYS", 0)
    monkeypatch.setattr(watchset, "REMOVED_SHARE", 10**9)


def sure_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of every key that it may be watched."""
    monkeypatch.setattr(KeySet, "contains", lambda _, keys: [True] * len(keys))


async def fresh(world: World) -> WatchSet:
    watch = WatchSet("net", WINDOW)
    async with world.pool.acquire() as connection:
        await watch.refresh(connection)
    return watch


async def refresh(world: World) -> None:
    async with world.pool.acquire() as connection:
        await world.watch.refresh(connection)


async def register_many(pool: asyncpg.Pool, count: int) -> list[bytes]:
    """Active at once, for both accounts."""
    keys = [b"many" + n.to_bytes(16, "big") for n in range(count)]
    async with pool.acquire() as connection, connection.transaction():
        for account in ("alice", "bob"):
            new = [coverage.NewAddress(key) for key in keys]
            await coverage.register_addresses(connection, "net", account, new, silent=False)
    async with pool.acquire() as connection:
        while await coverage.activate(connection, "net"):
            pass
    return keys


# ---------------------------------------------------------------------------- the promises hold


@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories, unsure=st.booleans())
@pytest.mark.usefixtures("restless")
async def test_any_history_ends_right_while_it_joins_and_loads_all_the_time_or_is_sure_of_nothing(
    pool: asyncpg.Pool, history: list[tuple[tuple[Any, ...], int]], unsure: bool
) -> None:
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr("indexer.finality.ASK_SECONDS", 0.0)
        if unsure:
            sure_of_nothing(patches)
        world = await World.begin(pool)
        await world.register("alice", HOT, role="own")  # as `check` knows it
        twin = world.process()
        for action, steps in history:
            world.seen |= world.covered().keys()
            await act(world, twin, action)
            world.seen |= world.covered().keys()
            for _ in range(steps):
                await world.step()
        await world.settle()
        await check(world)
        await check_events(pool, rewinds=world.rewinds)


async def test_a_wrong_yes_books_nothing_and_holds_nothing(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure_of_nothing(monkeypatch)
    world = await world_with_alice(pool)
    await world.register_coin(balance_check=True)
    world.chain.agrees = lambda holding: holding.holder == ALICE  # whatever strangers do
    strange = [payment(1, (STRANGER, 1)), payment(2, (ADDRESSES[1], 2), asset=TOKEN)]
    await advance(world, 2, *strange, payment(3, (ALICE, 3), asset=TOKEN))
    world.chain.cut(1)
    world.chain.mine(payment(4, (STRANGER, 4)))
    world.chain.mine()
    assert await world.step() is Outcome.REORGANISED
    await world.register("alice", ADDRESSES[2], from_block=1)
    await world.step()
    await scan_all(world)
    assert await amounts(world) == [3]
    assert await pool.fetchval("select count(*) from deposit where state = 'held'") == 0


# ---------------------------------------------------------------------------- following


@pytest.mark.usefixtures("restless")
async def test_what_is_activated_between_matching_and_commit_is_matched_again(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    bob = ADDRESSES[1]

    async def elsewhere() -> None:
        """Another process turns it active at a block that ours has fetched already."""
        await world.register("bob", bob)
        async with pool.acquire() as connection:
            assert await coverage.activate(connection, "net") == 1

    before_blocks(world.chain, elsewhere)
    world.chain.mine(payment(1, (bob, 7)))
    before = world.watch.version
    assert await world.step() is Outcome.EXTENDED
    assert world.watch.version > before
    assert await amounts(world) == [7]


async def test_an_addition_is_in_it_at_the_next_refresh_and_counted_once(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    many = await register_many(pool, 300)
    watch = await fresh(world)
    assert len(watch) == 300  # of two accounts
    assert not any(watch.contains([ALICE]))
    await world.register("alice", ALICE)
    async with pool.acquire() as connection:
        await coverage.activate(connection, "net")
        await watch.refresh(connection)
        assert all(watch.contains([ALICE, *many]))
        assert len(watch) == 301
        assert await watch.refresh(connection) == watch.version
    assert watch.memory_bytes > 4 * 301


async def test_two_that_ask_at_once_load_once(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with_alice(pool)
    made: list[Loading] = []

    def load() -> Loading:
        made.append(Loading())
        return made[-1]

    monkeypatch.setattr(watchset, "Loading", load)
    watch = WatchSet("net", WINDOW)
    async with pool.acquire() as one, pool.acquire() as other:
        versions = await asyncio.gather(watch.refresh(one), watch.refresh(other))
    assert list(versions) == [world.watch.version] * 2
    assert len(made) == 1


# ---------------------------------------------------------------------------- removal


async def test_a_removed_address_stays_while_a_block_before_its_removal_may_be_read(
    pool: asyncpg.Pool,
) -> None:
    world = await world_with_alice(pool)
    await remove(world, ALICE)
    await advance(world, WINDOW)
    assert (await fresh(world)).contains([ALICE]) == [True]
    await advance(world, 1)
    assert (await fresh(world)).contains([ALICE]) == [False]


async def test_once_much_was_removed_all_is_loaded_again_without_it(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchset, "REMOVED_KEYS", 2)
    world = await World.begin(pool)
    for key in ADDRESSES[:6]:
        await world.register("alice", key)
    await advance(world, 1)
    for key in ADDRESSES[:3]:
        await remove(world, key)
    await advance(world, WINDOW + 1)
    assert len(world.watch) == 6
    await remove(world, ADDRESSES[3])
    async with pool.acquire() as connection:
        async with connection.transaction():  # in which others may wait
            await cursors.lock(connection, "net")
            await world.watch.refresh(connection)
        assert len(world.watch) == 6
    await world.register("alice", ADDRESSES[7])
    await advance(world, 1)
    assert len(world.watch) == 4
    assert world.watch.contains(ADDRESSES[:8]) == [False] * 3 + [True] * 3 + [False, True]


# ---------------------------------------------------------------------------- failing


@pytest.mark.usefixtures("restless")
async def test_a_load_that_breaks_off_leaves_what_there_was_in_use(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await world_with_alice(pool)
    many = await register_many(pool, 300)
    await remove(world, ALICE)
    await refresh(world)
    before = world.watch.version
    await register_many(pool, 301)
    with monkeypatch.context() as patches:
        patches.setattr(Loading, "finish", broken)
        with pytest.raises(ConnectionError):
            await refresh(world)
    assert world.watch.version == before
    assert all(world.watch.contains(many))
    await refresh(world)
    assert world.watch.version > before
    assert len(world.watch) == 302  # with alice, who may still be paid by a swap


async def test_a_load_that_is_called_off_ends_at_once_and_the_next_one_is_complete(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await World.begin(pool)
    many = await register_many(pool, 20_000)
    watch = WatchSet("net", WINDOW)
    begun = asyncio.Event()
    add = Loading.add

    def noticed(loading: Loading, keys: list[bytes]) -> None:
        begun.set()
        add(loading, keys)

    monkeypatch.setattr(Loading, "add", noticed)
    async with pool.acquire() as connection:
        load = asyncio.create_task(watch.refresh(connection))
        await begun.wait()
        load.cancel()
        async with asyncio.timeout(5.0):
            with pytest.raises(asyncio.CancelledError):
                await load
    assert len(watch) == 0
    assert all((await fresh(world)).contains(many))


async def broken(_loading: Loading) -> KeySet:
    raise ConnectionError("gone")
