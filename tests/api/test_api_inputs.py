"""Hostile requests: a clear 4xx in the contract's form, and nothing written."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest
import structlog.testing

from indexer.api.inputs import MAX_BODY
from tests.api.world import USDT, World, address

JSON: Final = {"Content-Type": "application/json"}
GOOD: Final = json.dumps({"network": "ethereum", "addresses": [address(1)]})

BAD_BODIES: Final[dict[str, tuple[bytes, str]]] = {
    "empty": (b"", "not JSON"),
    "not JSON": (b"{'network': 1}", "not JSON"),
    "cut": (GOOD[:-2].encode(), "not JSON"),
    "trailing": (GOOD.encode() + b"x", "not JSON"),
    "not UTF-8": (b'{"network": "\xff"}', "UTF-8"),
    "an array": (b"[]", "must be an object"),
    "a text": (b'"x"', "must be an object"),
    "null": (b"null", "must be an object"),
    "NaN": (b'{"network": NaN}', "NaN is not a JSON number"),
    "Infinity": (b'{"network": -Infinity}', "-Infinity is not a JSON number"),
    "a huge number": (b'{"network": 1e400}', "1e400 is out of range"),
    "a tiny number": (b'{"network": 1e-400}', "1e-400 is out of range"),
    "too many digits": (b'{"network": ' + b"9" * 5000 + b"}", "more than 200 digits"),
    "too many fraction digits": (b'{"network": 1.' + b"9" * 5000 + b"}", "200 digits"),
    "nested deeply": (b"[" * 200_000, "nested too deeply"),
    "nested behind text": (b'{"a\\"[": ' + b'{"b":' * 17, "nested too deeply"),
    "brackets in text": (b'{"' + b"[" * 40 + b'": 1}', "network: is missing"),
    "a field twice": (b'{"network": "a", "network": "b"}', "'network' is given twice"),
    "an unknown field": (b'{"network": "a", "addresses": ["x"], "colour": 1}', "colour: there is"),
    "an unknown inner field": (
        b'{"network": "ethereum", "addresses": [{"address": "0x", "tag": 1}]}',
        "addresses[0].tag: there is no such field",
    ),
    "a missing field": (b'{"addresses": ["x"]}', "network: is missing"),
    "a number for a text": (b'{"network": 1, "addresses": ["x"]}', "network: must be"),
    "half a surrogate": (b'{"network": "\\ud800", "addresses": ["x"]}', "network:"),
    "half a surrogate as a field": (b'{"\\ud800": 1}', "not Unicode text"),
    "NUL": (b'{"network": "a\\u0000", "addresses": ["x"]}', "U+0000"),
    "NUL in a reference": (
        b'{"network": "ethereum", "addresses": [{"address": "0x", "reference": "\\u0000"}]}',
        "addresses[0].reference: has the character U+0000",
    ),
}


async def test_a_bad_body_is_refused_in_a_sentence(world: World, subtests: pytest.Subtests) -> None:
    for name, (raw, said) in BAD_BODIES.items():
        with subtests.test(name):
            answer = await world.alice.ask("POST", "/v1/addresses", data=raw, headers=JSON)
            assert answer.status == 400
            assert said in answer.error
            assert len(answer.error) < 500
    assert await world.pool.fetchval("select count(*) from watched_address") == 0


async def test_every_problem_of_a_body_is_in_the_details(world: World) -> None:
    body = {"network": 5, "addresses": [{"address": 7}, {"address": "0x", "role": "mine"}], "x": 1}
    answer = await world.alice.post("/v1/addresses", body)
    assert "3 more in details" in answer.error
    fields = {detail["field"] for detail in answer.body["details"]}
    assert fields == {"network", "addresses[0].address", "addresses[1].role", "x"}


async def test_a_body_that_is_not_said_to_be_json_is_415(world: World) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await world.alice.ask(
            "POST", "/v1/addresses", data=GOOD.encode(), headers={"Content-Type": kind}
        )
        assert (answer.status, answer.body["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind


async def test_a_body_beyond_the_limit_is_413(world: World) -> None:
    """Whether it says its length, or comes in chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 4096 + 1):
            yield b" " * 4096

    for raw in (io.BytesIO(b" " * (MAX_BODY + 1)), chunks()):
        answer = await world.alice.ask("POST", "/v1/addresses", data=raw, headers=JSON)
        assert (answer.status, answer.body["code"]) == (413, "TOO_LARGE")
        assert answer.error


async def test_no_route_is_404_and_another_method_405(world: World) -> None:
    for path in ("/", "/nothing", "/v1", "/v1/", "/v1/nothing", "//v1/coins", "/v1/coins/"):
        answer = await world.admin.get(path)
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND"), path
    answer = await world.admin.ask("PATCH", "/v1/coins")
    assert (answer.status, answer.body["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "PUT" in answer.headers["Allow"]


BAD_PATHS: Final = (
    "/v1/deposits/%00",
    "/v1/deposits/%ff",
    "/v1/coins/a%0Ab",
    "/v1/addresses/ethereum/%00",
    "/v1/deposits?coin=%00",
    "/v1/deposits?limit=0",
    "/v1/deposits?limit=1001",
    "/v1/deposits?limit=x",
    "/v1/deposits?limit=" + "9" * 5000,
    "/v1/deposits?colour=red",
    "/v1/deposits?coin=eth&coin=bnb",
    "/v1/deposits?since=yesterday",
    "/v1/deposits?since=2026-01-01T00:00:00",
    "/v1/deposits?until=0001-01-01T00:00:00%2B14:00",
    "/v1/deposits?status=paid",
    "/v1/deposits?network=nowhere",
    "/v1/deposits?address=0x12",
    "/v1/deposits?transactionHash=0x12",
    "/v1/events?after=-1",
    "/v1/events?after=x",
    "/v1/events?after=9999999999999999999999",
    "/v1/addresses?network=nowhere",
)
BAD_CURSORS: Final = (
    "x",
    "%00",
    "é",
    "=",
    "MTIz",
    "MTIzLHg",  # 123,x
    "aaaaaaaa",
    "a" * 600,
)


async def test_a_bad_path_or_query_is_refused_in_a_sentence(
    world: World, subtests: pytest.Subtests
) -> None:
    for path in BAD_PATHS:
        with subtests.test(path):
            answer = await world.alice.ask("GET", path)
            assert answer.status in (400, 404), answer
            assert 0 < len(answer.error) < 500


async def test_a_tampered_cursor_is_refused(world: World, subtests: pytest.Subtests) -> None:
    for path in ("/v1/deposits", "/v1/addresses", "/v1/accounts", "/v1/accounts/alice/keys"):
        for cursor in BAD_CURSORS:
            with subtests.test(path, cursor=cursor):
                answer = await world.admin.ask("GET", f"{path}?cursor={cursor}")
                assert answer.status == 400
                assert "cursor" in answer.error


async def test_a_fault_of_ours_is_told_by_a_number_and_nothing_else(world: World) -> None:
    world.node_fails = RuntimeError("the secret is Xyzzy")
    body = {"network": "ethereum", "contractAddress": USDT}
    merged = [structlog.contextvars.merge_contextvars]
    with structlog.testing.capture_logs(processors=merged) as logs:
        answer = await world.admin.put("/v1/coins/precreate-token", body)
    assert (answer.status, answer.body["code"]) == (500, "INTERNAL")
    assert "Xyzzy" not in answer.error
    fault = next(entry for entry in logs if entry["event"] == "api_fault")
    assert fault["request_id"] in answer.error


async def test_a_database_out_of_reach_is_503(pool: asyncpg.Pool) -> None:
    away = asyncpg.create_pool("postgresql://nobody:hidden@127.0.0.1:1/none", min_size=0)
    async with away:
        world = await World.begin(pool, server_pool=away)
        try:
            answer = await world.alice.get("/v1/deposits")
            assert (answer.status, answer.body["code"]) == (503, "UNAVAILABLE")
            assert answer.headers["Retry-After"]
            assert answer.error == "the database does not answer; try again"
            alive: Any = await world.nobody.get("/healthz")
            assert (alive.status, alive.body["database"]) == (200, "unreachable")
            ready = await world.nobody.get("/readyz")
            assert (ready.status, ready.body["code"]) == (503, "NOT_READY")
            assert ready.body["details"] == ["the database does not answer"]
        finally:
            await world.close()
