"""The server and its document against what users were promised: routes, fields, words, examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import pytest

from indexer.model import make_id
from tests import contract
from tests.api.past import URL
from tests.api.tenants import ETHER, furnish
from tests.api.world import (
    CODEC,
    CONFIRMATIONS,
    HEIGHT,
    STRANGER,
    World,
    address,
    block,
    block_time,
    tx_hash,
)
from tests.contract import nameless

TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
OPEN: Final = "…"


@pytest.fixture
def operations(world: World) -> dict[str, Any]:
    """The document's, by method and path without names."""
    return {
        nameless(f"{method.upper()} {path}"): described
        for path, methods in world.documented.document["paths"].items()
        for method, described in methods.items()
    }


def resolved(world: World, schema: Any) -> Any:
    while "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = world.documented.document["components"]["schemas"][name]
    return schema


def told(world: World, operations: dict[str, Any], route: str) -> dict[str, Any]:
    """The fields of an answer; of an item where it is a list, of the data in an envelope."""
    responses = operations[nameless(route)]["responses"]
    done = next(answer for status, answer in responses.items() if status < "204")
    schema = resolved(world, done["content"]["application/json"]["schema"])
    inner = "data" if "/api/" in route else "items"
    schema = resolved(world, schema.get("properties", {}).get(inner, schema))
    fields: dict[str, Any] = resolved(world, schema.get("items", schema))["properties"]
    return fields


def promised(words: str) -> re.Pattern[str]:
    """Fits the fields in their order, other ones only where the promise leaves room."""
    return re.compile(
        " ".join(r"[\w? ]+?" if word == OPEN else re.escape(word) for word in words.split())
    )


# ---------------------------------------------------------------------------- the document


async def test_the_routes_are_the_promised_ones_and_ask_for_the_promised_scopes(
    world: World, operations: dict[str, Any]
) -> None:
    served = {
        nameless(f"{route.method} {route.resource.canonical}")
        for route in world.server.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == set(contract.SCOPES)
    for route, described in operations.items():
        needed = [scope for each in described["security"] for scope in each["key"]]
        scope = needed[0] if needed else "any" if described["security"] else "none"
        assert scope == contract.SCOPES[route], route


async def test_answers_have_the_promised_fields_in_the_promised_order(
    world: World, operations: dict[str, Any], subtests: pytest.Subtests
) -> None:
    for route, fields in contract.ANSWERS.items():
        with subtests.test(route):
            assert promised(fields).fullmatch(" ".join(told(world, operations, route)))
    settings = told(world, operations, "GET /v1/coins")["settings"]
    assert promised(contract.SETTINGS).fullmatch(" ".join(resolved(world, settings)["properties"]))
    data = told(world, operations, "GET /v1/events")["data"]
    assert " ".join(resolved(world, data)["properties"]) == contract.DATA


async def test_bodies_take_the_promised_fields(
    world: World, operations: dict[str, Any], subtests: pytest.Subtests
) -> None:
    def taken(schema: Any) -> set[str]:
        schema = resolved(world, schema)
        needed = schema.get("required", [])
        return {name if name in needed else f"{name}?" for name in schema["properties"]}

    def body(route: str) -> Any:
        content = operations[nameless(route)]["requestBody"]["content"]
        return resolved(world, content["application/json"]["schema"])

    for route, words in contract.BODIES.items():
        with subtests.test(route):
            fields = set(words.split())
            assert fields - {OPEN} <= taken(body(route))
            assert OPEN in fields or fields == taken(body(route))
    inner = body("POST /v1/addresses")["properties"]["addresses"]["items"]
    assert taken(inner) == set(contract.ADDRESS.split())


async def test_queries_take_the_promised_parameters(
    operations: dict[str, Any], subtests: pytest.Subtests
) -> None:
    for route, words in contract.QUERIES.items():
        with subtests.test(route):
            parameters = operations[nameless(route)]["parameters"]
            taken = {each["name"] for each in parameters if each["in"] == "query"} - {"account"}
            fields = set(words.split())
            assert fields - {OPEN} <= taken
            assert OPEN in fields or fields == taken
            limits = [each["schema"] for each in parameters if each["name"] == "limit"]
            for limit in limits:
                assert (limit["default"], limit["minimum"], limit["maximum"]) == (100, 1, 1000)


async def test_fields_hold_the_promised_words(
    world: World, operations: dict[str, Any], subtests: pytest.Subtests
) -> None:
    def words(schema: Any) -> Iterator[str]:
        schema = resolved(world, schema)
        for choice in schema.get("anyOf", ()):
            yield from words(choice)
        yield from schema.get("enum", ())
        if "const" in schema:
            yield schema["const"]

    for field, expected in contract.WORDS.items():
        with subtests.test(field):
            route, _, name = field.rpartition(" ")
            assert set(words(told(world, operations, route)[name])) == set(expected.split())


async def test_refusals_have_the_promised_statuses(operations: dict[str, Any]) -> None:
    for route, described in operations.items():
        refusals = {int(status) for status in described["responses"] if status >= "400"}
        assert refusals - {500} <= contract.REFUSALS, route
        for status in refusals:
            schema = described["responses"][str(status)]["content"]["application/json"]["schema"]
            form = "EnvelopedError" if "/api/" in route else "Error"
            assert schema == {"$ref": f"#/components/schemas/{form}"}


# ---------------------------------------------------------------------------- the examples


async def test_the_example_of_a_callback(world: World) -> None:
    """Each of its fields, in its order, and what the promise says that it holds."""
    watched = {"address": address(1), "reference": "user-42"}
    await world.alice.register("ethereum", watched)
    await world.alice.post("/v1/endpoints", {"url": URL})
    await world.activate("ethereum")
    await world.pay(1, address(1), 1_000 * ETHER, height=HEIGHT + 1)
    await world.pay(2, address(2), ETHER, height=HEIGHT + CONFIRMATIONS)
    name, body = await world.pool.fetchrow("select id, body from event where sequence = 2")
    said = json.loads(body)
    assert list(said) == ["type", "timestamp", "data"]
    assert re.fullmatch(TIME, said["timestamp"])
    identity = ("alice", "ethereum", tx_hash("ethereum", 1), address(1), "native", "0")
    assert said["data"] == {
        "id": make_id("dep_", *identity),
        "sequence": 2,
        "account": "alice",
        "network": "ethereum",
        "coin": "eth",
        "symbol": "ETH",
        "contractAddress": None,
        "decimals": 18,
        "transactionHash": tx_hash("ethereum", 1),
        "ordinal": 0,
        "fromAddress": CODEC.format_address(STRANGER),
        "toAddress": address(1),
        "reference": "user-42",
        "memo": None,
        "amount": "1000.000000000000000000",
        "amountUnits": "1000000000000000000000",
        "blockHeight": HEIGHT + 1,
        "blockHash": "0x" + block("ethereum", HEIGHT + 1).hash.hex(),
        "blockTime": f"{block_time(HEIGHT + 1):%Y-%m-%dT%H:%M:%S.%fZ}",
        "confirmations": CONFIRMATIONS,
        "requiredConfirmations": CONFIRMATIONS,
        "status": "confirmed",
        "previousStatus": "detected",
        "reason": None,
    }
    assert " ".join(said["data"]) == contract.DATA
    assert said["type"] == "deposit.confirmed"
    assert name == make_id("evt_", said["data"]["id"], "deposit.confirmed", "0")
    [_, event] = (await world.alice.get("/v1/events")).body["items"]
    assert event == {"position": 2, "id": name, **said}
    [shown] = (await world.alice.get("/v1/deposits")).body["items"]
    assert {name: shown[name] for name in said["data"]} == said["data"]


async def test_the_exchange_style_envelope(world: World) -> None:
    names = await furnish(world, "alice", 100)
    asked = {"coin": "ETH", "type": "deposit", "transactionHash": names["transaction"], "id": ""}
    page = (await world.admin.post("/api/spot/v1/deposit/page?account=alice", asked)).body
    assert " ".join(page) == contract.ENVELOPE
    assert (page["code"], page["msg"], page["success"]) == ("0", "result.success", True)
    [row] = page["data"]
    assert " ".join(row) == contract.ANSWERS["POST /api/spot/v1/deposit/page"]
    assert isinstance(row["ctime"], int)
    asked = {"coin": "eth", "network": "ethereum"}
    found = (await world.admin.post("/api/spot/v1/deposit/address?account=alice", asked)).body
    one = {"coin": "eth", "network": "ethereum", "address": names["address"], "memo": None}
    assert found["data"][0] == one
    refused = (await world.alice.post("/api/spot/v1/deposit/address", {"coin": "eth"})).body
    assert " ".join(refused) == contract.ENVELOPE
    assert (refused["code"] != "0", refused["success"]) == (True, False)


async def test_what_needs_no_key_is_in_the_promised_form(world: World) -> None:
    expected = {
        "/healthz": "application/json",
        "/readyz": "application/json",
        "/metrics": "text/plain",
        "/openapi.json": "application/json",
        "/docs": "text/html",
    }
    async with aiohttp.ClientSession() as session:
        for path, kind in expected.items():
            async with session.get(world.nobody.base + path) as answer:
                assert (answer.status, answer.content_type) == (200, kind), path
