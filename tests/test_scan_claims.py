"""Who reads which blocks: each once, whoever asked and however many processes read."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final
from uuid import uuid4

import asyncpg
import pytest

from indexer import coverage
from indexer.scan import Scanner
from indexer.scan import claims as scan_claims
from indexer.scan.claims import Claim, Claims
from indexer.scan.stride import FIRST_BLOCKS, MOST_BLOCKS, STRIDE_SECONDS, Stride
from indexer.watchset import WatchSet
from tests.followed import World
from tests.scripted import ADDRESSES, ScriptedChain, payment
from tests.test_follower import advance

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
REGISTERED: Final = 1_000_000 if SOAK else 2_000
A_CALL: Final = 10_000 if SOAK else 100
PATIENCE: Final = 3_600.0 if SOAK else 60.0  # seconds


@pytest.fixture(autouse=True)
def no_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_claims, "CALM", timedelta())


async def queue(pool: asyncpg.Pool, *ranges: tuple[int, int]) -> None:
    async with pool.acquire() as connection:
        for first, last in ranges:
            await coverage.queue_scan(connection, "net", first, last)


async def take(claims: Claims, pool: asyncpg.Pool, blocks: int, highest: int = 10**6) -> Claim:
    async with pool.acquire() as connection:
        claim = await claims.take(connection, highest, blocks)
    assert claim is not None
    return claim


async def read(pool: asyncpg.Pool, claim: Claim) -> None:
    """What a scanner does with a claim in the end."""
    async with pool.acquire() as connection, connection.transaction():
        await scan_claims.mark_read(connection, claim.scans, claim.first, claim.last, 0)


async def left(pool: asyncpg.Pool) -> list[list[tuple[int, int]]]:
    """Unread ranges of the open scans."""
    rows = await pool.fetch("select unread from scan where state = 'open' order by id")
    return [[(r.lower, r.upper - 1) for r in row["unread"]] for row in rows]


def scanner(world: World) -> tuple[Scanner, ScriptedChain]:
    """Of another process, at a node that counts what it is asked for."""
    chain = ScriptedChain(view=world.chain.view)
    watch = WatchSet("net", world.rules.reorg_window)
    return Scanner("net", world.rules, chain, world.pool, watch), chain


def fetched(chains: Iterable[ScriptedChain]) -> Counter[int]:
    return sum((Counter(chain.fetched) for chain in chains), Counter())


async def test_overlapping_ranges_are_read_once(pool: asyncpg.Pool) -> None:
    await World.begin(pool)
    await queue(pool, (1000, 1999), (1500, 2999), (1200, 1299), (5000, 5999))
    claims, ranges = Claims("net", uuid4()), []
    while await left(pool):
        claim = await take(claims, pool, 700)
        async with claims.kept(pool, claim):
            await read(pool, claim)
        ranges.append((claim.first, claim.last))
    assert ranges == [
        (1200, 1299), (1000, 1199), (1300, 1999), (2000, 2699), (2700, 2999), (5000, 5699),
        (5700, 5999),
    ]  # fmt: skip


async def test_who_comes_later_joins_where_the_reading_is(pool: asyncpg.Pool) -> None:
    await World.begin(pool)
    claims = Claims("net", uuid4())
    await queue(pool, (0, 999))
    for _ in range(2):
        claim = await take(claims, pool, 300)
        async with claims.kept(pool, claim):
            await read(pool, claim)
    await queue(pool, (100, 999))
    claim = await take(claims, pool, 1000)
    assert (claim.first, claim.last) == (600, 999)
    async with claims.kept(pool, claim):
        await queue(pool, (0, 999))  # too late for this one
        await read(pool, claim)
    assert await left(pool) == [[(100, 599)], [(0, 999)]]
    claim = await take(claims, pool, 1000)
    assert (claim.first, claim.last) == (0, 999)


async def test_processes_claim_different_blocks_until_one_dies(pool: asyncpg.Pool) -> None:
    await World.begin(pool)
    await queue(pool, (0, 999))
    mine, other, highest = Claims("net", uuid4()), Claims("net", uuid4()), 599
    first = await take(mine, pool, 400, highest)
    second = await take(other, pool, 400, highest)
    assert (first.first, first.last, second.first, second.last) == (0, 399, 400, 599)
    async with pool.acquire() as connection:
        assert await mine.take(connection, highest, 400) is None
        await connection.execute("update scan_claim set until = clock() where first = 400")
    again = await take(mine, pool, 400, highest)
    assert (again.first, again.last) == (400, 599)


async def test_a_claim_is_kept_while_its_blocks_are_read(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_claims, "RENEW_SECONDS", 0.01)
    await World.begin(pool)
    await queue(pool, (0, 9))
    claims = Claims("net", uuid4())
    claim = await take(claims, pool, 10)
    until = "select until from scan_claim"
    async with claims.kept(pool, claim), asyncio.timeout(10):
        first = await pool.fetchval(until)
        while await pool.fetchval(until) == first:
            await asyncio.sleep(0.01)
    assert await pool.fetchval("select count(*) from scan_claim") == 0


async def test_a_backfill_waits_for_calm_but_not_for_ever_and_gaps_do_not_wait(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_claims, "CALM", timedelta(hours=1))
    await World.begin(pool)
    await queue(pool, (0, 999), (500, 509))
    claims = Claims("net", uuid4())
    gap = await take(claims, pool, 100)
    assert (gap.first, gap.last) == (500, 509)
    async with claims.kept(pool, gap):
        await read(pool, gap)
    async with pool.acquire() as connection:
        assert await claims.take(connection, 999, 100) is None
    await pool.execute(
        "update scan set created_at = created_at - $1::interval", scan_claims.PATIENCE
    )
    assert (await take(claims, pool, 100)).first == 0


async def test_several_processes_share_a_backfill(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.stride.FIRST_BLOCKS", 8)
    monkeypatch.setattr(scan_claims, "GAP_BLOCKS", 0)
    world = await World.begin(pool)
    for number in range(120):
        world.chain.mine(payment(number, (ADDRESSES[0], 1 + number)))
    while len(world.chain.view) - 1 > await pool.fetchval("select height from cursor"):
        await world.step()
    await world.register("alice", ADDRESSES[0], from_block=2)
    await world.step()
    processes = [scanner(world) for _ in range(3)]

    async def work(each: Scanner) -> None:
        while await pool.fetchval("select exists (select from scan where state = 'open')"):
            await each.step()

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(work(each) for each, _ in processes))
    assert fetched(chain for _, chain in processes) == Counter(range(2, 122))
    assert min(len(chain.fetched) for _, chain in processes) > 0
    assert await pool.fetchval("select count(*) from deposit") == 120


async def test_a_million_addresses_with_a_from_block_read_each_block_once(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In calls of ten thousand, while the follower activates them and the scanner is at work."""
    monkeypatch.setattr(scan_claims, "CALM", timedelta(seconds=10 if SOAK else 4))
    monkeypatch.setattr(scan_claims, "PATIENCE", timedelta(hours=1))
    if not SOAK:
        monkeypatch.setattr(coverage, "ACTIVATED_AT_ONCE", 150)
    world = await World.begin(pool)
    await advance(world, 400)
    working, chain = scanner(world)
    async with asyncio.timeout(PATIENCE):
        at_work = [asyncio.create_task(again(step)) for step in (world.step, working.step)]
        keys = [number.to_bytes(20, "big") for number in range(1, REGISTERED + 1)]
        for at in range(0, REGISTERED, A_CALL):
            some = [coverage.NewAddress(key, from_block=3) for key in keys[at : at + A_CALL]]
            async with pool.acquire() as connection, connection.transaction():
                await coverage.register_addresses(connection, "net", "alice", some, silent=False)
        while await pool.fetchval(OPEN_OR_PENDING):
            await asyncio.sleep(0.1)
        for task in at_work:
            task.cancel()
    await asyncio.gather(*at_work, return_exceptions=True)
    assert await pool.fetchval("select count(*) from scan") > REGISTERED // 10_000
    assert Counter(chain.fetched) == Counter(range(3, 402))


OPEN_OR_PENDING: Final = """
    select exists (select from watched_address where state = 'pending')
        or exists (select from scan where state = 'open')
"""


async def again(step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await step()
        await asyncio.sleep(0.01)


def test_a_stride_follows_the_node() -> None:
    stride = Stride()
    assert stride.blocks == FIRST_BLOCKS
    for _ in range(20):
        stride.took(stride.blocks, STRIDE_SECONDS / 100)
    assert stride.blocks == MOST_BLOCKS
    stride.took(stride.blocks, 4 * STRIDE_SECONDS)
    assert stride.blocks == MOST_BLOCKS // 4
    stride.took(3, STRIDE_SECONDS / 100)  # the rest of a range
    assert stride.blocks == MOST_BLOCKS // 4
    for _ in range(20):
        stride.failed()
    assert stride.blocks == 1
