"""Crashes, pauses, stops and a database that goes away: nothing is lost, nothing overtakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import batches, claims, endpoints, outcomes
from callbacks.claims import Lot
from callbacks.dispatcher import Dispatcher, Limits
from callbacks.outcomes import Outcome, Settled
from indexer.model import Impossible, Unavailable
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import (
    QUICK,
    RULES,
    charged,
    claim,
    dispatching,
    hurried,
    make_due,
    settled,
    until,
)
from tests.harness.receiver import Receiver, receiver


async def endpoint(pool: asyncpg.Pool, vault: Vault, shop: Receiver) -> str:
    name, secret = await rows.endpoint(pool, vault, shop.url)
    shop.secrets.append(secret)
    return name


async def heard(shop: Receiver, count: int) -> None:
    async def enough() -> bool:
        return len(shop.requests) >= count

    await until(enough)


@pytest.mark.case(29)
@pytest.mark.pitfall("P119", "P120")
async def test_a_crash_between_send_and_settle_repeats_the_same_bytes(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rows.world(pool)
    real = outcomes.settle

    async def hang(*_: Any) -> dict[int, Settled]:
        await asyncio.sleep(3600)
        return {}

    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 2)
        monkeypatch.setattr(outcomes, "settle", hang)
        crashing = asyncio.create_task(Dispatcher(pool, vault, RULES, QUICK).run(asyncio.Event()))
        await heard(shop, 1)
        crashing.cancel()
        with suppress(asyncio.CancelledError):
            await crashing
        monkeypatch.setattr(outcomes, "settle", real)
        await make_due(pool, leased=True)
        async with dispatching(pool, vault):
            await settled(pool)
    shop.check()
    assert [request.sequence for request in shop.requests] == [1, 1, 2]
    assert shop.requests[0].id == shop.requests[1].id
    assert shop.requests[0].body == shop.requests[1].body


@pytest.mark.case(30)
async def test_the_outcome_of_an_attempt_that_outlived_its_lease_is_refused(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(delay=3600.0) as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 1)
        with capture_logs() as logs:
            slow = Limits(attempt_seconds=1.0, poll_seconds=3600.0)
            async with dispatching(pool, vault, slow) as stop:
                await heard(shop, 1)
                stop.set()
                await make_due(pool, leased=True)
                [other] = await claim(pool)
            refused = [line for line in logs if line["event"] == "outcome refused"]
    held = await pool.fetchrow("select * from delivery")
    assert (held["lease_token"], held["attempts"], held["last_error"]) == (other.token, 0, None)
    assert [line["delivery"] for line in refused] == [other.id]


@pytest.mark.case(30)
async def test_nothing_is_sent_under_a_lease_too_old_for_an_attempt(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 1)
        limits = Limits(lease_seconds=0.2, attempt_seconds=0.5, poll_seconds=0.02)
        with capture_logs() as logs:
            async with dispatching(pool, vault, limits):

                async def noticed() -> bool:
                    return any(line["event"] == "lease too old to send" for line in logs)

                await until(noticed)
    assert shop.requests == []
    assert await pool.fetchval("select attempts from delivery") == 0


@pytest.mark.case(31)
async def test_a_stop_lets_attempts_finish_and_claims_nothing_new(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(delay=0.3) as shop:
        await endpoint(pool, vault, shop)
        for number in range(20):
            await rows.history(pool, number, 1)
        async with dispatching(pool, vault) as stop:
            await heard(shop, 8)
            stop.set()
    shop.check()
    sent = len(shop.requests)
    assert 8 <= sent < 20
    assert await pool.fetchval("select count(*) from delivery_done") == sent
    left = await pool.fetch("select lease_token, due_at <= clock() as due from delivery")
    assert {(row["lease_token"], row["due"]) for row in left} == {(None, True)}


@pytest.mark.case(31)
async def test_a_stop_during_a_claim_gives_the_leases_back(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rows.world(pool)
    real, stop = claims.claim, asyncio.Event()

    async def claim_last(*given: Any) -> list[Lot]:
        lots: list[Lot] = await real(*given)
        stop.set()
        return lots

    monkeypatch.setattr(claims, "claim", claim_last)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 1)
        await asyncio.wait_for(Dispatcher(pool, vault, RULES, QUICK).run(stop), 10)
    assert shop.requests == []
    left = await pool.fetchrow("select *, due_at <= clock() as due from delivery")
    assert (left["lease_token"], left["due"], left["attempts"]) == (None, True, 0)


@pytest.mark.case(32)
async def test_outcomes_wait_for_the_database_and_are_not_lost(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rows.world(pool)
    real, failures = outcomes.settle, iter([True] * 3)

    async def settle(pool: asyncpg.Pool, batch: Sequence[Outcome]) -> dict[int, Settled]:
        if next(failures, False):
            raise Unavailable("the database is out of reach: a test says so")
        return await real(pool, batch)

    monkeypatch.setattr(outcomes, "settle", settle)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        for number in range(30):
            await rows.history(pool, number, 1)
        async with dispatching(pool, vault):
            done = await settled(pool)
    assert {(row["state"], row["attempts"]) for row in done} == {("delivered", 1)}
    assert len(shop.requests) == 30


@pytest.mark.case(32)
async def test_no_more_is_claimed_than_can_be_remembered(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, away = outcomes.settle, asyncio.Event()
    away.set()

    async def settle(pool: asyncpg.Pool, batch: Sequence[Outcome]) -> dict[int, Settled]:
        if away.is_set():
            raise Unavailable("the database takes nothing")
        return await real(pool, batch)

    monkeypatch.setattr(outcomes, "settle", settle)
    monkeypatch.setattr(batches, "LAST_RETRY_SECONDS", 0.1)
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        for number in range(40):
            await rows.history(pool, number, 1)
        async with dispatching(pool, vault, Limits(slots=10, poll_seconds=0.02)):
            await heard(shop, 10)
            await asyncio.sleep(0.5)
            assert len(shop.requests) == 10
            away.clear()
            await settled(pool)
    assert len(shop.requests) == 40


@pytest.mark.case(32)
async def test_connections_cut_again_and_again_lose_nothing(
    dsn: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    operator = await asyncpg.connect(dsn)
    try:
        async with receiver(fail=0.1, delay=0.05, seed=32) as shop:
            await endpoint(pool, vault, shop)
            for number in range(60):
                await rows.history(pool, number, 2)
            async with dispatching(pool, vault, count=2):
                for _ in range(6):
                    await asyncio.sleep(0.2)
                    await operator.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where datname = current_database() and pid <> pg_backend_pid()"
                    )

                async def finished() -> bool:
                    # Backoffs end, and leases that no attempt holds any more (after 1.5 s) too.
                    await operator.execute(
                        "update delivery set due_at = least(due_at, clock()), leased_until = "
                        "case when leased_until < clock() + '58.5 s' then clock() "
                        "else leased_until end"
                    )
                    return not await operator.fetchval("select exists (select from delivery)")

                await until(finished, 60.0)
        shop.check()
        done = await operator.fetch("select state, count(*) from delivery_done group by state")
    finally:
        await operator.close()
    assert [(row["state"], row["count"]) for row in done] == [("delivered", 120)]
    assert len({request.id for request in shop.accepted}) == 120


async def test_an_endpoint_deleted_during_an_attempt_cancels_it(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(delay=0.5) as shop:
        name = await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 2)
        async with dispatching(pool, vault):
            await heard(shop, 1)
            async with pool.acquire() as connection, connection.transaction():
                await endpoints.delete_endpoint(connection, name)
    done = await pool.fetch("select state, reason, attempts from delivery_done order by id")
    assert [tuple(row) for row in done] == [("cancelled", "endpoint_deleted", 0)] * 2
    assert len(shop.requests) == 1


async def test_a_secret_that_does_not_open_stops_the_dispatcher_loudly(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        await pool.execute("update endpoint_secret set secret = '\\x00'")
        await rows.history(pool, 1, 1)
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(
                Dispatcher(pool, vault, RULES, QUICK, rng=Random(1)).run(asyncio.Event()), 10
            )
    assert caught.group_contains(Impossible)
    assert shop.requests == []


@pytest.mark.case(33)
@pytest.mark.pitfall("P120")
async def test_a_rolled_back_deposit_is_never_sent(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        async with dispatching(pool, vault), hurried(pool):
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await rows.history(connection, 1, 1)
                await asyncio.sleep(0.2)
                await transaction.rollback()
            await rows.history(pool, 2, 1)
            await settled(pool)
    [request] = shop.requests
    assert request.deposit == await pool.fetchval("select id from deposit")


async def test_news_makes_a_backed_off_head_go_out_again(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    async with receiver(fail=1.0) as shop:
        await endpoint(pool, vault, shop)
        deposit = await rows.history(pool, 1, 1)
        async with dispatching(pool, vault):
            await charged(pool, 1)
            shop.fail = 0.0
            await rows.event(pool, deposit, 2)
            done = await settled(pool)
    assert [(row["sequence"], row["attempts"]) for row in done] == [(1, 2), (2, 1)]
    assert [request.sequence for request in shop.requests] == [1, 1, 2]
