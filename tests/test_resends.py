"""A range of an endpoint's past is sent again: each event once, paced, whatever is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from random import Random

import asyncpg
import pytest

from callbacks import endpoints, resends
from indexer.database import connect_pool
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import QUICK, dispatching, hurried, settled, until
from tests.harness.receiver import receiver

URL = "https://shop.example/in"


async def past(pool: asyncpg.Pool, deposits: int, events: int = 1) -> list[str]:
    """Events, in the order of the feed; whatever endpoint there is was sent them."""
    first = await pool.fetchval("select count(*) from deposit")
    for number in range(first, first + deposits):
        await rows.history(pool, number, events)
    await arrive(pool)
    found = await pool.fetch("select id from event order by position")
    return [row["id"] for row in found]


async def arrive(pool: asyncpg.Pool) -> list[str]:
    """Whatever lives is delivered; the events, in the order of their time."""
    live = await pool.fetch("select event from delivery order by due_at, id")
    await pool.execute("select end_deliveries(array(select id from delivery), 'delivered', null)")
    return [row["event"] for row in live]


async def begin(
    pool: asyncpg.Pool, endpoint: str, states: Sequence[str] | None = None, hours: float = 24
) -> int:
    async with pool.acquire() as connection, connection.transaction():
        now = await connection.fetchval("select clock()")
        since = now - timedelta(hours=hours)
        wanted = await resends.bounded(connection, since, None, states)
        return await resends.begin(connection, endpoint, wanted)


async def pass_time(pool: asyncpg.Pool) -> None:
    """The next step may be taken."""
    await pool.execute("update resend set next_at = clock()")


async def all_of_it(pool: asyncpg.Pool) -> list[str]:
    """Every event that is sent again until no range is open, in the order of sending."""
    sent = []
    while await pool.fetchval("select exists (select from resend)"):
        await resends.feed(pool)
        sent += await arrive(pool)
        await pass_time(pool)
    return sent


async def test_a_range_is_sent_again_whole_in_the_order_of_the_feed_and_once(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resends, "MAX_SCAN", 7)
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL, rate_limit=4.0)  # 4 a step
    events = await past(pool, 10, 3)
    ids = {row["event"]: row["id"] for row in await pool.fetch("select * from delivery_done")}
    assert await begin(pool, name) == 30
    assert await all_of_it(pool) == events
    again = await pool.fetch("select * from delivery_done")
    assert {row["event"]: row["id"] for row in again} == ids


async def test_what_never_had_a_delivery_gets_one(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    before = await past(pool, 3, 2)
    name, _ = await rows.endpoint(pool, vault, URL)
    after = (await past(pool, 1))[-1:]
    assert await begin(pool, name, ["delivered"]) == 1
    assert await all_of_it(pool) == after
    assert await begin(pool, name) == 7
    assert await all_of_it(pool) == [*before, *after]
    assert await pool.fetchval("select count(*) from delivery_done") == 7


async def test_only_what_ended_so_is_sent_again(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    events = await past(pool, 6)
    await pool.execute(
        "update delivery_done set state = 'exhausted' where event = any ($1)", events[1:3]
    )
    await pool.execute(
        "update delivery_done set state = 'cancelled' where event = any ($1)", events[3:4]
    )
    assert await begin(pool, name, ["exhausted", "cancelled"]) == 3
    assert await all_of_it(pool) == events[1:4]


async def test_what_is_pending_stays_as_it_is(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    [first] = await past(pool, 1)
    await rows.history(pool, 2, 1)
    pending = await pool.fetchrow("select * from delivery")
    assert await begin(pool, name) == 1
    await resends.feed(pool)
    assert await pool.fetchrow("select * from delivery where not resent") == pending
    assert await pool.fetchval("select event from delivery where resent") == first


async def test_it_takes_a_fifth_of_the_rate_and_waits_for_the_receiver(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL, rate_limit=10.0)
    await past(pool, 40)
    await begin(pool, name)
    assert await resends.feed(pool) == 10  # two a second, for five seconds
    due = [row["due_at"] for row in await pool.fetch("select due_at from delivery order by 1")]
    apart = {round((b - a).total_seconds(), 3) for a, b in pairwise(due)}
    assert apart == {0.5}
    next_at = await pool.fetchval("select next_at from resend")
    assert next_at - due[0] >= timedelta(seconds=4.99)
    assert await resends.feed(pool) == 0
    await pass_time(pool)
    assert await resends.feed(pool) == 0  # none of those was tried yet
    await pass_time(pool)
    await pool.execute(
        "update delivery set attempts = 1 where id in (select id from delivery order by id limit 3)"
    )
    assert await resends.feed(pool) == 3


async def test_a_slow_endpoint_is_sent_one_at_a_time(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL, rate_limit=0.1)
    await past(pool, 2)
    await begin(pool, name)
    assert await resends.feed(pool) == 1
    wait = await pool.fetchval("select next_at - clock() from resend")
    assert timedelta(seconds=49) < wait <= timedelta(seconds=50)


async def test_one_range_of_an_endpoint_follows_another(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    other, _ = await rows.endpoint(pool, vault, URL)
    events = await past(pool, 5)
    for endpoint in (name, name, other):
        await begin(pool, endpoint)
    assert await resends.feed(pool) == 10
    assert Counter(await all_of_it(pool)) == dict.fromkeys(events, 3)


async def test_a_range_that_another_feeds_is_left_to_it(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    await past(pool, 3)
    await begin(pool, name)
    async with pool.acquire() as other, other.transaction():
        await other.execute("select from resend for update")
        assert await asyncio.wait_for(resends.feed(pool), 5) == 0
    assert await resends.feed(pool) == 3


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_an_endpoint_that_is_held_is_sent_nothing_more(
    pool: asyncpg.Pool, vault: Vault, state: str
) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    await past(pool, 5)
    await begin(pool, name)
    await pool.execute("update endpoint set state = $1", state)
    assert await resends.feed(pool) == 0
    async with pool.acquire() as connection, connection.transaction():
        await endpoints.delete_endpoint(connection, name)
    assert await pool.fetchval("select count(*) from resend") == 0


@pytest.mark.parametrize("statement", ["_STEP", "_AGAIN", "_ADVANCE"])
async def test_a_step_is_taken_whole_or_not_at_all(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL)
    events = await past(pool, 5)
    await begin(pool, name)
    with monkeypatch.context() as broken:
        broken.setattr(resends, statement, "select 1 / 0")
        with pytest.raises((asyncpg.DivisionByZeroError, asyncpg.InterfaceError)):
            await resends.feed(pool)
    assert await pool.fetchval("select count(*) from delivery") == 0
    assert await all_of_it(pool) == events


async def test_feeders_that_are_killed_lose_and_double_nothing(
    pool: asyncpg.Pool, vault: Vault, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resends, "STEP_SECONDS", 1.0)
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, URL, rate_limit=15.0)  # 3 a step
    events = await past(pool, 40)
    await begin(pool, name)
    rng, sent, killed = Random(37), [], 0

    async def one_more() -> bool:
        """Feeders at once; some are killed, as a process is: by its connections' end."""
        nonlocal killed
        doomed = await connect_pool(dsn, size=2)
        feeding = [asyncio.create_task(resends.feed(each)) for each in (pool, doomed, doomed)]
        await asyncio.sleep(rng.random() * 0.01)
        doomed.terminate()
        ended = await asyncio.gather(*feeding, return_exceptions=True)
        killed += sum(isinstance(each, BaseException) for each in ended)
        sent.extend(await arrive(pool))
        await pass_time(pool)
        return bool(await pool.fetchval("select exists (select from resend)"))

    while await one_more():
        pass
    assert killed > 5
    assert sent == events


@pytest.mark.case(37)
async def test_overlapping_ranges_single_resends_and_dispatchers_get_in_nobodys_way(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No deadlock, no delivery lost, none there twice."""
    monkeypatch.setattr(resends, "RATE_SHARE", 50.0)
    await rows.world(pool)
    async with receiver(fail=0.2, delay=0.005, seed=37) as shop:
        name, secret = await rows.endpoint(pool, vault, shop.url, rate_limit=1000.0)
        shop.secrets.append(secret)
        for number in range(25):
            await rows.history(pool, number, 3)
        rng = Random(37)

        async def one_by_one() -> None:
            for _ in range(150):
                row = await pool.fetchrow(
                    "select event from delivery_done offset $1 limit 1", rng.randrange(75)
                )
                if row is not None:
                    async with pool.acquire() as connection, connection.transaction():
                        await endpoints.share(connection, name)
                        await resends.send_again(connection, name, [row["event"]])
                await asyncio.sleep(0.002)

        async def ranges() -> None:
            for _ in range(8):
                await begin(pool, name)
                await asyncio.sleep(0.02)
            while await pool.fetchval("select exists (select from resend)"):
                await asyncio.gather(*(resends.feed(pool) for _ in range(2)))
                await pass_time(pool)

        async with dispatching(pool, vault, QUICK, count=2), hurried(pool):
            await asyncio.wait_for(asyncio.gather(one_by_one(), one_by_one(), ranges()), 60)
            done = await settled(pool)
    assert len(done) == len({row["event"] for row in done}) == 75
    assert {row["state"] for row in done} == {"delivered"}
    bodies = {(each.id, each.body) for each in shop.requests}
    assert len(bodies) == 75
    assert not shop.refused
    attempts = await pool.fetch("select delivery, count(*) as n from attempt group by 1")
    assert sum(row["n"] for row in attempts) == len(shop.requests) > 75
    assert await pool.fetchval("select bool_and(requests > 0) from delivery_done")


async def test_a_range_is_sent_by_dispatchers_with_the_ids_and_bytes_of_before(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        name, secret = await rows.endpoint(pool, vault, shop.url, rate_limit=1000.0)
        shop.secrets.append(secret)
        for number in range(10):
            await rows.history(pool, number, 3)
        async with dispatching(pool, vault):
            await settled(pool)
            first = {each.id: each.body for each in shop.requests}
            assert await begin(pool, name) == 30

            async def done() -> bool:
                await resends.feed(pool)
                return not await pool.fetchval("select exists (select from resend)")

            await until(done)
            await settled(pool)
    assert Counter(each.id for each in shop.requests) == dict.fromkeys(first, 2)
    assert {each.id: each.body for each in shop.requests} == first
    assert not shop.refused
