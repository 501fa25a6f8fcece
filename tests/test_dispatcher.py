"""What receivers get: signed, in order, again after failures, and never more than they can take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiohttp import web
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from callbacks.dispatcher import Limits
from callbacks.schedule import MAX_ATTEMPTS
from indexer import bell
from indexer.config import Callbacks
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import QUICK, charged, dispatching, hurried, requested, settled, until
from tests.harness.receiver import Receiver, receiver
from tests.harness.server import serve


async def endpoint(pool: asyncpg.Pool, vault: Vault, shop: Receiver) -> str:
    name, secret = await rows.endpoint(pool, vault, shop.url)
    shop.secrets.append(secret)
    return name


async def test_an_event_arrives_signed_and_the_delivery_is_done(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop, dispatching(pool, vault):
        name = await endpoint(pool, vault, shop)
        deposit = await rows.deposit(pool, 1)
        event = await rows.event(pool, deposit, 1)
        [done] = await settled(pool)
    shop.check()
    [request] = shop.requests
    assert request.id == event
    assert request.body == await pool.fetchval("select body from event")
    assert (done["endpoint"], done["state"], done["attempts"], done["last_status"]) == (
        name,
        "delivered",
        1,
        204,
    )


@pytest.mark.case(25, 34)
async def test_retries_verify_and_keep_order_with_several_dispatchers(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(fail=0.3, delay=0.02, seed=34) as shop:
        await endpoint(pool, vault, shop)
        deposits = [await rows.history(pool, number, 2) for number in range(15)]
        async with dispatching(pool, vault, count=3), hurried(pool):
            for sequence in (3, 4):
                for deposit in deposits:
                    await rows.event(pool, deposit, sequence, "deposit.confirmed")
            done = await settled(pool)
    shop.check()
    assert {row["state"] for row in done} == {"delivered"}
    assert len(shop.accepted) == len(done) == 60
    assert len(shop.requests) > 60


@asynccontextmanager
async def answering(*answers: web.Response) -> AsyncIterator[tuple[str, list[web.BaseRequest]]]:
    """A receiver that gives these answers in turn, the last one for ever; its URL and requests."""
    requests: list[web.BaseRequest] = []

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        chosen = answers[min(len(requests), len(answers) - 1)]
        requests.append(request)
        return web.Response(status=chosen.status, headers=chosen.headers)

    app = web.Application()
    app.router.add_post("/secret-path", handle)
    async with serve(app) as base:
        yield f"{base}/secret-path?key=secret-key", requests


@pytest.mark.pitfall("P119")
async def test_a_retry_is_signed_afresh_with_the_same_id_and_body(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with answering(web.Response(status=500), web.Response()) as (url, requests):
        _, secret = await rows.endpoint(pool, vault, url)
        await rows.history(pool, 1, 1)
        async with dispatching(pool, vault):
            await charged(pool, 1)
            await asyncio.sleep(1.0)  # so that the timestamp, whole seconds, is another
            async with hurried(pool):
                await settled(pool)
    first, second = requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert await first.read() == await second.read()
    assert first.headers["webhook-timestamp"] != second.headers["webhook-timestamp"]
    assert [r.headers["webhook-attempt"] for r in requests] == ["1", "2"]
    for request in requests:
        Webhook(secret).verify(await request.read(), dict(request.headers))


@pytest.mark.case(14)
@pytest.mark.parametrize(
    ("status", "retry_after", "charged", "least", "most"),
    [
        (500, None, 1, 5, 6),
        (404, None, 1, 5, 6),
        (302, None, 1, 5, 6),
        (500, "120", 1, 120, 132),
        (503, "120", 0, 120, 132),
        (429, "999999", 0, 3600, 3960),
        (503, "NaN", 1, 5, 6),
    ],
)
async def test_a_refused_callback_waits_for_schedule_and_retry_after(
    pool: asyncpg.Pool,
    vault: Vault,
    status: int,
    retry_after: str | None,
    charged: int,
    least: float,
    most: float,
) -> None:
    await rows.world(pool)
    headers = {} if retry_after is None else {"retry-after": retry_after}
    async with answering(web.Response(status=status, headers=headers)) as (url, requests):
        await rows.endpoint(pool, vault, url)
        await rows.history(pool, 1, 2)
        async with dispatching(pool, vault):
            waiting = await requested(pool, 1)
            await asyncio.sleep(0.1)
    assert (waiting["attempts"], waiting["last_error"], waiting["last_status"]) == (
        charged,
        "status",
        status,
    )
    assert least - 1 < waiting["wait"] <= most
    assert len(requests) == 1


async def test_fourteen_attempts_exhaust_a_delivery_and_free_the_next(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    refusals = [web.Response(status=400)] * MAX_ATTEMPTS
    async with answering(*refusals, web.Response()) as (url, requests):
        await rows.endpoint(pool, vault, url)
        deposit = await rows.history(pool, 1, 1)
        async with dispatching(pool, vault), hurried(pool):
            [first] = await settled(pool)
            await rows.event(pool, deposit, 2)
            second = (await settled(pool))[-1]
    assert (first["state"], first["reason"], first["attempts"]) == ("exhausted", "attempts", 14)
    assert (second["state"], second["attempts"]) == ("delivered", 1)
    assert [r.headers["webhook-attempt"] for r in requests] == [
        *(str(n) for n in range(1, 15)),
        "1",
    ]


async def test_a_head_that_is_refused_five_times_gives_way_to_the_next(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    refusals = [web.Response(status=400)] * 5
    async with answering(*refusals, web.Response()) as (url, _):
        await rows.endpoint(pool, vault, url)
        await rows.history(pool, 1, 2)
        async with dispatching(pool, vault), hurried(pool):
            first, second = await settled(pool)
    assert (first["state"], first["reason"], first["attempts"]) == ("exhausted", "superseded", 5)
    assert (second["state"], second["attempts"]) == ("delivered", 1)


async def test_a_receiver_that_never_answers_costs_one_attempt_at_its_limit(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(delay=3600.0) as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 1)
        start = time.monotonic()
        async with dispatching(pool, vault, Limits(attempt_seconds=0.3, poll_seconds=0.02)):
            waiting = await charged(pool, 1)
        assert time.monotonic() - start < 5
    assert (waiting["last_error"], waiting["last_status"]) == ("timeout", None)


async def test_a_dead_endpoint_with_a_backlog_holds_up_nobody(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver(delay=3600.0) as dead, receiver() as healthy:
        await endpoint(pool, vault, dead)
        for number in range(200):
            await rows.history(pool, number, 1)
        await endpoint(pool, vault, healthy)
        async with dispatching(pool, vault, Limits(attempt_seconds=2.0, poll_seconds=0.05)):

            async def stuck() -> bool:
                return bool(dead.requests)

            await until(stuck)
            start = time.monotonic()
            for number in range(1000, 1050):
                await rows.history(pool, number, 1)

            async def all_there() -> bool:
                return len(healthy.accepted) == 50

            await until(all_there)
            assert time.monotonic() - start < 1.5
            assert len(dead.requests) == 1  # it has never answered


async def test_an_endpoint_is_sent_eight_at_a_time(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    most, now = 0, 0

    async def handle(_: web.Request) -> web.Response:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/", handle)
    async with serve(app) as base:
        await rows.endpoint(pool, vault, base)
        for number in range(60):
            await rows.history(pool, number, 1)
        async with dispatching(pool, vault):
            assert len(await settled(pool)) == 60
    assert most == 8


async def test_the_bell_wakes_it_long_before_the_poll(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        async with dispatching(pool, vault, Limits(poll_seconds=3600.0)):
            await asyncio.sleep(0.3)
            await rows.history(pool, 1, 1)
            await settled(pool)
            # The listener's connection dies; the bell is hung up again.
            await pool.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and query ilike 'listen %'"
            )
            await asyncio.sleep(bell.RETRY_SECONDS + 0.5)
            await rows.history(pool, 2, 1)
            await settled(pool)
    assert len(shop.accepted) == 2


@pytest.mark.case(33, 41)
async def test_the_poll_finds_what_the_bell_did_not_say(
    pool: asyncpg.Pool, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(bell, "listen", deaf)
    await rows.world(pool)
    async with receiver() as shop, dispatching(pool, vault, Limits(poll_seconds=0.2)):
        await endpoint(pool, vault, shop)
        await asyncio.sleep(0.3)
        start = time.monotonic()
        await rows.history(pool, 1, 1)
        await settled(pool)
        assert time.monotonic() - start < 2


async def test_rules_that_became_stricter_block_an_old_endpoint(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    async with receiver() as shop:
        await endpoint(pool, vault, shop)
        await rows.history(pool, 1, 1)
        async with dispatching(pool, vault, rules=Callbacks()):
            waiting = await charged(pool, 1)
    assert (waiting["last_error"], waiting["last_status"]) == ("blocked", None)
    assert shop.requests == []


@pytest.mark.case(16)
async def test_a_redirect_target_hears_nothing(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    async with receiver() as target:
        moved = web.Response(status=307, headers={"location": target.url})
        async with answering(moved) as (url, _):
            await rows.endpoint(pool, vault, url)
            await rows.history(pool, 1, 1)
            async with dispatching(pool, vault):
                await charged(pool, 1)
    assert target.requests == []
    assert target.refused == []


async def test_a_failed_attempt_is_one_log_line_without_secrets(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    with capture_logs() as logs:
        async with answering(web.Response(status=503)) as (url, _):
            name, secret = await rows.endpoint(pool, vault, url)
            await rows.history(pool, 1, 1)
            async with dispatching(pool, vault, QUICK):
                await charged(pool, 1)
    [line] = [each for each in logs if each["event"] == "attempt failed"]
    assert line["endpoint"] == name
    assert (line["attempt"], line["status"], line["error"], line["charged"]) == (
        1,
        503,
        "status",
        True,
    )
    shown = str(logs)
    assert "secret" not in shown
    assert secret.removeprefix("whsec_") not in shown
    assert "v1," not in shown
