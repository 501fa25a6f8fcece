"""What attempts tell of an endpoint, in the database: for all dispatchers, and for the operator."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import checkups, endpoints
from callbacks.answer import Answer
from callbacks.checkups import Checkup
from callbacks.health import FAULTS, End, Report
from indexer.secret import Vault
from tests import callback_rows as rows

SECRET_PATH = "https://shop.example/secret-path"


def report(endpoint: str, end: End, **given: Any) -> Report:
    answer = Answer(204, None) if end is End.DELIVERED else Answer(500, "status")
    return Report(endpoint, end, answer, **given)


async def record(pool: asyncpg.Pool, endpoint: str, *ends: End, **given: Any) -> Checkup | None:
    found = await checkups.record(pool, [report(endpoint, end, **given) for end in ends])
    return found[0] if found else None


async def health(pool: asyncpg.Pool, endpoint: str) -> Any:
    return await pool.fetchrow(
        "select *, extract(epoch from open_until - clock())::float8 as open, "
        "extract(epoch from paused_until - clock())::float8 as pause "
        "from endpoint_health where endpoint = $1",
        endpoint,
    )


async def shop(pool: asyncpg.Pool, vault: Vault) -> str:
    await rows.world(pool)
    return (await rows.endpoint(pool, vault, SECRET_PATH))[0]


async def failing(pool: asyncpg.Pool, endpoint: str, interval: str, failures: int = 50) -> None:
    """It has failed for so long."""
    await pool.execute(
        "insert into endpoint_health (endpoint, failures, failing_since) "
        "values ($1, $2, clock() - $3::text::interval) on conflict (endpoint) do update "
        "set failures = excluded.failures, failing_since = excluded.failing_since",
        endpoint,
        failures,
        interval,
    )


async def test_a_row_is_kept_while_an_endpoint_ails_and_no_longer(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    await record(pool, name, End.DELIVERED)
    assert await health(pool, name) is None
    await record(pool, name, End.FAULT, End.REFUSED, End.FAULT)
    row = await health(pool, name)
    assert (row["failures"], row["faults"], row["failing_since"] is None) == (3, 1, False)
    await record(pool, name, End.FAULT)
    row = await health(pool, name)
    assert (row["failures"], row["faults"]) == (4, 2)
    await record(pool, name, End.DELIVERED)
    assert await health(pool, name) is None


async def test_dispatchers_count_faults_together(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shop(pool, vault)
    for _ in range(FAULTS - 1):
        found = await record(pool, name, End.FAULT)
        assert found is not None
        assert not found.stopped
    found = await record(pool, name, End.FAULT)
    assert found is not None
    assert found.stopped
    assert 29 < (await health(pool, name))["open"] <= 30


async def test_dispatchers_that_report_at_once_forget_nothing(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    await asyncio.gather(*(record(pool, name, End.REFUSED) for _ in range(40)))
    assert (await health(pool, name))["failures"] == 40


async def test_each_endpoint_has_its_own(pool: asyncpg.Pool, vault: Vault) -> None:
    first = await shop(pool, vault)
    second, _ = await rows.endpoint(pool, vault, SECRET_PATH)
    await checkups.record(
        pool,
        [report(name, End.FAULT) for name in (first, second, first, second, first, first, first)],
    )
    assert (await health(pool, first))["open"] is not None
    assert (await health(pool, second))["open"] is None


async def test_a_pause_is_for_all(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shop(pool, vault)
    found = await record(pool, name, End.PAUSE, pause_seconds=100.0)
    assert found is not None
    assert found.stopped
    assert 99 < (await health(pool, name))["pause"] <= 100


@pytest.mark.case(39)
async def test_the_first_answer_makes_everything_due_that_waits(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    for number in range(3):
        await rows.history(pool, number, 2)
    await pool.execute("update delivery set due_at = clock() + interval '8 hours'")
    await record(pool, name, *[End.FAULT] * FAULTS)
    late = "select count(*) from delivery where due_at > clock()"
    assert await pool.fetchval(late) == 6
    await record(pool, name, End.DELIVERED, probe=True)
    assert await pool.fetchval(late) == 0
    await pool.execute("update delivery set due_at = clock() + interval '8 hours'")
    await record(pool, name, End.DELIVERED)  # half-open already
    assert await pool.fetchval(late) == 6


@pytest.mark.case(15)
@pytest.mark.parametrize(("end", "reason"), [(End.GONE, "gone"), (End.UNWANTED, "unwanted")])
async def test_a_receiver_that_wants_no_more_holds_what_is_live(
    pool: asyncpg.Pool, vault: Vault, end: End, reason: str
) -> None:
    name = await shop(pool, vault)
    await rows.history(pool, 1, 2)
    found = await record(pool, name, end)
    assert found is not None
    assert found.stopped
    row = await pool.fetchrow("select state, state_reason from endpoint")
    assert tuple(row) == ("disabled", reason)
    assert await pool.fetchval("select count(*) from delivery") == 2


async def test_five_days_of_failure_disable_an_endpoint(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shop(pool, vault)
    await failing(pool, name, "119 hours 59 minutes")
    await record(pool, name, End.REFUSED)
    assert await pool.fetchval("select state from endpoint") == "active"
    await failing(pool, name, "120 hours", failures=18)
    await record(pool, name, End.REFUSED)
    assert await pool.fetchval("select state from endpoint") == "active"
    await record(pool, name, End.REFUSED)
    row = await pool.fetchrow("select state, state_reason from endpoint")
    assert tuple(row) == ("disabled", "failing")


async def test_what_was_under_way_when_it_was_held_changes_nothing(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    await pool.execute("update endpoint set state = 'paused'")
    assert await record(pool, name, End.GONE, *[End.FAULT] * FAULTS) is None
    assert await pool.fetchval("select state from endpoint") == "paused"
    assert await health(pool, name) is None


async def test_a_deleted_endpoint_is_left_out(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shop(pool, vault)
    found = await checkups.record(pool, [report("ep_gone", End.FAULT), report(name, End.FAULT)])
    assert [each.endpoint for each in found] == [name]


# ---------------------------------------------------------------------------- the operator


async def told(pool: asyncpg.Pool, endpoint: str) -> list[dict[str, Any]]:
    """The bodies of what an endpoint is about to be sent."""
    found = await pool.fetch(
        "select v.body from delivery d join event v on v.id = d.event "
        "where d.endpoint = $1 order by d.id",
        endpoint,
    )
    return [json.loads(row["body"]) for row in found]


async def test_the_operators_endpoint_hears_of_failing_disabled_and_recovered(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    operator, _ = await rows.endpoint(pool, vault, "https://ops.example/", account=None)
    with capture_logs() as logs:
        await failing(pool, name, "11 minutes")
        await record(pool, name, End.FAULT)
        await record(pool, name, End.DELIVERED)
        await record(pool, name, End.GONE)
    news = await told(pool, operator)
    assert [each["type"] for each in news] == [
        "endpoint.failing",
        "endpoint.recovered",
        "endpoint.disabled",
    ]
    first, second, third = (each["data"] for each in news)
    assert (first["endpoint"], first["account"], first["failures"]) == (name, rows.ACCOUNT, 51)
    assert (first["error"], first["status"], first["reason"]) == ("status", 500, None)
    assert second["failingSince"] == first["failingSince"]
    assert (third["reason"], third["failures"]) == ("gone", 0)
    lines = [(line["event"], line["log_level"], line["endpoint"]) for line in logs]
    assert lines == [
        ("endpoint failing", "warning", name),
        ("endpoint recovered", "info", name),
        ("endpoint disabled", "warning", name),
    ]
    assert "secret-path" not in f"{news}{logs}"


async def test_after_a_resume_nothing_is_held_against_it_and_its_recovery_is_told(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    operator, _ = await rows.endpoint(pool, vault, "https://ops.example/", account=None)
    await failing(pool, name, "120 hours")
    await record(pool, name, *[End.FAULT] * FAULTS)
    assert await pool.fetchval("select state from endpoint where id = $1", name) == "disabled"
    async with pool.acquire() as connection, connection.transaction():
        await endpoints.resume(connection, name)
    found = await record(pool, name, End.FAULT)
    assert found is not None
    assert (found.stopped, found.told, found.health.failures) == (False, [], 1)
    await record(pool, name, End.DELIVERED)
    assert await health(pool, name) is None
    assert [each["type"] for each in await told(pool, operator)] == [
        "endpoint.disabled",
        "endpoint.recovered",
    ]


async def test_news_of_endpoints_is_in_nobodys_feed(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shop(pool, vault)
    await rows.endpoint(pool, vault, "https://ops.example/", account=None)
    await record(pool, name, End.GONE)
    row = await pool.fetchrow("select account, position, deposit from event")
    assert tuple(row) == (None, None, None)
    assert await told(pool, name) == []


async def test_the_operators_endpoints_get_what_they_ask_for(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shop(pool, vault)
    wanted = {}
    for events in (["endpoint.*"], ["endpoint.disabled"], ["endpoint.failing"]):
        made, _ = await rows.endpoint(
            pool, vault, "https://ops.example/", account=None, events=events
        )
        wanted[events[0]] = made
    await record(pool, name, End.GONE)
    heard = {events: len(await told(pool, made)) for events, made in wanted.items()}
    assert heard == {"endpoint.*": 1, "endpoint.disabled": 1, "endpoint.failing": 0}


async def test_an_endpoint_is_not_told_of_itself(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    failing_one, _ = await rows.endpoint(pool, vault, "https://ops.example/", account=None)
    other, _ = await rows.endpoint(pool, vault, "https://ops.example/", account=None)
    await record(pool, failing_one, End.GONE)
    assert await told(pool, failing_one) == []
    assert len(await told(pool, other)) == 1
