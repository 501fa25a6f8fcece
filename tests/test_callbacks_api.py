"""`/v1/endpoints`: registered with a secret shown once, listed, deleted; bad input named."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from aiohttp.test_utils import TestServer

from callbacks.api import routes
from callbacks.signing import decode_secret
from indexer.api.server import build
from tests.api.world import ADMIN_KEY, Caller, World

URL = "https://8.8.8.8/hook?key=1"  # a literal: nothing is looked up
FIELDS = {"id", "account", "url", "events", "networks", "coins", "description", "state"}


@pytest.fixture
async def world(pool: asyncpg.Pool) -> AsyncIterator[World]:
    world = await World.begin(pool)
    yield world
    await world.close()


@pytest.fixture
async def base(world: World) -> AsyncIterator[str]:
    """The URL of a server with these routes."""
    async with TestServer(build(world.context, [routes])) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def alice(world: World, base: str) -> Caller:
    return Caller(world.session, base, await world.new_key("alice", "read", "write"))


@pytest.fixture
async def bob(world: World, base: str) -> Caller:
    return Caller(world.session, base, await world.new_key("bob", "write"))


@pytest.fixture
async def admin(world: World, base: str) -> Caller:
    return Caller(world.session, base, ADMIN_KEY)


async def test_an_endpoint_shows_its_secret_once(world: World, alice: Caller) -> None:
    made = await alice.post("/v1/endpoints", {"url": URL})
    assert made.status == 201
    assert set(made.body) == FIELDS | {"createdAt", "secret"}
    secret, name = made.body["secret"], made.body["id"]
    assert (made.body["account"], made.body["url"], made.body["state"]) == ("alice", URL, "active")
    assert made.body["events"] is None
    sealed = await world.pool.fetchval(
        "select secret from endpoint_secret where endpoint = $1", name
    )
    assert world.context.vault.decrypt(sealed, name) == decode_secret(secret)
    shown = await alice.get(f"/v1/endpoints/{name}")
    listed = await alice.get("/v1/endpoints")
    assert shown.body == {key: value for key, value in made.body.items() if key != "secret"}
    assert listed.body == {"items": [shown.body], "nextCursor": None}


async def test_filters_are_kept_as_given(world: World, alice: Caller) -> None:
    coin = await world.pool.fetchval("select id from coin where network = 'ethereum'")
    given = {
        "url": URL,
        "events": ["deposit.*", "deposit.finalized"],
        "networks": ["ethereum", "bsc"],
        "coins": [coin],
        "description": "Kasse 1",
    }
    made = await alice.post("/v1/endpoints", given)
    assert {key: made.body[key] for key in given} == given


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"url": None}, "url", "must be"),
        ({"url": "https://127.0.0.1/"}, "url", "may not go"),
        ({"url": "http://8.8.8.8/"}, "url", "https://"),
        ({"url": "https://8.8.8.8:22/"}, "url", "ports"),
        ({"url": "https://a:b@8.8.8.8/"}, "url", "user name"),
        ({"url": "https://8.8.8.8/" + "a" * 3000}, "url", "2048"),
        ({"events": []}, "events", "at least 1"),
        ({"events": ["deposit.seen"]}, "events", "matches none of deposit.detected"),
        ({"events": ["deposit.%"]}, "events", "pattern"),
        ({"networks": ["nowhere"]}, "networks", "no such network"),
        ({"coins": ["nothing"]}, "coins", "no such coin"),
        ({"description": "a\nb"}, "description", "not text"),
        ({"minAmount": "1"}, "minAmount", "no such field"),
        ({"secret": "whsec_"}, "secret", "no such field"),
    ],
)
async def test_a_bad_field_is_named_and_nothing_is_written(
    world: World, alice: Caller, change: dict[str, Any], field: str, sentence: str
) -> None:
    refused = await alice.post("/v1/endpoints", {"url": URL} | change)
    assert refused.status == 400
    assert sentence in refused.error
    assert any(each["field"].startswith(field) for each in refused.body["details"])
    assert await world.pool.fetchval("select count(*) from endpoint") == 0
    assert await world.pool.fetchval("select count(*) from endpoint_secret") == 0


async def test_every_bad_field_is_named_at_once(alice: Caller) -> None:
    refused = await alice.post(
        "/v1/endpoints",
        {"url": "ftp://x/", "events": ["no.such"], "networks": ["x", "y"], "coins": ["z"]},
    )
    fields = [each["field"] for each in refused.body["details"]]
    assert sorted(fields) == ["coins", "events", "networks", "networks", "url"]


@pytest.mark.parametrize("answer", ["10.0.0.1", "169.254.169.254"])
async def test_case_24_a_name_for_a_forbidden_address_is_refused_in_the_same_words(
    alice: Caller, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    real = socket.getaddrinfo

    def lie(host: str, port: int, *given: Any, **more: Any) -> Any:
        if host.endswith(".example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))]
        return real(host, port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    by_name = await alice.post("/v1/endpoints", {"url": "https://internal.example/"})
    by_literal = await alice.post("/v1/endpoints", {"url": f"https://{answer}/"})
    assert by_name.status == by_literal.status == 400
    assert by_name.body == by_literal.body


async def test_a_name_that_does_not_resolve_yet_is_taken(
    alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def unknown(host: str, port: int, *given: Any, **more: Any) -> Any:
        if host.endswith(".example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert (await alice.post("/v1/endpoints", {"url": "https://soon.example/"})).status == 201


async def test_an_account_sees_and_deletes_its_own_only(
    world: World, alice: Caller, bob: Caller, admin: Caller
) -> None:
    name = (await alice.post("/v1/endpoints", {"url": URL})).body["id"]
    assert (await bob.get("/v1/endpoints")).body["items"] == []
    for refused in (
        await bob.get(f"/v1/endpoints/{name}"),
        await bob.delete(f"/v1/endpoints/{name}"),
    ):
        assert refused.status == 404
        assert refused.error == f"there is no endpoint {name!r}"
    assert [each["account"] for each in (await admin.get("/v1/endpoints")).body["items"]] == [
        "alice"
    ]
    assert (await alice.delete(f"/v1/endpoints/{name}")).status == 204
    assert (await alice.delete(f"/v1/endpoints/{name}")).status == 404
    assert await world.pool.fetchval("select count(*) from endpoint_secret") == 0


async def test_an_admin_names_the_account_it_acts_for(admin: Caller) -> None:
    assert (await admin.post("/v1/endpoints", {"url": URL})).status == 400
    made = await admin.ask("POST", "/v1/endpoints?account=bob", {"url": URL})
    assert (made.status, made.body["account"]) == (201, "bob")


async def test_endpoints_need_the_write_scope(world: World, base: str) -> None:
    reader = Caller(world.session, base, await world.new_key("alice", "read"))
    for answer in (
        await reader.post("/v1/endpoints", {"url": URL}),
        await reader.get("/v1/endpoints"),
        await reader.get("/v1/endpoints/ep_x"),
        await reader.delete("/v1/endpoints/ep_x"),
    ):
        assert answer.status == 403
    assert (await Caller(world.session, base, None).get("/v1/endpoints")).status == 401


async def test_the_list_goes_on_over_pages(alice: Caller) -> None:
    made = [(await alice.post("/v1/endpoints", {"url": URL})).body["id"] for _ in range(7)]
    listed = await alice.pages("/v1/endpoints", limit=3)
    assert [each["id"] for each in listed] == made[::-1]
