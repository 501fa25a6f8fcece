"""Heartbeats: one event an endpoint and slot, whoever makes it and whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from callbacks import heartbeats
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import dispatching, settled
from tests.harness.receiver import receiver

SECONDS = 60
URL = "https://shop.example/in"


async def endpoint(pool: asyncpg.Pool, vault: Vault, url: str = URL) -> str:
    name, _ = await rows.endpoint(pool, vault, url, heartbeat_seconds=SECONDS)
    return name


async def pass_time(pool: asyncpg.Pool, seconds: float) -> None:
    await pool.execute(
        "update endpoint set heartbeat_at = heartbeat_at - make_interval(secs => $1)", seconds
    )


async def slots(pool: asyncpg.Pool) -> list[datetime]:
    """Of the heartbeats in the order in which they were made."""
    found = await pool.fetch("select body from event where type = 'endpoint.heartbeat'")
    bodies = [json.loads(row["body"]) for row in found]
    return sorted(datetime.fromisoformat(body["data"]["slot"]) for body in bodies)


async def next_slot(pool: asyncpg.Pool) -> Any:
    return await pool.fetchval("select heartbeat_at from endpoint")


async def test_the_first_is_due_after_one_slot(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    assert await heartbeats.beat(pool) == 0
    await pass_time(pool, SECONDS)
    due = await next_slot(pool)
    assert await heartbeats.beat(pool) == 1
    assert await slots(pool) == [due]
    assert ((await next_slot(pool)) - due).total_seconds() == SECONDS
    assert await heartbeats.beat(pool) == 0


async def test_any_number_of_dispatchers_make_one_a_slot(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    names = [await endpoint(pool, vault) for _ in range(20)]
    for _ in range(5):
        await pass_time(pool, SECONDS)
        made = await asyncio.gather(*(heartbeats.beat(pool) for _ in range(6)))
        assert sum(made) == len(names)
    counts = await pool.fetch(
        "select convert_from(body, 'utf8')::jsonb->'data'->>'endpoint' as endpoint, count(*) as n, "
        "count(distinct id) as ids from event group by 1"
    )
    assert {row["endpoint"]: (row["n"], row["ids"]) for row in counts} == dict.fromkeys(
        names, (5, 5)
    )


async def test_slots_that_pass_while_nobody_beats_are_left_out(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    await pass_time(pool, 10.5 * SECONDS)
    first = await next_slot(pool)
    assert await heartbeats.beat(pool) == 1
    [slot] = await slots(pool)
    assert (slot - first).total_seconds() == 9 * SECONDS
    assert ((await next_slot(pool)) - slot).total_seconds() == SECONDS


async def test_a_heartbeat_and_its_next_slot_are_made_together_or_not_at_all(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    await pass_time(pool, SECONDS)
    due = await next_slot(pool)
    with monkeypatch.context() as broken:
        broken.setattr(heartbeats, "_NEXT", "select 1 / 0, $1::text[], $2::timestamptz[]")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await heartbeats.beat(pool)
    assert await slots(pool) == []
    assert await next_slot(pool) == due
    assert await heartbeats.beat(pool) == 1
    assert await pool.fetchval("select count(*) from delivery") == 1


async def test_one_that_still_waits_is_superseded_by_the_next(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    await rows.history(pool, 1, 1)
    for _ in range(3):
        await pass_time(pool, SECONDS)
        await heartbeats.beat(pool)
    live = await pool.fetch("select v.type from delivery d join event v on v.id = d.event")
    assert sorted(row["type"] for row in live) == ["deposit.detected", "endpoint.heartbeat"]
    done = await pool.fetch("select state::text, reason from delivery_done")
    assert [tuple(row) for row in done] == [("exhausted", "superseded")] * 2


async def test_one_that_is_being_sent_is_left_alone(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    await pass_time(pool, SECONDS)
    await heartbeats.beat(pool)
    await pool.execute(
        "update delivery set lease_token = gen_random_uuid(), leased_until = 'infinity'"
    )
    await pass_time(pool, SECONDS)
    await heartbeats.beat(pool)
    assert await pool.fetchval("select count(*) from delivery") == 2


@pytest.mark.parametrize(
    "change",
    [
        "update endpoint set state = 'paused'",
        "update endpoint set heartbeat_seconds = null, heartbeat_at = null",
    ],
)
async def test_an_endpoint_that_is_held_or_asks_for_none_has_none(
    pool: asyncpg.Pool, vault: Vault, change: str
) -> None:
    await rows.world(pool)
    await endpoint(pool, vault)
    await pass_time(pool, 5 * SECONDS)
    await pool.execute(change)
    assert await heartbeats.beat(pool) == 0
    assert await slots(pool) == []


async def test_a_heartbeat_arrives_signed_and_stands_in_no_feed(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop, dispatching(pool, vault):
        name, secret = await rows.endpoint(pool, vault, shop.url, heartbeat_seconds=SECONDS)
        shop.secrets.append(secret)
        await pass_time(pool, SECONDS)
        await heartbeats.beat(pool)
        [done] = await settled(pool)
    assert not shop.refused
    [request] = shop.requests
    assert (request.type, request.id) == ("endpoint.heartbeat", done["event"])
    assert request.event["data"]["endpoint"] == name
    assert request.event["data"]["heartbeatSeconds"] == SECONDS
    assert await pool.fetchval("select position from account") == 0
