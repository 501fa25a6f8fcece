"""Endpoints that fail, ask for patience or want no more: spared, held, tried again, caught up."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from callbacks import endpoints
from callbacks.dispatcher import Dispatcher, Limits
from callbacks.health import FAULTS, OPEN_SECONDS
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import (
    QUICK,
    RULES,
    charged,
    dispatching,
    make_due,
    settled,
    true,
    until,
)
from tests.harness.moody import Moody, moody

HOURS_30 = 30 * 3600


async def shop(pool: asyncpg.Pool, vault: Vault, receiver: Moody, **given: Any) -> str:
    await rows.world(pool)
    return (await rows.endpoint(pool, vault, receiver.url, **given))[0]


async def deposits(pool: asyncpg.Pool, count: int) -> None:
    for number in range(count):
        await rows.history(pool, number, 1)


async def at_rest(pool: asyncpg.Pool) -> None:
    """Nothing is leased: what was under way is settled and the rest was given back."""

    async def quiet() -> bool:
        """No claim is under way that has not seen yet what this test waited for."""
        return not await pool.fetchval(
            """
            select exists (select from pg_stat_activity
                            where datname = current_database() and pid <> pg_backend_pid()
                              and backend_type = 'client backend' and state <> 'idle')
            """
        )

    async def free() -> bool:
        return not await pool.fetchval(
            "select exists (select from delivery where lease_token is not null)"
        )

    await until(quiet)
    await until(free)


async def hurried_open(pool: asyncpg.Pool) -> bool:
    """Whether it has opened; until then every attempt but that which opens it is due at once."""
    await pool.execute(
        "update delivery set due_at = clock() where lease_token is null and attempts < $1", FAULTS
    )
    return await is_open(pool)


async def held_open(pool: asyncpg.Pool) -> None:
    """The breaker has opened, and stays so until a test lets it go on, however long that takes."""

    async def held() -> Any:
        return await pool.fetchval(
            """
            update endpoint_health set open_until = clock() + interval '1 day', open_seconds = $1
             where open_until is not null returning true
            """,
            OPEN_SECONDS,
        )

    await until(held)


async def doubled(pool: asyncpg.Pool, times: int) -> None:
    """The failure of so many probes is known to all."""

    async def lengthened() -> bool:
        seconds = await pool.fetchval("select open_seconds from endpoint_health")
        return bool(seconds == OPEN_SECONDS * 2**times)

    await until(lengthened)


async def is_open(pool: asyncpg.Pool) -> bool:
    return bool(
        await pool.fetchval(
            "select exists (select from endpoint_health where open_until > clock())"
        )
    )


@pytest.mark.case(39)
async def test_a_dead_endpoint_is_left_alone_and_what_waits_costs_nothing(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status = 500
        await shop(pool, vault, receiver)
        await deposits(pool, 60)
        async with dispatching(pool, vault):
            await until(lambda: is_open(pool))
            await at_rest(pool)
            sent = len(receiver.heard)
            await asyncio.sleep(0.5)
            assert len(receiver.heard) == sent
    assert 5 <= sent <= 16  # what was under way, and what began before it was known
    assert await pool.fetchval("select sum(attempts) from delivery") == sent
    assert await pool.fetchval("select count(*) from delivery") == 60


@pytest.mark.case(39)
async def test_it_is_tried_with_one_then_with_more_and_everything_follows_at_once(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status = 500
        await shop(pool, vault, receiver)
        await deposits(pool, 60)
        async with dispatching(pool, vault):
            await until(lambda: is_open(pool))
            await at_rest(pool)
            failed = len(receiver.heard)
            receiver.status, receiver.seconds = 200, 0.03
            await pool.execute("update endpoint_health set open_until = clock()")
            done = await settled(pool)
    assert len(done) == 60
    widths = [each.at_once for each in receiver.heard[failed:]]
    assert widths[:2] == [1, 1]  # the probe, and half-open
    assert max(widths[2:4]) <= 2
    assert max(widths) == 8
    assert sum(row["attempts"] == 2 for row in done) == failed  # not at their own time, hours later


@pytest.mark.case(39)
async def test_a_failed_probe_is_charged_and_the_next_is_anothers(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status = 500
        await shop(pool, vault, receiver)
        await deposits(pool, 30)
        async with dispatching(pool, vault):
            await held_open(pool)
            await at_rest(pool)
            failed = len(receiver.heard)
            for probes in range(1, 4):
                await pool.execute("update endpoint_health set open_until = clock()")
                await doubled(pool, probes)
    probed = receiver.events[failed:]
    assert len(set(probed)) == 3
    assert await pool.fetchval("select sum(attempts) from delivery") == failed + 3


@pytest.mark.case(39)
async def test_recovery_is_noticed_before_the_message_has_its_own_time(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status = 500
        await shop(pool, vault, receiver)
        await deposits(pool, 1)
        async with dispatching(pool, vault):
            await until(lambda: hurried_open(pool))
            await held_open(pool)
            before = await charged(pool, FAULTS)
            await pool.execute("update delivery set due_at = clock() + interval '8 hours'")
            await pool.execute("update endpoint_health set open_until = clock()")
            await doubled(pool, 1)
            assert receiver.heard[-1].attempt == before["requests"] + 1
            failed = await pool.fetchrow("select attempts, due_at - clock() as left from delivery")
            assert failed["attempts"] == before["attempts"]
            assert failed["left"].total_seconds() > 7 * 3600
            receiver.status = 200
            await pool.execute("update endpoint_health set open_until = clock()")
            await settled(pool)


@pytest.mark.case(14)
async def test_a_storm_of_429_pauses_the_endpoint_and_charges_nothing(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status, receiver.headers = 429, {"Retry-After": "2"}
        await shop(pool, vault, receiver)
        await deposits(pool, 40)
        async with dispatching(pool, vault):
            await true(lambda: receiver.heard)
            await asyncio.sleep(0.3)
            stormed = len(receiver.heard)
            assert stormed <= 16
            await asyncio.sleep(1.0)
            assert len(receiver.heard) == stormed
            receiver.status, receiver.headers = 200, {}
            await true(lambda: len(receiver.heard) > stormed)
            assert receiver.heard[stormed].at - receiver.heard[stormed - 1].at > 1.5
            await make_due(pool)
            done = await settled(pool)
    assert {row["attempts"] for row in done} == {1}


@pytest.mark.case(15)
@pytest.mark.parametrize(
    ("status", "headers"),
    [(410, {}), (500, {"webhook-delivery": "disable"}), (200, {"webhook-delivery": "disable"})],
)
async def test_a_receiver_that_wants_no_more_is_held_and_resumes_in_order(
    pool: asyncpg.Pool, vault: Vault, status: int, headers: dict[str, str]
) -> None:
    async with moody() as receiver:
        receiver.status, receiver.headers = status, headers
        name = await shop(pool, vault, receiver)
        wanted = 4 - (status == 200)
        async with dispatching(pool, vault):
            await rows.history(pool, 1, 4)

            async def disabled() -> bool:
                return bool(await pool.fetchval("select state = 'disabled' from endpoint"))

            await until(disabled)
            await at_rest(pool)
            await asyncio.sleep(0.2)
            first = len(receiver.heard)
            assert first <= 2
            live = await pool.fetch("select attempts from delivery")
            assert len(live) + await pool.fetchval("select count(*) from delivery_done") == 4
            assert {row["attempts"] for row in live} == {0}
            assert len(live) <= wanted
            receiver.status, receiver.headers = 200, {}
            async with pool.acquire() as connection, connection.transaction():
                await endpoints.resume(connection, name)
            done = await settled(pool)
    assert [row["sequence"] for row in done] == [1, 2, 3, 4]
    assert {row["state"] for row in done} == {"delivered"}
    order = [row["event"] for row in done]
    accepted = [each.event for each in receiver.heard if each.status == 200]
    assert accepted == order


@pytest.mark.case(30)
async def test_the_word_of_an_attempt_that_outlived_its_lease_holds_nobody_up(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status, receiver.seconds = 410, 0.5
        await shop(pool, vault, receiver, concurrency=1)
        await deposits(pool, 3)
        async with dispatching(pool, vault, Limits(poll_seconds=3600.0)):
            await true(lambda: receiver.heard)
            await pool.execute("update delivery set lease_token = gen_random_uuid() where id = 1")
            receiver.status, receiver.seconds = 200, 0.0
            await true(lambda: len(receiver.heard) == 3)
            await pool.execute("update delivery set leased_until = clock()")
    assert await pool.fetchval("select state from endpoint") == "active"


@pytest.mark.case(15)
async def test_abort_message_ends_one_delivery_and_the_next_goes_on(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        receiver.status, receiver.headers = 400, {"webhook-delivery": "abort-message"}
        await shop(pool, vault, receiver)
        deposit = await rows.history(pool, 1, 1)
        async with dispatching(pool, vault):
            [first] = await settled(pool)
            receiver.status, receiver.headers = 200, {}
            await rows.event(pool, deposit, 2)
            _, second = await settled(pool)
    assert (first["state"], first["reason"], first["attempts"]) == ("exhausted", "aborted", 1)
    assert second["state"] == "delivered"
    assert await pool.fetchval("select state from endpoint") == "active"


async def test_an_endpoint_is_sent_at_its_rate_after_a_burst(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver, rate_limit=20.0, concurrency=64)
        await deposits(pool, 70)
        async with dispatching(pool, vault):
            await settled(pool)
    times = sorted(each.at - receiver.heard[0].at for each in receiver.heard)
    for number, at in enumerate(times):
        assert number + 1 <= 40 + 20 * at + 1
    assert times[-1] < 5


@pytest.mark.parametrize("dispatchers", [1, 3])
async def test_an_endpoint_never_has_more_at_once_than_it_takes(
    pool: asyncpg.Pool, vault: Vault, dispatchers: int
) -> None:
    async with moody() as receiver:
        receiver.seconds = 0.02
        await shop(pool, vault, receiver, concurrency=2)
        async with dispatching(pool, vault, Limits(lost_seconds=60.0), count=dispatchers):
            since = datetime.fromtimestamp(0, UTC)

            async def beaten() -> bool:
                seen = await pool.fetch("select from dispatcher where seen_at > $1", since)
                return len(seen) == dispatchers

            await until(beaten)
            since = await pool.fetchval("select clock()")
            await until(beaten)  # once more: now each has heard of all
            await asyncio.sleep(0.1)
            await deposits(pool, 60)
            await settled(pool)
    assert max(each.at_once for each in receiver.heard) == 2


async def test_the_next_event_of_a_deposit_does_not_wait_for_the_poll(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver)
        async with dispatching(pool, vault, Limits(poll_seconds=3600.0)):
            await rows.history(pool, 1, 6)
            await settled(pool)
    assert len(receiver.heard) == 6


async def test_more_than_one_claim_takes_does_not_wait_for_the_poll(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver, rate_limit=1000.0)
        await deposits(pool, 150)
        async with dispatching(pool, vault, Limits(poll_seconds=3600.0)):
            await settled(pool)
    assert len(receiver.heard) == 150


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_waits_here_for_an_endpoint_that_is_paused_or_deleted_is_not_sent(
    pool: asyncpg.Pool, vault: Vault, deleted: bool
) -> None:
    async with moody() as receiver:
        name = await shop(pool, vault, receiver, concurrency=1)
        await deposits(pool, 2)
        async with dispatching(pool, vault):
            await settled(pool)  # it is known to answer: more than one is claimed
            receiver.seconds = 0.4
            for number in range(2, 20):
                await rows.history(pool, number, 1)
            await true(lambda: len(receiver.heard) == 3)
            async with pool.acquire() as connection, connection.transaction():
                if deleted:
                    await endpoints.delete_endpoint(connection, name)
                else:
                    await endpoints.pause(connection, name)
            await asyncio.sleep(1.8)
    assert len(receiver.heard) <= 4  # of six that were in hand: one may go before the next poll


@pytest.mark.case(31)
async def test_a_stop_gives_back_at_once_what_was_not_begun(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver, concurrency=2)
        await deposits(pool, 1)
        async with dispatching(pool, vault) as stop:
            await settled(pool)  # who has answered is claimed for ahead
            receiver.seconds = 1.0
            for number in range(1, 30):
                await rows.history(pool, number, 1)
            await true(lambda: len(receiver.heard) == 3)
            leased = "select count(*) from delivery where lease_token is not null"
            assert await pool.fetchval(leased) > 2
            stop.set()

            async def only_what_is_under_way() -> bool:
                count: int = await pool.fetchval(leased)
                here: int = await pool.fetchval("select count(*) from dispatcher")
                return (count, here) == (2, 0)

            await until(only_what_is_under_way, 0.7)
        assert await pool.fetchval("select count(*) from delivery_done") == 3
    assert len(receiver.heard) == 3


@pytest.mark.case(27)
@pytest.mark.parametrize("skew", [600.0, -600.0])
async def test_a_dispatcher_whose_clock_is_off_signs_with_the_databases_time(
    pool: asyncpg.Pool, vault: Vault, skew: float
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver)
        await deposits(pool, 1)
        stop = asyncio.Event()
        dispatcher = Dispatcher(pool, vault, RULES, QUICK, now=lambda: time.time() + skew)
        running = asyncio.create_task(dispatcher.run(stop))
        await settled(pool)
        stop.set()
        await running
    assert abs(receiver.heard[0].timestamp - time.time()) < 30


@pytest.mark.case(27)
async def test_an_attempt_in_its_thirtieth_hour_is_signed_now(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    async with moody() as receiver:
        await shop(pool, vault, receiver)
        await deposits(pool, 1)
        await pool.execute(
            "update delivery set attempts = 11, requests = 11, "
            "created_at = created_at - make_interval(secs => $1), "
            "due_at = due_at - make_interval(secs => 60)",
            float(HOURS_30),
        )
        async with dispatching(pool, vault):
            await settled(pool)
    [only] = receiver.heard
    assert only.attempt == 12
    assert abs(only.timestamp - time.time()) < 30
