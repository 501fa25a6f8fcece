"""The watchdog: loud while heads stand still or deliveries stay due, and quiet again after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from indexer import watchdog
from indexer.secret import Vault
from indexer.watchdog import DELIVERIES, Watchdog
from tests import callback_rows as rows


@dataclass
class Rules:
    tip_alarm: float | None = None


async def look(dog: Watchdog) -> list[tuple[str, str]]:
    """What it says: the level, and of what."""
    with capture_logs() as logs:
        await dog.look()
    return [(line["log_level"], line.get("what", line["event"])) for line in logs]


def late(what: str) -> float | None:
    return REGISTRY.get_sample_value("depositd_late", {"what": what})


async def standing_still(pool: asyncpg.Pool, seconds: int, interval: int = 1) -> None:
    """A network whose head rose so long ago, after blocks at an interval."""
    await pool.execute(
        "insert into network (id, family) values ('net', 'evm') on conflict do nothing"
    )
    await pool.execute(
        "update network set head = 1, head_at = clock() - make_interval(secs => $1)", seconds
    )
    await pool.execute("delete from block")
    await pool.execute(
        """
        insert into block (network, height, hash, parent, time, source)
        select 'net', n, $1, $1, clock() + make_interval(secs => n * $2), ''
          from generate_series(0, 1) n
        """,
        bytes(32),
        interval,
    )
    await pool.execute(
        """
        insert into cursor (network, height, hash) values ('net', 1, $1)
            on conflict (network) do nothing
        """,
        bytes(32),
    )


NETWORKS: Mapping[str, Any] = {"net": Rules()}


@pytest.mark.pitfall("P60", "P61")
async def test_a_head_that_stands_still_is_told_loudly_and_not_at_every_look(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dog = Watchdog(pool, NETWORKS)
    await standing_still(pool, 119)
    assert await look(dog) == []
    assert late("net") == 0
    await standing_still(pool, 130)
    assert await look(dog) == [("critical", "net")]
    assert late("net") == 1
    assert dog.reasons(["net"]) == ["network net: no new head for 130 s (the alarm is at 120 s)"]
    assert dog.reasons(["other", DELIVERIES]) == []
    assert await look(dog) == []
    monkeypatch.setattr(watchdog, "REMIND_SECONDS", 0.0)
    assert await look(dog) == [("critical", "net")]
    await standing_still(pool, 1)
    assert await look(dog) == [("warning", "net")]
    assert dog.reasons() == []
    assert late("net") == 0


async def test_slow_chains_have_time_and_an_operator_s_word_stands_above_that(
    pool: asyncpg.Pool,
) -> None:
    await standing_still(pool, 7_000, interval=600)
    assert await look(Watchdog(pool, NETWORKS)) == []
    await standing_still(pool, 7_300, interval=600)
    assert await look(Watchdog(pool, NETWORKS)) == [("critical", "net")]
    assert await look(Watchdog(pool, {"net": Rules(tip_alarm=8_000)})) == []
    assert await look(Watchdog(pool, {"net": Rules(tip_alarm=0)})) == []
    await standing_still(pool, 20)
    assert await look(Watchdog(pool, {"net": Rules(tip_alarm=10)})) == [("critical", "net")]


async def test_a_network_that_nobody_configured_or_looked_at_raises_no_alarm(
    pool: asyncpg.Pool,
) -> None:
    await standing_still(pool, 9_000)
    assert await look(Watchdog(pool, {})) == []
    await pool.execute("update network set head_at = null")
    assert await look(Watchdog(pool, NETWORKS)) == []


@pytest.mark.case(40)
async def test_a_delivery_that_stays_due_is_told_unless_it_is_held(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    dog = Watchdog(pool, {})
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    assert await look(dog) == []
    await pool.execute("update delivery set due_at = clock() - interval '75 s'")
    assert await look(dog) == [("critical", DELIVERIES)]
    assert late(DELIVERIES) == 1
    assert dog.reasons([DELIVERIES]) == [
        f"the oldest callback, of endpoint {name}, has been due for 75 s"
    ]
    await pool.execute("update endpoint set state = 'paused'")
    assert await look(dog) == [("warning", DELIVERIES)]
    assert late(DELIVERIES) == 0


async def test_a_database_out_of_reach_is_a_word_and_no_end(pool: asyncpg.Pool) -> None:
    dog = Watchdog(pool, NETWORKS)
    await standing_still(pool, 1)
    await dog.look()
    assert REGISTRY.get_sample_value("depositd_database_up") == 1
    pool.set_connect_args("postgresql://127.0.0.1:1/nowhere")
    await pool.expire_connections()
    assert [level for level, _ in await look(dog)] == ["warning"]
    assert REGISTRY.get_sample_value("depositd_database_up") == 0
    assert REGISTRY.get_sample_value("depositd_cursor_height", {"network": "net"}) is None
