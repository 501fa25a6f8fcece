"""What a key may be tied to: addresses, a time, a rate, a secret that signs."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from indexer.api.limits import GUESSES, Limits
from indexer.api.server import build
from indexer.api.signature import WINDOW_SECONDS, sign
from tests.api.world import ADMIN_KEY, Answer, Caller, World, address


async def new_key(world: World, **more: Any) -> Any:
    body = {"scopes": ["read", "write"], **more}
    made = await world.admin.post("/v1/accounts/alice/keys", body)
    assert made.status == 201, made
    return made.body


async def shown(world: World, key_id: str) -> Any:
    keys = await world.admin.pages("/v1/accounts/alice/keys")
    return next(key for key in keys if key["id"] == key_id)


async def test_a_key_is_good_from_its_ranges_only(world: World) -> None:
    near = world.caller((await new_key(world, allowedIps=["127.0.0.0/8", "10.0.0.0/8"]))["key"])
    far = world.caller((await new_key(world, allowedIps=["10.0.0.0/8", "2001:db8::/32"]))["key"])
    assert (await near.get("/v1/addresses")).status == 200
    refused = await far.get("/v1/addresses")
    assert (refused.status, "this address" in refused.error) == (403, True)


@pytest.mark.parametrize("bad", [[], ["10.0.0.1/8"], ["nowhere"], [7], "10.0.0.0/8", [""]])
async def test_bad_ranges_are_refused(world: World, bad: Any) -> None:
    body = {"scopes": ["read"], "allowedIps": bad}
    assert (await world.admin.post("/v1/accounts/alice/keys", body)).status == 400


async def test_a_key_ends_when_it_expires(world: World) -> None:
    made = await new_key(world, expiresAt="2099-01-01T00:00:00Z")
    caller = world.caller(made["key"])
    assert (await caller.get("/v1/addresses")).status == 200
    await world.pool.execute("update api_key set expires_at = clock() where id = $1", made["id"])
    assert (await caller.get("/v1/addresses")).status == 401


async def test_its_list_shows_when_and_whence_a_key_was_used(world: World) -> None:
    made = await new_key(world, rateLimit=0.5, expiresAt="2099-01-01T00:00:00Z")
    [listed] = [
        k for k in await world.admin.pages("/v1/accounts/alice/keys") if k["id"] == made["id"]
    ]
    assert (listed["lastUsedAt"], listed["lastUsedFrom"]) == (None, None)
    assert (listed["rateLimit"], listed["requireSignature"], listed["allowedIps"]) == (
        0.5,
        False,
        None,
    )
    assert listed["expiresAt"] == "2099-01-01T00:00:00.000000Z"
    await world.caller(made["key"]).get("/v1/addresses")
    [listed] = [
        k for k in await world.admin.pages("/v1/accounts/alice/keys") if k["id"] == made["id"]
    ]
    assert listed["lastUsedAt"] is not None
    assert listed["lastUsedFrom"] == "127.0.0.1"


class Signer(Caller):
    """Signs its requests as the contract says."""

    secret = ""
    skew = 0.0  # seconds
    tampered = False

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        data = b"" if body is None else str(body).replace("'", '"').encode()
        timestamp = int((time.time() + self.skew) * 1000)
        signature = sign(self.secret, timestamp, method, path, data)
        headers = {"X-Timestamp": str(timestamp), "X-Signature": signature}
        return await super().ask(
            method,
            path,
            data=data + b" " if self.tampered else data,
            headers={**headers, "Content-Type": "application/json", **more.pop("headers", {})},
            **more,
        )


@pytest.fixture
async def signer(world: World) -> Signer:
    made = await new_key(world, requireSignature=True)
    plain = world.caller(made["key"])
    signer = Signer(world.session, plain.base, made["key"], world.documented)
    signer.secret = made["secret"]
    return signer


BODY = {"network": "ethereum", "addresses": [address(7)]}


async def test_a_signed_request_is_taken_and_its_like_unsigned_is_not(
    world: World, signer: Signer
) -> None:
    assert (await signer.ask("POST", "/v1/addresses?account=alice", BODY)).status == 201
    assert (await signer.ask("GET", "/v1/addresses?limit=1")).status == 200
    plain = world.caller(signer.headers["X-Api-Key"])
    refused = await plain.get("/v1/addresses")
    assert (refused.status, "X-Signature" in refused.error) == (401, True)


async def test_a_signature_covers_the_body_and_the_target(signer: Signer) -> None:
    signer.tampered = True
    assert (await signer.ask("POST", "/v1/addresses", BODY)).status == 401
    signer.tampered = False
    timestamp = int(time.time() * 1000)
    other = sign(signer.secret, timestamp, "GET", "/v1/addresses?limit=2", b"")
    headers = {"X-Timestamp": str(timestamp), "X-Signature": other}
    refused = await Caller.ask(signer, "GET", "/v1/addresses?limit=1", headers=headers)
    assert "does not match" in refused.error


@pytest.mark.parametrize(
    ("skew", "status"),
    [(-WINDOW_SECONDS - 5, 401), (-200, 200), (200, 200), (WINDOW_SECONDS + 5, 401)],
)
async def test_a_timestamp_outside_the_window_is_refused(
    signer: Signer, skew: float, status: int
) -> None:
    signer.skew = skew
    assert (await signer.ask("GET", "/v1/addresses")).status == status


async def test_a_change_cannot_be_replayed_but_a_question_can(world: World, signer: Signer) -> None:
    for method, again in (("POST", 401), ("GET", 200)):
        data = b'{"network": "ethereum", "addresses": ["%s"]}' % address(9).encode()
        data = data if method == "POST" else b""
        timestamp = int(time.time() * 1000)
        headers = {
            "X-Timestamp": str(timestamp),
            "X-Signature": sign(signer.secret, timestamp, method, "/v1/addresses", data),
            "Content-Type": "application/json",
        }
        first = await Caller.ask(signer, method, "/v1/addresses", data=data, headers=headers)
        assert first.status in (200, 201)
        second = await Caller.ask(signer, method, "/v1/addresses", data=data, headers=headers)
        assert second.status == again
    # What is too old to be replayed is forgotten.
    await world.pool.execute("update used_signature set at = at - interval '1 hour'")
    assert (await signer.ask("POST", "/v1/addresses", BODY)).status == 201
    assert await world.pool.fetchval("select count(*) from used_signature") == 1


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "9" * 16, "٣"])
async def test_bad_timestamps_are_refused(signer: Signer, timestamp: str) -> None:
    headers = {"X-Timestamp": timestamp, "X-Signature": "0" * 64}
    assert (await Caller.ask(signer, "GET", "/v1/addresses", headers=headers)).status == 401


def test_the_signature_of_the_contract() -> None:
    body = b'{"name":"x"}'
    said = b"1700000000000\nPOST\n/v1/accounts?a=b\n" + hashlib.sha256(body).hexdigest().encode()
    expected = hmac.new(b"dks_secret", said, hashlib.sha256).hexdigest()
    assert sign("dks_secret", 1700000000000, "POST", "/v1/accounts?a=b", body) == expected


class Strict:
    """A server of the same world with limits and a clock of the test's own."""

    def __init__(self, world: World, *proxies: str) -> None:
        self.now = 1000.0
        self.world = world
        ranges = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
        settings = world.context.settings
        api = settings.api.model_copy(update={"trusted_proxies": ranges})
        context = replace(world.context, settings=settings.model_copy(update={"api": api}))
        self.server = TestServer(build(context, limits=Limits(lambda: self.now, rate=5.0)))

    def caller(self, key: str | None) -> Caller:
        base = str(self.server.make_url("")).rstrip("/")
        return Caller(self.world.session, base, key, self.world.documented)


@pytest.fixture
async def strict(world: World) -> AsyncIterator[Strict]:
    strict = Strict(world, "127.0.0.0/8")
    await strict.server.start_server()
    yield strict
    await strict.server.close()


async def test_a_key_has_so_many_requests_and_then_waits(strict: Strict, world: World) -> None:
    alice = strict.caller(world.alice.headers["X-Api-Key"])
    answers = [await alice.get("/v1/networks") for _ in range(12)]
    assert [a.status for a in answers] == [200] * 10 + [429] * 2
    assert [a.headers["RateLimit-Remaining"] for a in answers[:2]] == ["9", "8"]
    assert answers[0].headers["RateLimit-Limit"] == "10"
    refused = answers[-1]
    assert refused.headers["Retry-After"] == "1"
    assert refused.headers["RateLimit-Remaining"] == "0"
    # Another key is not held up, and this one goes on when time has passed.
    assert (await strict.caller(world.bob.headers["X-Api-Key"]).get("/v1/networks")).status == 200
    strict.now += 0.2
    assert [(await alice.get("/v1/networks")).status for _ in range(2)] == [200, 429]


async def test_a_keys_own_rate_counts(strict: Strict, world: World) -> None:
    slow = strict.caller((await new_key(world, rateLimit=0.5))["key"])
    assert [(await slow.get("/v1/networks")).status for _ in range(2)] == [200, 429]
    strict.now += 2.0
    assert (await slow.get("/v1/networks")).status == 200


async def test_an_address_guesses_so_often_and_then_waits(strict: Strict) -> None:
    guesser = strict.caller("dk_wrong")
    assert {(await guesser.get("/v1/networks")).status for _ in range(GUESSES)} == {401}
    refused = await guesser.get("/v1/networks")
    assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (429, True)
    # Not even the right one is taken from there, so that nobody learns that it was right.
    assert (await strict.caller(ADMIN_KEY).get("/v1/accounts")).status == 429
    strict.now += 60.0
    assert (await strict.caller(ADMIN_KEY).get("/v1/accounts")).status == 200


async def test_no_key_is_no_guess(strict: Strict) -> None:
    nobody = strict.caller(None)
    statuses = {(await nobody.get("/v1/networks")).status for _ in range(3 * GUESSES)}
    assert statuses == {401}


async def test_a_trusted_proxy_says_who_calls(world: World, strict: Strict) -> None:
    key = (await new_key(world, allowedIps=["203.0.113.0/24"]))["key"]
    near = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    assert (await world.caller(key).ask("GET", "/v1/networks", headers=near)).status == 403
    caller = strict.caller(key)
    assert (await caller.ask("GET", "/v1/networks", headers=near)).status == 200
    # What stands left of the first address that is not trusted is the caller's own invention.
    for said in ("203.0.113.9, 198.51.100.1", "203.0.113.9, nonsense", "203.0.113.9,"):
        forged = {"X-Forwarded-For": said}
        assert (await caller.ask("GET", "/v1/networks", headers=forged)).status == 403
