"""A scan of the past lets a follower at the tip finish first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from typing import Final

import asyncpg
import pytest

from indexer.chains import Block, turn
from indexer.chains.turn import Turn, give_way, give_way_to
from indexer.cursors import Stale
from indexer.follower import Follower, Outcome
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.followed import World
from tests.scripted import ADDRESSES, ScriptedChain
from tests.test_follower import advance

PAST: Final = 600  # blocks
TIPS: Final = 10  # blocks that come while the past is read
ANSWERS: Final = 8  # of the node, that a block takes
BUSY_SECONDS: Final = 0.002  # that a block of the past keeps the core


class Slow(ScriptedChain):
    """Its blocks come after many answers."""

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        async for block in super().blocks(first, last):
            for _ in range(ANSWERS):
                await asyncio.sleep(0.001)
            yield block


class Busy(ScriptedChain):
    """Its blocks are proved on the core that all share, as adapters do; `during` counts them."""

    following = False
    during = 0

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        async for block in super().blocks(first, last):
            await give_way()
            time.sleep(BUSY_SECONDS)  # noqa: ASYNC251
            self.during += self.following
            yield block


async def read_meanwhile(pool: asyncpg.Pool, *, polite: bool) -> tuple[int, int]:
    """Blocks of the past that were read while the follower had one of the tip, and in all."""
    world = await World.begin(pool)
    await advance(world, PAST)
    await world.register("alice", ADDRESSES[0], from_block=0)
    await world.step()
    shared, watch = Turn(), WatchSet("net", world.rules.reorg_window)
    tip, past = Slow(view=world.chain.view), Busy(view=world.chain.view)
    follower = Follower("net", world.rules, tip, pool, watch, shared)
    scanner = Scanner("net", world.rules, past, pool, watch)

    async def scan() -> None:
        if polite:
            give_way_to(shared)
        while await pool.fetchval("select exists (select from scan where state = 'open')"):
            with suppress(Stale):
                await scanner.step()

    assert await follower.step() is Outcome.IDLE
    scanning = asyncio.create_task(scan())
    for _ in range(TIPS):
        fetched = len(past.fetched)
        while len(past.fetched) < fetched + 5 and not scanning.done():
            await asyncio.sleep(0.001)
        tip.mine()
        past.following = True
        assert await follower.step() is Outcome.EXTENDED
        past.following = False
    await scanning
    return past.during, len(past.fetched)


async def test_no_block_of_the_past_is_read_while_one_of_the_tip_is_in_hand(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.claims.CALM", timedelta())
    during, read = await read_meanwhile(pool, polite=True)
    assert during <= 2 * TIPS  # before the step knows where it stands
    assert read >= PAST
    rude, _ = await read_meanwhile(pool, polite=False)
    assert rude >= TIPS * ANSWERS > 2 * TIPS


async def test_work_gives_way_to_a_turn_and_to_no_other_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared, steps = Turn(), 0

    async def work() -> None:
        nonlocal steps
        give_way_to(shared)
        while True:
            await give_way()
            steps += 1

    async def ours() -> None:
        """Done by whoever has given way to nobody."""
        for _ in range(100):
            await give_way()

    working = asyncio.create_task(work())
    await ours()
    assert steps > 50
    with shared.taken():
        with shared.taken():
            await ours()
        before = steps
        await ours()
        assert steps == before
        monkeypatch.setattr(turn, "GIVE_WAY_SECONDS", 0.001)
        async with asyncio.timeout(10):
            while steps == before:
                await asyncio.sleep(0.001)
    working.cancel()


async def test_who_is_cancelled_as_the_turn_becomes_free_ends() -> None:
    shared = Turn()

    async def work() -> None:
        while True:
            await shared.free()
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    with shared.taken():
        for _ in range(3):
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await working
