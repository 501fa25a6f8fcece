"""What the database knows in numbers: right, and as cheap with millions of rows as with few."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Final

import asyncpg
import pytest
from prometheus_client import REGISTRY

from indexer import census, metrics
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.followed import Rules, World
from tests.scripted import ADDRESSES, payment

BACKLOG: Final = 200_000  # live deliveries: more than are counted
QUICK_SECONDS: Final = 1.0  # generous: it takes some tens of milliseconds


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_network_is_told_with_its_heights_and_ages(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool, Rules(required=2))
    await world.register("alice", ADDRESSES[0])
    world.chain.mine(payment(1, (ADDRESSES[0], 5)))
    await world.step()
    await world.step()
    await pool.execute("update network set head = 4, head_at = clock() - interval '90 s'")
    await pool.execute(
        "insert into scan (network, first, last, unread) values ('net', 0, 9, '{[2,4), [7,10)}')"
    )
    [network] = (await census.take(pool)).networks
    found = asdict(network)
    assert (found["id"], found["head"], found["cursor"], found["scan_blocks"]) == ("net", 4, 2, 5)
    assert 90 <= found["head_age"] < 100
    assert 0 <= found["seen_age"] < 100
    assert found["interval"] == 1.0  # the scripted blocks are a second apart
    assert found["cursor_age"] > 10**6  # and long ago
    census.tell(await census.take(pool))
    assert told("depositd_lag_blocks", network="net") == 2
    assert told("depositd_deposits", network="net", state="detected") == 1
    assert told("depositd_watched_keys", network="net") == 1
    assert (told("depositd_watched_bytes", network="net") or 0) > 0


async def test_what_is_not_known_is_not_told(pool: asyncpg.Pool) -> None:
    await pool.execute("insert into network (id, family) values ('new', 'evm')")
    census.tell(await census.take(pool))
    assert told("depositd_network_state", network="new", state="starting") == 1
    assert told("depositd_tip_age_seconds", network="new") is None
    census.withdraw()
    assert told("depositd_network_state", network="new", state="starting") is None
    assert metrics.DATABASE_UP._value.get() == 0


async def test_only_what_may_be_sent_counts_as_due(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    for number in range(3):
        await rows.history(pool, number, 1)
    await pool.execute("update delivery set due_at = clock() - interval '90 s'")
    await pool.execute(
        "update delivery set due_at = clock() + interval '1 h' "
        "where id = (select max(id) from delivery)"
    )
    found = await census.take(pool)
    assert found.due == 2
    assert 90 <= found.oldest_due < 100
    assert found.oldest_endpoint == name
    for ill in (
        "insert into endpoint_health (endpoint, open_until) values ($1, clock())",
        "update endpoint_health set open_until = null, paused_until = clock() + interval '1 h' "
        "where endpoint = $1",
        "update endpoint set state = 'paused' where id = $1",
    ):
        await pool.execute(ill, name)
        found = await census.take(pool)
        assert (found.due, found.oldest_due) == (0, 0.0)


@pytest.mark.timeout(120)
async def test_a_long_backlog_costs_no_more_than_a_look(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    await pool.execute(
        """
        insert into event (id, type, body)
        select 'evt_' || n, 'endpoint.test', '' from generate_series(1, $1::integer) n
        """,
        BACKLOG,
    )
    await pool.execute(
        """
        insert into delivery (endpoint, event, due_at)
        select $1, 'evt_' || n, clock() - interval '5 s' from generate_series(1, $2::integer) n
        """,
        name,
        BACKLOG,
    )
    await pool.execute("analyze delivery")
    began = time.monotonic()
    found = await census.take(pool)
    assert time.monotonic() - began < QUICK_SECONDS
    assert found.due == census.COUNTED_DUE
    plans = await pool.fetch(f"explain {census._DUE.replace('$1', '100000')}")
    assert not [row[0] for row in plans if "Seq Scan on delivery" in row[0]]
