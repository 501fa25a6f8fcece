"""Events are forgotten after 90 days, not while somebody waits for them, and never in silence."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from callbacks import endpoints, news, resends, retention
from callbacks.news import HEARTBEAT, News
from indexer.secret import Vault
from tests import callback_rows as rows

OLD_DAYS = retention.KEPT_DAYS + 1


async def feed(pool: asyncpg.Pool) -> list[int]:
    """The positions that are left."""
    found = await pool.fetch(
        "select position from event where account = $1 order by 1", rows.ACCOUNT
    )
    return [row["position"] for row in found]


async def forgotten(pool: asyncpg.Pool) -> int:
    found: int = await pool.fetchval("select forgotten from account where id = $1", rows.ACCOUNT)
    return found


async def age(pool: asyncpg.Pool, last: int, days: int = OLD_DAYS) -> None:
    """Events up to that position are so old."""
    await pool.execute(
        "update event set created_at = clock() - make_interval(days => $2) where position <= $1",
        last,
        days,
    )


async def deliver(pool: asyncpg.Pool) -> None:
    """Whatever waits has arrived."""
    await pool.execute("select end_deliveries(array(select id from delivery), 'delivered', null)")


async def test_events_go_when_they_are_old_enough(pool: asyncpg.Pool) -> None:
    await rows.world(pool)
    await rows.history(pool, 1, 6)
    await age(pool, 3)
    assert await retention.forget(pool) == 3
    assert await feed(pool) == [4, 5, 6]
    assert await forgotten(pool) == 3
    await age(pool, 6, retention.KEPT_DAYS)
    assert await retention.forget(pool) == 0
    assert await feed(pool) == [4, 5, 6]


async def test_a_live_delivery_keeps_its_event_and_the_feed_says_what_it_forgot(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    deposit = await rows.history(pool, 1, 5)
    await pool.execute(
        "select end_deliveries(array(select id from delivery where sequence <> 2), 'delivered', '')"
    )
    await age(pool, 4)
    assert await retention.forget(pool) == 3
    assert await feed(pool) == [2, 5]
    assert await forgotten(pool) == 4
    await deliver(pool)
    assert await retention.forget(pool) == 1
    assert await feed(pool) == [5]
    assert await forgotten(pool) == 4
    left = await pool.fetch("select sequence from event where deposit = $1", deposit)
    assert [row["sequence"] for row in left] == [5]


async def test_one_that_is_sent_again_keeps_its_event(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 2)
    await deliver(pool)
    await age(pool, 2)
    [first, _] = await pool.fetch("select event from delivery_done order by id")
    async with pool.acquire() as connection, connection.transaction():
        assert await resends.send_again(connection, name, [first["event"]]) == 1
        # Not committed yet, and yet it is not lost: its event is passed over.
        assert await asyncio.wait_for(retention.forget(pool), 5) == 1
    assert await feed(pool) == [1]
    assert await retention.forget(pool) == 0


async def test_news_of_endpoints_is_forgotten_too(pool: asyncpg.Pool) -> None:
    await rows.world(pool)
    moment = await pool.fetchval("select clock()")
    async with pool.acquire() as connection:
        for account in (rows.ACCOUNT, None):
            await news.store(connection, [News.of(account, HEARTBEAT, moment, {})] * 1)
    assert await retention.forget(pool) == 0
    await pool.execute(
        "update event set created_at = clock() - make_interval(days => $1)", OLD_DAYS
    )
    assert await retention.forget(pool) == 2
    assert await forgotten(pool) == 0


async def test_it_goes_on_batch_by_batch_and_beside_others(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 7)
    await rows.world(pool)
    await rows.world(pool, "other")
    await rows.history(pool, 1, 30)
    await rows.history(pool, 2, 30, "other")
    await age(pool, 25)
    counts = await asyncio.gather(*(retention.forget(pool) for _ in range(4)))
    assert sum(counts) + await retention.forget(pool) == 50
    left: Any = await pool.fetch("select account, min(position) as first from event group by 1")
    assert {row["account"]: row["first"] for row in left} == {rows.ACCOUNT: 26, "other": 26}
    assert await forgotten(pool) == 25


async def test_a_secret_that_signs_no_more_is_not_kept(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    async with pool.acquire() as connection, connection.transaction():
        await endpoints.rotate_secret(connection, vault, name, 3600)
    await retention.forget(pool)
    assert await pool.fetchval("select count(*) from endpoint_secret") == 2
    await pool.execute("update endpoint_secret set expires_at = clock() where expires_at > clock()")
    await retention.forget(pool)
    assert await pool.fetchval("select count(*) from endpoint_secret") == 1
