"""Addresses by the million: streamed, all at once or none, and again without harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.api.imports import ABANDONED_SECONDS, SLICE
from indexer.api.limits import IMPORTS
from indexer.bulk import MAX_BAD, MAX_LINE
from tests.api.world import HEIGHT, Answer, World, address

CSV = "text/csv"
NDJSON = "application/x-ndjson"


async def send(world: World, data: Any, kind: str = CSV, query: str = "") -> Answer:
    path = f"/v1/addresses/import?network=ethereum{query}"
    return await world.alice.ask("POST", path, data=data, headers={"Content-Type": kind})


async def watched(world: World) -> dict[str, Any]:
    return {item["address"]: item for item in await world.alice.pages("/v1/addresses", limit=1000)}


async def test_a_csv_file_is_watched_with_all_it_says(world: World) -> None:
    file = (
        "\ufeffaddress,reference,fromBlock\r\n"
        f"{address(1)}\r\n"
        f'{address(2)},"order, ""7""",990\r\n'
        "\r\n"
        f"{address(3)},,,own\r\n"
        f"{address(4).lower()},naïve"
    )
    answer = await send(world, file.encode())
    assert answer.status == 201
    assert {k: v for k, v in answer.body.items() if k != "id"} == {
        "created": 4,
        "existing": 0,
        "coveredFrom": HEIGHT + 1,
    }
    rows = await watched(world)
    assert {a: (r["reference"], r["role"], r["coveredFrom"]) for a, r in rows.items()} == {
        address(1): (None, "deposit", HEIGHT + 1),
        address(2): ('order, "7"', "deposit", 990),
        address(3): (None, "own", HEIGHT + 1),
        address(4): ("naïve", "deposit", HEIGHT + 1),
    }


@pytest.mark.parametrize("kind", [NDJSON, "application/jsonl"])
async def test_json_lines_are_watched(world: World, kind: str) -> None:
    lines = [
        json.dumps(address(1)),
        json.dumps({"address": address(2), "reference": "r", "fromBlock": 5, "role": "own"}),
        "",
    ]
    assert (await send(world, "\n".join(lines).encode(), kind)).body["created"] == 2
    row = (await watched(world))[address(2)]
    assert (row["reference"], row["role"], row["coveredFrom"]) == ("r", "own", 5)


async def test_the_same_file_again_changes_nothing(world: World) -> None:
    file = "\n".join(f"{address(n)},r{n}" for n in range(1, 500)).encode()
    assert (await send(world, file)).body["created"] == 499
    before = await watched(world)
    again = await send(world, file)
    assert (again.body["created"], again.body["existing"]) == (0, 499)
    assert await watched(world) == before


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        (CSV, "0x12", "not an address"),
        (CSV, f"{address(1)},r,x", "no block height"),
        (CSV, f"{address(1)},r,-1", "no block height"),
        (CSV, f"{address(1)},r,1,boss", "a role is"),
        (CSV, f"{address(1)},r,1,own,x", "columns"),
        (CSV, f'{address(1)},"r', "not CSV"),
        (CSV, f"{address(1)},a\x07b", "a reference is"),
        (CSV, f"{address(1)}," + "r" * 257, "a reference is"),
        (CSV, ",r", "has no address"),
        (CSV, "x" * (MAX_LINE + 1), "bytes"),
        (CSV, b"\xff\xfe", "not UTF-8"),
        (NDJSON, "{", "not JSON"),
        (NDJSON, "[" * 3000, "not JSON"),
        (NDJSON, "7", "neither"),
        (NDJSON, '{"adress": "x"}', "no such field"),
        (NDJSON, json.dumps({"address": address(1), "fromBlock": 1.5}), "fromBlock is"),
        (NDJSON, json.dumps({"address": address(1), "fromBlock": True}), "fromBlock is"),
        (NDJSON, json.dumps({"address": address(1), "reference": 7}), "a reference is"),
    ],
)
async def test_one_bad_line_refuses_them_all_by_its_number(
    world: World, kind: str, line: str | bytes, said: str
) -> None:
    good = [address(n) if kind == CSV else json.dumps(address(n)) for n in (5, 6)]
    raw = line if isinstance(line, bytes) else line.encode()
    answer = await send(world, b"\n".join([good[0].encode(), raw, good[1].encode()]), kind)
    assert answer.status == 400
    assert answer.error.startswith("line 2: ")
    assert said in answer.error
    assert [detail["line"] for detail in answer.body["details"]] == [2]
    assert await watched(world) == {}
    [listed] = await world.alice.pages("/v1/addresses/imports")
    assert (listed["state"], listed["error"]) == ("failed", answer.error)


async def test_so_many_bad_lines_are_named_and_no_more(world: World) -> None:
    answer = await send(world, b"bad\n" * 5000)
    assert (answer.status, len(answer.body["details"])) == (400, MAX_BAD)


async def test_other_media_and_networks_are_refused(world: World) -> None:
    assert (await send(world, b"x", "application/json")).status == 415
    assert (await send(world, b"x", "text/plain")).status == 415
    path = "/v1/addresses/import?network=nowhere"
    headers = {"Content-Type": CSV}
    assert (await world.alice.ask("POST", path, data=b"", headers=headers)).status == 400
    assert (await world.alice.ask("POST", "/v1/addresses/import", headers=headers)).status == 400
    reader = world.caller(await world.new_key("alice", "read"))
    path = "/v1/addresses/import?network=ethereum"
    assert (await reader.ask("POST", path, data=b"", headers=headers)).status == 403


async def test_an_empty_file_is_no_harm(world: World) -> None:
    answer = await send(world, b"address\n\n")
    assert (answer.status, answer.body["created"], answer.body["coveredFrom"]) == (201, 0, None)


async def test_how_far_an_import_is_can_be_read_while_it_runs(world: World) -> None:
    half, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for number in range(1, 3001):
            yield f"{address(number)}\n".encode()
        half.set()
        await rest.wait()
        yield address(4000).encode()

    sending = asyncio.create_task(send(world, body()))
    await half.wait()
    await asyncio.sleep(0.1)
    [listed] = await world.alice.pages("/v1/addresses/imports")
    assert (listed["state"], listed["network"]) == ("receiving", "ethereum")
    assert await watched(world) == {}
    assert await world.bob.pages("/v1/addresses/imports") == []
    rest.set()
    assert (await sending).body["created"] == 3001
    [listed] = await world.alice.pages("/v1/addresses/imports")
    assert (listed["state"], listed["rows"], listed["registered"]) == ("done", 3001, 3001)


async def test_silent_imports_make_no_callbacks_of_the_past(world: World) -> None:
    await send(world, f"{address(1)},r,{HEIGHT - 10}".encode(), query="&callbacks=false")
    row = await world.pool.fetchrow("select silent from watched_address")
    [blocks] = row["silent"]
    assert (blocks.lower, blocks.upper) == (HEIGHT - 10, HEIGHT + 1)


async def test_an_import_is_in_the_audit_log_once(world: World) -> None:
    await send(world, "\n".join(address(n) for n in range(1, 50)).encode())
    [row] = (await world.admin.get("/v1/audit", account="alice")).body["items"]
    assert row["action"] == "POST /v1/addresses/import"
    assert row["details"] == {"network": "ethereum"}


async def test_other_requests_have_their_turn_while_a_file_is_checked(world: World) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    file = "\n".join(address(n) for n in range(1, 20_001)).encode()
    bystander = asyncio.create_task(take_turns())
    assert (await send(world, file)).body["created"] == 20_000
    bystander.cancel()
    assert turns > len(file) // SLICE


async def test_one_import_of_an_account_runs_at_a_time_and_few_in_all(world: World) -> None:
    go_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield f"{address(1)}\n".encode()
        await go_on.wait()

    path, headers = "/v1/addresses/import?network=ethereum", {"Content-Type": CSV}
    others = [world.caller(await world.new_key(f"a{n}", "write")) for n in range(IMPORTS)]
    sending = [
        asyncio.create_task(caller.ask("POST", path, data=body(), headers=headers))
        for caller in others
    ]
    async with asyncio.timeout(10):
        while len(await world.admin.pages("/v1/addresses/imports")) < IMPORTS:
            await asyncio.sleep(0.01)
    again = await others[0].ask("POST", path, data=b"", headers=headers)
    assert (again.status, "still running" in again.error) == (429, True)
    assert "Retry-After" in again.headers
    assert (await send(world, b"")).status == 429
    go_on.set()
    assert [(await each).status for each in sending] == [201] * IMPORTS
    assert (await send(world, b"")).status == 201
    assert (await others[0].ask("POST", path, data=b"", headers=headers)).status == 201


async def test_an_import_whose_process_died_is_not_said_to_run_for_ever(world: World) -> None:
    await send(world, address(1).encode())

    async def listed(state: str, silent_seconds: int) -> tuple[str, str | None]:
        said_at = datetime.now(UTC) - timedelta(seconds=silent_seconds)
        change = "update address_import set state = $1, updated_at = $2"
        await world.pool.execute(change, state, said_at)
        [item] = await world.alice.pages("/v1/addresses/imports")
        return item["state"], item["error"]

    assert await listed("receiving", 1) == ("receiving", None)
    assert await listed("done", ABANDONED_SECONDS + 1) == ("done", None)
    died = ("failed", "the process that read it ended")
    assert await listed("registering", ABANDONED_SECONDS + 1) == died
