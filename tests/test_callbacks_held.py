"""What can't be sent for a month is given up, a week after it was said."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import held
from callbacks.metrics import GIVEN_UP_SOON
from indexer.secret import Vault
from tests import callback_rows as rows

Row = Any


async def endpoint(pool: asyncpg.Pool, vault: Vault, deliveries: int = 2) -> str:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    for number in range(deliveries):
        await rows.history(pool, number, 1)
    return name


async def age(pool: asyncpg.Pool, deliveries: float, endpoint: float) -> None:
    """Days by which deliveries, and the state of their endpoint, are old."""
    await pool.execute(
        "update delivery set created_at = clock() - make_interval(secs => $1)", deliveries * 86_400
    )
    await pool.execute(
        "update endpoint set state_since = clock() - make_interval(secs => $1)", endpoint * 86_400
    )


async def fail_since(pool: asyncpg.Pool, name: str, days: float, *, is_open: bool) -> None:
    await pool.execute(
        "insert into endpoint_health (endpoint, failures, failing_since, open_until, open_seconds) "
        "values ($1, 9, clock() - make_interval(secs => $2), case when $3 then clock() end, 300)",
        name,
        days * 86_400,
        is_open,
    )


async def given_up(pool: asyncpg.Pool) -> int:
    await held.give_up(pool)
    done = await pool.fetch("select state, reason from delivery_done")
    assert {(row["state"], row["reason"]) for row in done} <= {("exhausted", "endpoint_gone")}
    return len(done)


async def warnings(pool: asyncpg.Pool) -> list[Row]:
    with capture_logs() as logs:
        await held.warn(pool)
    return [line for line in logs if line["event"] == "deliveries will be given up"]


@pytest.mark.parametrize("state", ["paused", "disabled"])
@pytest.mark.parametrize(
    ("deliveries", "since", "wanted"),
    [(31, 31, 2), (31, 29.9, 0), (29.9, 31, 0), (30.1, 30.1, 2)],
)
async def test_a_month_in_a_held_endpoint_exhausts_a_delivery(
    pool: asyncpg.Pool, vault: Vault, state: str, deliveries: float, since: float, wanted: int
) -> None:
    await endpoint(pool, vault)
    await pool.execute("update endpoint set state = $1", state)
    await age(pool, deliveries, since)
    assert await given_up(pool) == wanted


async def test_an_active_endpoint_gives_nothing_up(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await endpoint(pool, vault)
    await age(pool, 400, 400)
    assert await given_up(pool) == 0
    await fail_since(pool, name, 40, is_open=False)
    assert await given_up(pool) == 0
    assert await warnings(pool) == []


async def test_an_open_breaker_counts_as_held(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await endpoint(pool, vault)
    await age(pool, 31, 400)
    await fail_since(pool, name, 31, is_open=True)
    assert await given_up(pool) == 2


async def test_the_breaker_before_a_disabling_is_the_same_time(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await endpoint(pool, vault)
    await pool.execute("update endpoint set state = 'disabled'")
    await age(pool, 31, 26)
    assert await given_up(pool) == 0
    await fail_since(pool, name, 31, is_open=True)
    assert await given_up(pool) == 2


async def test_a_delivery_that_is_being_sent_is_not_given_up(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await endpoint(pool, vault)
    await pool.execute("update endpoint set state = 'paused'")
    await age(pool, 31, 31)
    await pool.execute(
        "update delivery set lease_token = gen_random_uuid(), leased_until = clock() "
        "where id = (select min(id) from delivery)"
    )
    assert await given_up(pool) == 1


async def test_many_are_given_up_in_steps(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "BATCH", 3)
    await endpoint(pool, vault, 7)
    await pool.execute("update endpoint set state = 'paused'")
    await age(pool, 31, 31)
    assert await given_up(pool) == 7


async def test_it_is_said_seven_days_before(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await endpoint(pool, vault)
    await pool.execute("update endpoint set state = 'paused'")
    await age(pool, 22.9, 22.9)
    assert await warnings(pool) == []
    await age(pool, 23.1, 23.1)
    [line] = await warnings(pool)
    assert (line["endpoint"], line["state"], line["deliveries"], line["within_days"]) == (
        name,
        "paused",
        2,
        7,
    )
    assert "shop.example" not in str(line)
    assert GIVEN_UP_SOON._value.get() == 2
    assert await given_up(pool) == 0
