"""The README's requests, its signature and its use of the client, at a server."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.api.registered import TETHER
from tests.api.world import CODEC, CONFIRMATIONS, HEIGHT, USDT, Caller, World, address
from tests.readme import blocks, commands

PAGE: Final = "The API"
HOST: Final = "localhost:8080"
NOBODYS: Final = ("shop.example", "8.8.8.8")  # a literal: nothing is looked up


def program(name: str) -> Any:
    """A function that the page defines."""
    names: dict[str, Any] = {}
    for block in blocks("python", PAGE):
        exec(compile(block, "README.md", "exec"), names)
    return names[name]


async def test_the_first_requests_are_carried_out(world: World) -> None:
    world.tokens["ethereum", CODEC.parse_asset(USDT)] = TETHER
    callers = {"$ADMIN": world.admin, "$KEY": world.alice}
    carried_out = []
    for words in commands("A real configuration"):
        if words[0] == "curl":
            _, _, key, url, _, body = words
            who = callers[key.removeprefix("X-Api-Key: ")]
            path = url.removeprefix(HOST)
            answer = await who.post(path, json.loads(body.replace(*NOBODYS)))
            assert answer.status == 201, answer
            carried_out.append(path)
    assert carried_out == ["/v1/coins", "/v1/addresses", "/v1/endpoints"]
    [watched] = await world.alice.pages("/v1/addresses")
    assert watched["reference"] == "user-42"


async def test_the_signature_is_taken_and_good_for_this_request_alone(world: World) -> None:
    asked = {"scopes": ["read", "write"], "requireSignature": True}
    made = (await world.admin.post("/v1/accounts/alice/keys", asked)).body
    caller, signed = world.caller(made["key"]), program("signed")
    target = "/v1/addresses?reference=%C3%BC&limit=2"
    headers = signed(made["secret"], "GET", target)
    assert await status(caller, "GET", target, headers) == 200
    assert await status(caller, "GET", target, {}) == 401
    assert await status(caller, "GET", "/v1/addresses?limit=2", headers) == 401
    body = json.dumps({"network": "ethereum", "addresses": [address(1)]}).encode()
    headers = signed(made["secret"], "POST", "/v1/addresses", body)
    headers["Content-Type"] = "application/json"
    told = [await status(caller, "POST", "/v1/addresses", headers, body) for _ in range(2)]
    assert told == [201, 401]


async def status(
    caller: Caller, method: str, target: str, headers: dict[str, str], body: bytes | None = None
) -> int:
    return (await caller.ask(method, target, headers=headers, data=body)).status


async def test_the_clients_function_finds_what_was_confirmed(world: World) -> None:
    confirmed = program("confirmed")
    asked = (world.alice.base, world.alice.headers["X-Api-Key"], "user-42", address(1))
    assert await confirmed(*asked) == []
    await world.activate("ethereum")
    await world.pay(1, address(1), 10**18)
    await world.pay(2, address(2), 1, height=HEIGHT + CONFIRMATIONS)
    assert await confirmed(*asked) == [("eth", "1.000000000000000000")]
