"""The client that scripts use, against the API itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from indexer import client
from indexer.api.errors import Handler
from indexer.chains.evidence import Branch, Proof, TreeEvidence
from indexer.client import ATTEMPTS, ApiError, Client
from tests.api.registered import TETHER
from tests.api.world import CODEC, HEIGHT, USDT, World, address, tx_hash
from tests.harness.server import serve

ONE = 10**18


@pytest.fixture
async def alice(world: World) -> AsyncIterator[Client]:
    async with Client(world.alice.base, world.alice.headers["X-Api-Key"]) as api:
        yield api


@pytest.fixture
async def admin(world: World) -> AsyncIterator[Client]:
    async with Client(world.admin.base, world.admin.headers["X-Api-Key"], account="alice") as api:
        yield api


async def test_from_a_registration_to_its_deposits(
    world: World, alice: Client, admin: Client
) -> None:
    done = await alice.watch("ethereum", [address(1), {"address": address(2), "reference": "r"}])
    assert done == {"created": 2, "existing": 0, "coveredFrom": HEIGHT + 1}
    assert (await alice.address("ethereum", address(2)))["reference"] == "r"
    assert [a["address"] async for a in alice.addresses(reference="r")] == [address(2)]
    await world.activate("ethereum")
    await world.pay(1, address(2), ONE)
    [found] = [deposit async for deposit in alice.deposits(status="detected")]
    assert (await alice.deposit(found["id"]))["events"][0]["type"] == "deposit.detected"
    world.proof = Proof(TreeEvidence(b"\1", Branch(b"\2", 0, [])), amount=True)
    assert (await alice.proof(found["id"]))["evidence"]["header"] == "01"
    assert [event["position"] async for event in alice.events(after=0)] == [1]
    [eth] = [total for total in await alice.totals() if total["coin"] == "eth"]
    assert eth["detected"] == "1.000000000000000000"
    assert [d["id"] async for d in admin.deposits()] == [found["id"]]
    await alice.unwatch("ethereum", address(2))
    with pytest.raises(ApiError) as refusal:
        await alice.address("ethereum", address(2))
    assert (refusal.value.status, refusal.value.code) == (404, "NOT_FOUND")
    assert refusal.value.request_id


async def test_coins_and_decisions(world: World, alice: Client, admin: Client) -> None:
    world.tokens["ethereum", CODEC.parse_asset(USDT)] = TETHER
    async with Client(world.admin.base, world.admin.headers["X-Api-Key"]) as operator:
        made = await operator.create_coin("ethereum", USDT, maxAutoAmount="1.5")
        assert made["coin"] == "usdt_erc20"
        await operator.change_coin("eth", maxAutoAmount="2")
    assert {coin["coin"] for coin in await alice.coins()} >= {"eth", "usdt_erc20"}
    assert {n["network"] for n in await alice.networks()} >= {"ethereum"}
    await alice.watch("ethereum", [address(1)])
    await world.activate("ethereum")
    for number in (1, 2):
        await world.pay(number, address(1), 3 * ONE)
    held = [deposit["id"] async for deposit in alice.deposits(status="held")]
    (way,) = (await alice.explain("ethereum", tx_hash("ethereum", 1)))["transfers"]
    assert (way["status"], way["stoppedAt"]) == ("held", "deposit")
    assert (await admin.release(held[0], "fine"))["status"] == "detected"
    assert (await admin.reject(held[1], "not fine"))["status"] == "rejected"


async def test_files_and_wallets(alice: Client) -> None:
    lines = "\n".join(address(number) for number in range(1, 2501)).encode()
    assert (await alice.import_addresses("ethereum", lines))["created"] == 2500
    assert len([a async for a in alice.addresses()]) == 2500

    async def streamed() -> AsyncIterator[bytes]:
        yield f'"{address(9000)}"\n'.encode()

    kind = "application/x-ndjson"
    assert (await alice.import_addresses("ethereum", streamed(), kind=kind))["created"] == 1
    with pytest.raises(ApiError) as refusal:
        await alice.import_addresses("ethereum", b"bad")
    assert refusal.value.details == [{"line": 1, "error": refusal.value.details[0]["error"]}]
    with pytest.raises(ApiError, match="extended public key"):
        await alice.create_wallet("ethereum", "xpub", name="cold")


async def test_the_stream_goes_on_where_the_feed_ended(world: World, alice: Client) -> None:
    await alice.watch("ethereum", [address(1)])
    await world.activate("ethereum")
    await world.pay(1, address(1), ONE)
    got: list[int] = []

    async def follow() -> None:
        async for event in alice.stream(after=0):
            got.append(event["position"])
            if len(got) == 2:
                return

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    await world.pay(2, address(1), ONE)
    await asyncio.wait_for(following, 10)
    assert got == [1, 2]


async def test_requests_are_signed_where_the_key_asks_for_it(world: World) -> None:
    body = {"scopes": ["read", "write"], "requireSignature": True}
    made = (await world.admin.post("/v1/accounts/alice/keys", body)).body
    async with Client(world.alice.base, made["key"], secret=made["secret"]) as api:
        assert (await api.watch("ethereum", [address(1)]))["created"] == 1
        assert [a["address"] async for a in api.addresses(reference="naïve &c")] == []
        assert [a["address"] async for a in api.addresses()] == [address(1)]

        async def streamed() -> AsyncIterator[bytes]:
            for number in (1, 2, 3):
                yield f"{address(number)}\n".encode()

        done = await api.import_addresses("ethereum", streamed())
        assert (done["created"], done["existing"]) == (2, 1)
    async with Client(world.alice.base, made["key"]) as unsigned:
        with pytest.raises(ApiError, match="X-Signature"):
            await unsigned.networks()


def everywhere(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    return app


async def test_who_is_asked_to_wait_waits_and_creates_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
    seen: list[str] = []

    async def busy(request: web.Request) -> web.Response:
        seen.append(request.headers["Idempotency-Key"])
        if len(seen) == 1:
            return web.json_response({"error": "slow", "code": "X"}, status=503)
        if len(seen) == 2:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": "wal_1"}, status=201)

    async with serve(everywhere(busy)) as url, Client(url, "dk_x") as api:
        assert await api.create_wallet("ethereum", "xpub…") == {"id": "wal_1"}
    assert len(seen) == 3
    assert len(set(seen)) == 1


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
    asked: list[float] = []

    async def never(_: web.Request) -> web.Response:
        asked.append(time.monotonic())
        said: dict[str, Any] = {"error": "not now", "code": "UNAVAILABLE"}
        return web.json_response(said, status=503)

    async with serve(everywhere(never)) as url, Client(url, "dk_x") as api:
        with pytest.raises(ApiError, match="not now"):
            await api.networks()
    assert len(asked) == ATTEMPTS
    async with Client(url, "dk_x") as api:
        with pytest.raises(aiohttp.ClientConnectionError):
            await api.networks()
