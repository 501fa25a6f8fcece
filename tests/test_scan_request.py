"""A scan that an operator asks for: what it puts back, credits, keeps quiet, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg
import pytest

from indexer import origin
from indexer.booking import COVERED, Terms
from indexer.chains import Block
from indexer.model import Refused, Unavailable
from indexer.scan import request as scan_request
from indexer.scan.request import Errand, Request, State
from tests.followed import World
from tests.scripted import TOKEN, ScriptedChain, payment
from tests.test_follower import ALICE, advance, world_with_alice
from tests.test_promises import check_totals

ALL_TERMS = Terms(all_history=True, silent=True)


def request(first: int, last: int, terms: Terms = COVERED) -> Request:
    return Request("net", first, last, terms)


async def scan(world: World, wanted: Request, chain: ScriptedChain | None = None) -> State:
    errand = await Errand.open(world.rules, chain or world.chain, world.pool, wanted)
    return await errand.run(await scan_request.ask(world.pool, wanted), lambda _: None)


async def with_endpoint(world: World) -> World:
    await world.pool.execute(
        "insert into endpoint (id, account, url) values ('e', 'alice', 'https://x')"
    )
    return world


async def told(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    """Events of deliveries, and their types."""
    rows = await pool.fetch(
        "select e.id, e.type from delivery v join event e on e.id = v.event order by e.sequence"
    )
    return [tuple(row) for row in rows]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_request, "BACKOFF_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(scan_request, "SHARED_SECONDS", 0.01)


async def test_a_deposit_that_was_deleted_is_put_back_and_its_callbacks_are_sent_once(
    pool: asyncpg.Pool,
) -> None:
    world = await with_endpoint(await world_with_alice(pool))
    await advance(world, 6, payment(1, (ALICE, 5)), payment(2, (ALICE, 6)))
    before = await told(pool)
    lost = await pool.fetchval("select id from deposit where units = 5")
    lost_events = {
        r["id"] for r in await pool.fetch("select id from event where deposit = $1", lost)
    }
    await pool.execute("delete from delivery")  # all were delivered
    await pool.execute("delete from event where deposit = $1", lost)
    await pool.execute("delete from deposit where id = $1", lost)
    done = await scan(world, request(1, 7))
    assert (done.unread, done.deposits) == (0, 1)
    assert await pool.fetchval("select state from deposit where id = $1", lost) == "confirmed"
    assert await told(pool) == [each for each in before if each[0] in lost_events]
    await check_totals(pool)
    again = await scan(world, request(1, 7))
    assert again.deposits == 0
    assert len(await told(pool)) == len(lost_events)


async def test_nothing_below_coverage_is_credited_unless_that_is_asked_for(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await advance(world, 3, payment(1, (ALICE, 1)), payment(2, (ALICE, 2), asset=TOKEN))
    await world.register("alice", ALICE)
    await world.register_coin()
    await world.step()
    await advance(world, 1, payment(3, (ALICE, 3), asset=TOKEN))
    assert (await scan(world, request(0, 5))).deposits == 0
    assert (await scan(world, request(0, 5, Terms(all_history=True)))).deposits == 2
    assert await pool.fetchval("select sum(units) from deposit where state <> 'held'") == 6


async def test_all_history_leaves_out_what_was_sent_to_ones_own_wallet_or_after_its_removal(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ALICE, role="own")
    await world.register("bob", ALICE)
    await world.step()
    await world.remove("bob", ALICE)
    await advance(world, 2, payment(1, (ALICE, 1)))
    assert (await scan(world, request(0, 3, Terms(all_history=True)))).deposits == 0


async def test_without_callbacks_nobody_hears_of_it_now_or_later(pool: asyncpg.Pool) -> None:
    world = await with_endpoint(await world_with_alice(pool, None))
    await advance(world, 1, payment(1, (ALICE, 5)))
    await pool.execute("delete from delivery")
    await pool.execute("delete from event")
    await pool.execute("delete from deposit")
    assert (await scan(world, request(1, 2, Terms(silent=True)))).deposits == 1
    await advance(world, 6)
    assert await pool.fetchval("select state from deposit") == "confirmed"
    assert await pool.fetchval("select count(*) from event") > 1
    assert await told(pool) == []


async def test_an_interrupted_scan_goes_on_where_it_was(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.stride.FIRST_BLOCKS", 5)
    monkeypatch.setattr("indexer.scan.stride.GROWTH", 1.0)
    world = await world_with_alice(pool)
    await advance(world, 28)
    reader = ScriptedChain(view=world.chain.view)
    wanted = request(1, 28)
    errand = await Errand.open(world.rules, reader, pool, wanted)
    number = await scan_request.ask(pool, wanted)

    def interrupt(now: State) -> None:
        if now.unread < 20:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await errand.run(number, interrupt)
    assert await scan_request.ask(pool, wanted) == number
    assert await scan_request.ask(pool, request(1, 28, ALL_TERMS)) != number
    left = await scan_request.state(pool, number)
    assert (left.unread, left.next) == (18, 11)
    assert (await scan(world, wanted, reader)).unread == 0
    assert Counter(reader.fetched) == Counter(range(1, 29))
    assert await scan_request.ask(pool, wanted) != number


@pytest.mark.usefixtures("impatient")
async def test_commands_that_ask_for_the_same_share_it(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.scan.stride.FIRST_BLOCKS", 4)
    world = await world_with_alice(pool)
    await advance(world, 38, payment(1, (ALICE, 1)))
    readers = [ScriptedChain(view=world.chain.view) for _ in range(3)]
    done = await asyncio.gather(*(scan(world, request(1, 39), reader) for reader in readers))
    assert [each.unread for each in done] == [0, 0, 0]
    assert sum((Counter(r.fetched) for r in readers), Counter()) == Counter(range(1, 40))


async def test_a_range_that_the_network_has_not_come_to_is_refused(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    with pytest.raises(Refused, match="--to 9 is beyond block 1"):
        await scan_request.ask(pool, request(1, 9))
    await pool.execute("delete from cursor")
    with pytest.raises(Refused, match="has not started yet"):
        await scan_request.ask(pool, request(0, 1))
    with pytest.raises(Refused, match="for EVM networks; net is of family scripted"):
        await scan(world, Request("net", 0, 1, COVERED, by_logs=True))
    assert await pool.fetchval("select count(*) from scan") == 0


@pytest.mark.usefixtures("impatient")
async def test_blocks_that_no_node_has_any_more_end_it_with_a_sentence(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 9)
    pruned = Pruned(view=world.chain.view)
    with pytest.raises(Unavailable, match=r"from 2 on can't be read: no block 2.*pruned them"):
        await scan(world, request(2, 8), pruned)
    assert pruned.asked == 3
    assert (await scan(world, request(2, 8))).unread == 0  # at a node that has them


class Pruned(ScriptedChain):
    lowest = 5  # block that it has
    asked = 0

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        self.asked += 1
        if first < self.lowest:
            raise Unavailable(f"no block {first} here")
        async for block in super().blocks(first, last):
            yield block


@pytest.mark.usefixtures("impatient")
async def test_a_scan_above_a_rewound_cursor_is_given_up(pool: asyncpg.Pool) -> None:
    world = await world_with_alice(pool)
    await advance(world, 9)
    wanted = request(5, 8)
    number = await scan_request.ask(pool, wanted)
    world.chain.final_depth = None
    await origin.rewind(pool, world.chain, "net", world.rules, 3)
    errand = await Errand.open(world.rules, world.chain, pool, wanted)
    with pytest.raises(Unavailable, match="rewound below block 5"):
        await errand.run(number, lambda _: None)


async def test_a_command_leaves_what_registrations_asked_for_to_the_engine_and_the_other_way_round(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool)
    await advance(world, 4)
    await world.register("alice", ALICE, from_block=1)
    await world.step()
    number = await scan_request.ask(pool, request(0, 5, ALL_TERMS))
    assert await world.scan()
    assert not await world.scan()
    assert (await scan_request.state(pool, number)).unread == 6
    await scan(world, request(0, 5, ALL_TERMS))
    open_scans: list[Any] = await pool.fetch("select from scan where state = 'open'")
    assert open_scans == []
