"""What is done to an endpoint: pause, resume, secrets anew, a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from aiohttp import web

from callbacks import trial
from callbacks.guard import FORBIDDEN
from indexer.model import format_time
from tests.api.past import URL, endpoint, happen, states
from tests.api.world import Caller, World
from tests.callback_runs import dispatching, make_due, settled, until
from tests.harness.receiver import Receiver, receiver
from tests.harness.server import serve

LOOPBACK: Final = {"allow_private": True, "allow_http": True}


@asynccontextmanager
async def shop(world: World) -> AsyncIterator[tuple[Receiver, Caller, str]]:
    """A receiver, alice at a server that lets callbacks go there, and the endpoint's path."""
    async with receiver() as made, world.with_callbacks(**LOOPBACK) as alice:
        path, secret = await endpoint(alice, made.url)
        made.secrets.append(secret)
        yield made, alice, path


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("POST", "pause"),
        ("POST", "resume"),
        ("POST", "rotate-secret"),
        ("DELETE", "old-secrets"),
        ("POST", "test"),
    ],
)
async def test_another_accounts_endpoint_is_not_there(
    world: World, method: str, action: str
) -> None:
    path, _ = await endpoint(world.alice)
    before = (await world.alice.get(path)).body
    refused = await world.bob.ask(method, f"{path}/{action}")
    assert refused.status == 404
    assert refused.error.startswith("there is no endpoint")
    assert (await world.alice.get(path)).body == before
    assert await world.pool.fetchval("select count(*) from event") == 0


# ---------------------------------------------------------------------------- pause and resume


async def test_what_is_held_is_sent_in_order_after_a_resume(world: World) -> None:
    async with shop(world) as (made, alice, path):
        paused = await alice.post(f"{path}/pause", None)
        assert (paused.status, paused.body["state"]) == (200, "paused")
        assert (await alice.post(f"{path}/pause", None)).body == paused.body
        async with dispatching(world.pool, world.context.vault):
            await happen(world, 3, 3)
            await asyncio.sleep(0.3)
            assert made.requests == []
            held = (await alice.get(f"{path}/deliveries")).body["items"]
            assert {each["state"] for each in held} == {"pending"}
            assert all(each["heldSince"] >= paused.body["stateSince"] for each in held)
            resumed = await alice.post(f"{path}/resume", None)
            assert (resumed.status, resumed.body["state"]) == (200, "active")
            await settled(world.pool)
        made.check()
        assert len(made.accepted) == 9


async def test_a_disabled_endpoint_is_resumed_and_its_past_forgotten(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await world.pool.execute(
        "update endpoint set state = 'disabled', state_reason = 'the receiver said 410'"
    )
    await world.pool.execute(
        "insert into endpoint_health (endpoint, failures, failing_since) "
        "select id, 99, clock() from endpoint"
    )
    await happen(world, 1)
    await world.pool.execute("update delivery set due_at = clock() + interval '20 hours'")
    refused = await world.alice.post(f"{path}/pause", None)
    assert (refused.status, "held already" in refused.error) == (409, True)
    resumed = await world.alice.post(f"{path}/resume", {})
    assert (resumed.body["state"], resumed.body["stateReason"]) == ("active", None)
    assert resumed.body["health"] is None
    assert await world.pool.fetchval("select due_at <= clock() from delivery")


async def test_a_resume_can_skip_what_is_held_or_what_is_older(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await world.alice.post(f"{path}/pause", None)
    await happen(world, 2)
    since = format_time(await world.pool.fetchval("select clock()"))
    await happen(world, 1)
    resumed = await world.alice.post(f"{path}/resume", {"held": "since", "since": since})
    assert resumed.body["state"] == "active"
    assert await states(world) == [("cancelled", "skipped")] * 2 + [("pending", None)]
    assert (await world.alice.post(f"{path}/resume", {"held": "skip"})).status == 409
    await world.alice.post(f"{path}/pause", None)
    await world.alice.post(f"{path}/resume", {"held": "skip"})
    assert await states(world) == [("cancelled", "skipped")] * 3


@pytest.mark.parametrize(
    "body",
    [
        {"held": "since"},
        {"since": "2026-01-01T00:00:00Z"},
        {"held": "skip", "since": "2026-01-01T00:00:00Z"},
        {"held": "none"},
    ],
)
async def test_a_resume_that_is_not_clear_is_refused(world: World, body: dict[str, Any]) -> None:
    path, _ = await endpoint(world.alice)
    await world.alice.post(f"{path}/pause", None)
    await happen(world, 1)
    assert (await world.alice.post(f"{path}/resume", body)).status == 400
    assert (await world.alice.get(path)).body["state"] == "paused"
    assert await states(world) == [("pending", None)]


async def test_deleting_an_endpoint_cancels_what_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callbacks.endpoints.BATCH", 4)
    path, _ = await endpoint(world.alice)
    await happen(world, 3, 3)
    assert (await world.alice.delete(path)).status == 204
    assert await states(world) == [("cancelled", "endpoint_deleted")] * 9


# ---------------------------------------------------------------------------- secrets


async def rotate(caller: Caller, path: str, **body: Any) -> str:
    answer = await caller.post(f"{path}/rotate-secret", body or None)
    assert (answer.status, set(answer.body)) == (200, {"secret"})
    secret: str = answer.body["secret"]
    return secret


async def ends(caller: Caller, path: str) -> list[str | None]:
    """When each of the secrets that sign will sign no more, the newest first."""
    return [each["expiresAt"] for each in (await caller.get(path)).body["secrets"]]


@pytest.mark.case(26)
async def test_old_and_new_secret_both_verify_in_the_overlap_and_the_new_one_after_it(
    world: World,
) -> None:
    async with shop(world) as (made, alice, path):
        [old] = made.secrets

        async def knowing() -> list[bool]:
            """Whether the next request convinces a receiver that knows the old, and the new one."""
            count = len(made.requests)
            async with dispatching(world.pool, world.context.vault):
                await happen(world, 1)
                await settled(world.pool)
            [request] = made.requests[count:]
            return [request.why_not(secret) is None for secret in (old, new)]

        new = await rotate(alice, path)
        made.secrets.append(new)
        assert await knowing() == [True, True]
        assert made.requests[-1].headers["webhook-signature"].count("v1,") == 2
        made.secrets.remove(old)  # receivers that know both, or the new one alone
        assert await knowing() == [True, True]
        await world.pool.execute(
            "update endpoint_secret set expires_at = clock() where expires_at > clock()"
        )
        assert await knowing() == [False, True]
        assert not made.refused


@pytest.mark.case(26)
@pytest.mark.parametrize("way", ["no overlap", "later"])
async def test_a_revoked_secret_verifies_nothing_from_then_on(world: World, way: str) -> None:
    async with shop(world) as (made, alice, path):
        [old] = made.secrets
        if way == "later":
            made.secrets.append(await rotate(alice, path))
            assert (await alice.delete(f"{path}/old-secrets")).status == 204
        else:
            made.secrets.append(await rotate(alice, path, overlapSeconds=0))
        assert await ends(alice, path) == [None]
        async with dispatching(world.pool, world.context.vault):
            await happen(world, 1)
            await settled(world.pool)
        [request] = made.requests
        assert request.why_not(old) is not None
        assert request.why_not(made.secrets[1]) is None


async def test_an_attempt_before_a_rotation_and_its_retry_after_it_both_verify(
    world: World,
) -> None:
    async with shop(world) as (made, alice, path):
        [old] = made.secrets
        made.fail = 1.0
        await happen(world, 1)

        async def tried() -> bool:
            return bool(await world.pool.fetchval("select exists (select from attempt)"))

        async with dispatching(world.pool, world.context.vault):
            await until(tried)
            new = await rotate(alice, path)
            made.fail = 0.0
            await make_due(world.pool)
            await settled(world.pool)
        before, after = made.requests
        assert (before.id, before.body) == (after.id, after.body)
        assert [before.why_not(old) is None, before.why_not(new) is None] == [True, False]
        assert [after.why_not(old) is None, after.why_not(new) is None] == [True, True]


async def test_the_old_secret_signs_for_a_day_or_as_told(world: World) -> None:
    path, _ = await endpoint(world.alice)
    for body, seconds in (({}, 86_400), ({"overlapSeconds": 604_800}, 604_800)):
        await world.alice.delete(f"{path}/old-secrets")
        await rotate(world.alice, path, **body)
        left = await world.pool.fetchval("select max(expires_at) - clock() from endpoint_secret")
        assert timedelta(seconds=seconds - 60) < left <= timedelta(seconds=seconds)
    for bad in (-1, 604_801, 1.5, "60"):
        refused = await world.alice.post(f"{path}/rotate-secret", {"overlapSeconds": bad})
        assert refused.status == 400


async def test_two_old_secrets_sign_at_most_and_none_is_made_to_live_longer(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await rotate(world.alice, path, overlapSeconds=100)
    await rotate(world.alice, path, overlapSeconds=100_000)
    newest, middle, oldest = await ends(world.alice, path)
    assert newest is None
    assert oldest is not None
    assert middle is not None
    assert oldest < middle
    await rotate(world.alice, path, overlapSeconds=50_000)
    assert len(await ends(world.alice, path)) == 3
    assert oldest not in await ends(world.alice, path)
    sealed = await world.pool.fetch("select secret from endpoint_secret")
    assert len({row["secret"] for row in sealed}) == 3


async def test_rotations_at_once_leave_one_newest(world: World) -> None:
    path, _ = await endpoint(world.alice)
    secrets = await asyncio.gather(*(rotate(world.alice, path) for _ in range(5)))
    assert len(set(secrets)) == 5
    assert [each is None for each in await ends(world.alice, path)] == [True, False, False]


# ---------------------------------------------------------------------------- a test


async def test_a_test_is_sent_at_once_and_shown(world: World) -> None:
    async with shop(world) as (made, alice, path):
        await happen(world, 1)
        for state in ("active", "paused"):
            await world.pool.execute("update endpoint set state = $1", state)
            shown = await alice.post(f"{path}/test", None)
            assert shown.status == 200
            assert (shown.body["status"], shown.body["error"]) == (204, None)
            assert (shown.body["address"], shown.body["number"]) == ("127.0.0.1", 1)
            assert shown.body["totalMs"] >= shown.body["firstByteMs"] > 0
            delivery = (await alice.get(f"/v1/deliveries/{shown.body['delivery']}")).body
            assert (delivery["type"], delivery["state"]) == ("endpoint.test", "delivered")
            assert delivery["attempts"] == [shown.body]
            assert made.requests[-1].id == delivery["event"]
            assert made.requests[-1].type == "endpoint.test"
        assert not made.refused
        assert len(made.requests) == 2  # the deposit's event is no test's to send
        assert await world.pool.fetchval("select position from account where id = 'alice'") == 1


async def test_a_test_that_fails_is_not_tried_again(world: World) -> None:
    async with shop(world) as (made, alice, path):
        made.fail = 1.0
        shown = await alice.post(f"{path}/test", None)
        assert (shown.status, shown.body["status"], shown.body["error"]) == (200, 500, "status")
        async with dispatching(world.pool, world.context.vault):
            await settled(world.pool)
        assert len(made.requests) == 1
        assert await states(world) == [("exhausted", "test")]


@pytest.mark.case(24)
async def test_a_test_tells_nothing_of_what_is_forbidden(world: World) -> None:
    """Whether something listens there or not: the same words, and no packet."""
    heard: list[web.BaseRequest] = []

    async def handle(request: web.Request) -> web.Response:
        heard.append(request)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    answers = []
    async with serve(app) as base:
        for url in (base, "http://127.0.0.1:1"):
            path, _ = await endpoint(world.alice)
            await world.pool.execute("update endpoint set url = $1 where id = $2", url, path[14:])
            shown = (await world.alice.post(f"{path}/test", None)).body
            answers.append({name: shown[name] for name in ("status", "error", "address", "head")})
    assert answers == [{"status": None, "error": "blocked", "address": None, "head": None}] * 2
    assert not heard
    assert FORBIDDEN not in str(answers)


async def test_one_test_of_an_endpoint_at_a_time(world: World) -> None:
    async with shop(world) as (made, alice, path):
        await trial._claim(world.pool, path[14:])
        refused = await alice.post(f"{path}/test", None)
        assert (refused.status, refused.error) == (409, "a test of this endpoint is under way")
        await make_due(world.pool, leased=True)  # whoever began it has died
        assert (await alice.post(f"{path}/test", None)).status == 200
        assert len(made.requests) == 1


async def test_a_test_whose_process_died_is_sent_by_a_dispatcher(world: World) -> None:
    async with shop(world) as (made, _, path):
        await trial._claim(world.pool, path[14:])
        async with dispatching(world.pool, world.context.vault):
            await asyncio.sleep(0.2)
            assert made.requests == []  # it is leased
            await make_due(world.pool, leased=True)
            await settled(world.pool)
        assert [each.type for each in made.requests] == ["endpoint.test"]
        assert not made.refused


async def test_the_operators_own_endpoint_can_be_tested(world: World) -> None:
    async with receiver() as made:
        path, secret = await endpoint(world.admin, URL)
        made.secrets.append(secret)
        await world.pool.execute("update endpoint set url = $1", made.url)
        async with world.with_callbacks(**LOOPBACK) as server:
            server.headers.update(world.admin.headers)
            shown = await server.post(f"{path}/test", None)
        assert shown.body["status"] == 204
        assert (await world.alice.get(f"/v1/deliveries/{shown.body['delivery']}")).status == 404
        assert (await world.admin.get(f"/v1/deliveries/{shown.body['delivery']}")).status == 200
