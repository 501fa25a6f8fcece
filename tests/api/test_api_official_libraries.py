"""What is really sent verifies in the public libraries: first attempts, retries, resends, tests.

The whole way: deposits booked by the engine, the endpoint and its secrets by the API, requests by a
dispatcher over a socket.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from aiohttp import web

from callbacks import upkeep
from indexer.model import format_time
from tests.api.world import Caller, World, address
from tests.callback_runs import dispatching, hurried, settled
from tests.harness.libraries import Signed, javascript_verdicts, python_verifies
from tests.harness.server import serve

pytestmark = pytest.mark.node

REFERENCE: Final = 'Bestellung № 42 “ü” 日本 🪙 \\ "q" </script>'
LINE_SEPARATORS: Final = "\u2028 and \u2029"
LARGEST: Final = 2**256 - 1
FAILURES: Final = 2  # answers of 500 that an event gets before it is taken


@dataclass
class Shop:
    """Takes each event at its third attempt. `good` and `bad`: the secrets of the moment."""

    good: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    requests: list[Signed] = field(default_factory=list)
    expected: list[tuple[str, Signed, bool]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        signed = Signed(headers, await request.read())
        self.requests.append(signed)
        self.expected += [(secret, signed, True) for secret in self.good]
        self.expected += [(secret, signed, False) for secret in self.bad]
        failed = headers["webhook-attempt"] in map(str, range(1, FAILURES + 1))
        return web.Response(status=500 if failed else 204)

    def of(self, webhook_id: str) -> list[Signed]:
        return [each for each in self.requests if each.headers["webhook-id"] == webhook_id]

    async def check(self) -> None:
        """Both libraries say of every request what was expected when it came."""
        assert self.expected
        for secret, request, good in self.expected:
            assert python_verifies(secret, request) == good
        verdicts = await javascript_verdicts([(s, request) for s, request, _ in self.expected])
        for (_, request, good), verdict in zip(self.expected, verdicts, strict=True):
            wanted = {"event": json.loads(request.body)} if good else NO_MATCH
            assert verdict == wanted


NO_MATCH: Final = {"error": "No matching signature found"}


@asynccontextmanager
async def shop() -> AsyncIterator[tuple[Shop, str]]:
    made = Shop()
    app = web.Application()
    app.router.add_post("/callback", made.take)
    async with serve(app) as base:
        yield made, f"{base}/callback"


async def watched(world: World, reference: str) -> str:
    await world.alice.register("ethereum", {"address": address(1), "reference": reference})
    await world.activate("ethereum")
    return address(1)


async def open_endpoint(alice: Caller, made: Shop, url: str) -> str:
    """Its path."""
    endpoint = (await alice.post("/v1/endpoints", {"url": url, "rateLimit": 1000})).body
    made.good.append(endpoint["secret"])
    return f"/v1/endpoints/{endpoint['id']}"


async def requests(made: Shop, count: int) -> None:
    """Wait until so many have come."""
    async with asyncio.timeout(20):
        while len(made.requests) < count:
            await asyncio.sleep(0.02)


@pytest.mark.case(25, 26)
async def test_every_request_verifies_with_the_secrets_of_its_time_and_no_other(
    world: World,
) -> None:
    async with (
        shop() as (made, url),
        world.with_callbacks(allow_private=True, allow_http=True) as alice,
    ):
        payee = await watched(world, REFERENCE)
        endpoint = await open_endpoint(alice, made, url)
        (first,) = made.good
        async with (
            dispatching(world.pool, world.context.vault) as stop,
            hurried(world.pool),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(upkeep.run(world.pool, stop))
            await world.pay(1, payee, 10**18)
            await settled(world.pool)
            second = (await alice.post(f"{endpoint}/rotate-secret", {})).body["secret"]
            made.good = [first, second]
            await world.pay(2, payee, 10**18)
            await settled(world.pool)
            overlap = len(made.requests)
            since = {"since": format_time(datetime.now(UTC) - timedelta(hours=1))}
            assert (await alice.post(f"{endpoint}/resend", since)).body == {"count": 2}
            await requests(made, overlap + 2)
            (delivery, *_) = (await alice.get(f"{endpoint}/deliveries")).body["items"]
            await alice.post(f"/v1/deliveries/{delivery['id']}/resend", None)
            await requests(made, overlap + 3)
            await alice.post(f"{endpoint}/test", {})
            await settled(world.pool)
            third = await alice.post(f"{endpoint}/rotate-secret", {"overlapSeconds": 0})
            made.good, made.bad = [third.body["secret"]], [first, second]
            await world.pay(3, payee, 10**18)
            await settled(world.pool)
            stop.set()
        await made.check()
    attempts = [request.headers["webhook-attempt"] for request in made.requests]
    assert attempts[: 2 * (FAILURES + 1)] == ["1", "2", "3"] * 2
    events = await world.pool.fetch("select id, body from event where position is not null")
    assert len(events) == 3
    assert len(made.requests) == 3 * (FAILURES + 1) + 2 + 1 + 1  # a range, a single one, a test
    for event in events:
        bodies = {request.body for request in made.of(event["id"])}
        assert bodies == {event["body"]}, "an event's bytes never change"
        assert len(made.of(event["id"])) >= FAILURES + 1


@pytest.mark.case(28)
async def test_what_is_hard_to_write_comes_through_and_the_bytes_stay_the_same(
    world: World,
) -> None:
    async with (
        shop() as (made, url),
        world.with_callbacks(allow_private=True, allow_http=True) as alice,
    ):
        payee = await watched(world, REFERENCE)
        reference = REFERENCE + LINE_SEPARATORS
        await world.pool.execute("update watched_address set reference = $1", reference)
        await open_endpoint(alice, made, url)
        (secret,) = made.good
        made.good.append(secret.rstrip("="))
        assert made.good[0] != made.good[1]
        async with dispatching(world.pool, world.context.vault), hurried(world.pool):
            await world.pay(1, payee, LARGEST)
            await settled(world.pool)
        await made.check()
    assert len(made.requests) == FAILURES + 1
    assert len({request.body for request in made.requests}) == 1
    data: dict[str, Any] = json.loads(made.requests[0].body)["data"]
    assert data["reference"] == reference
    assert data["amountUnits"] == str(LARGEST)
    assert data["amount"].replace(".", "").lstrip("0") == str(LARGEST)
    assert len(data["amount"].split(".")[1]) == data["decimals"] == 18
