"""One account can neither see nor guess at another's: tried for every operation of the server.

Bob asks for what is alice's by its right names, and for what nobody has by names of the same form.
He must not be able to tell the two apart: not by status, headers or bytes, nor by what the server
asked its database meanwhile; and nothing may have changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import asyncpg
import pytest

from indexer.api.concealed import DELIVERY, RESEND, conceal
from indexer.database import connect_pool
from tests.api.probes import ALL, KEYLESS, PROBES, Probe, ask, filled
from tests.api.tables import rows
from tests.api.tenants import ETHER, LISTS, Names, extended_key, furnish
from tests.api.world import HEIGHT, Answer, World, address, tx_hash

NOBODYS: Final = 9_999  # the number of addresses and transactions that nobody has
SECONDS: Final = 20.0  # for anything to arrive
CONNECTIONS: Final = 4  # of the server's pool


# What is compared of two answers: not what differs from request to request, whatever is asked for.
OWN_HEADERS: Final = {"date", "x-request-id", "ratelimit-remaining", "ratelimit-reset"}
OWN_FIELDS: Final = re.compile(
    r'"(id|key|secret|createdAt|stateSince)":"[^"]*"'  # of what was just created
)


def made_up(world: World, names: Names) -> Names:
    """Names of the same form and length that nobody has."""
    vault, ghost = world.context.vault, {}
    for name, value in names.items():
        prefix, mark, rest = value.rpartition("_")
        ghost[name] = prefix + mark + re.sub("[a-z0-9]", "q", rest)
    return ghost | {
        "address": address(NOBODYS),
        "transaction": tx_hash("ethereum", NOBODYS),
        "xpub": extended_key("ghost"),
        "since": names["since"],
        "delivery": conceal(vault, DELIVERY, NOBODYS),
        "done": conceal(vault, DELIVERY, NOBODYS + 1),
        "resend": conceal(vault, RESEND, NOBODYS),
        "position": "9" * len(names["position"]),
    }


class Statements:
    """What a server asks its database, once all of its connections are listened to."""

    def __init__(self) -> None:
        self._asked: list[str] = []

    async def listen(self, pool: asyncpg.Pool) -> None:
        connections = [await pool.acquire() for _ in range(CONNECTIONS)]
        for connection in connections:
            connection.add_query_logger(lambda query: self._asked.append(query.query))
            await pool.release(connection)

    def taken(self) -> list[str]:
        """Those since the last time; not what the client asks to learn a connection's types."""
        asked, self._asked = self._asked, []
        return [text for text in asked if "typeinfo" not in text and "'jit'" not in text]


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest.fixture
async def world(pool: asyncpg.Pool, dsn: str, statements: Statements) -> AsyncIterator[World]:
    """One whose server has connections of its own."""
    server_pool = await connect_pool(dsn, size=CONNECTIONS)
    world = await World.begin(pool, server_pool)
    await statements.listen(server_pool)
    yield world
    await world.close()
    await server_pool.close()


def told(answer: Answer, probe: Probe, names: Names) -> Any:
    """Of an answer, what could tell one thing from another: all but the names that were given."""
    text = OWN_FIELDS.sub("", answer.raw.decode()) if probe.adds else answer.raw.decode()
    given = re.findall(r"{(\w+)}", f"{probe.target} {probe.body}")
    said = text
    for name in sorted(given, key=lambda name: -len(names[name])):
        text = text.replace(names[name], f"<{name}>")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    if text != said:
        headers.pop("etag", None)  # a hash of the names that were given, too
    return answer.status, {n: v for n, v in headers.items() if n not in OWN_HEADERS}, text


_NEWEST: Final = "select position::text from account where id = $1"


# ---------------------------------------------------------------------------- the tests


async def test_every_operation_is_tried(world: World) -> None:
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in world.server.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == set(PROBES) | KEYLESS


async def test_what_is_another_accounts_is_to_everybody_else_as_if_it_were_not(
    world: World, statements: Statements, subtests: pytest.Subtests
) -> None:
    await furnish(world, "bob", 100)
    alices = await furnish(world, "alice", 200)
    for extra in range(6):  # that she has more events than he
        await world.pay(250 + extra, alices["address"], ETHER, height=HEIGHT + 200)
    alices["position"] = await world.pool.fetchval(_NEWEST, "alice")
    assert alices["position"] > await world.pool.fetchval(_NEWEST, "bob")
    ghosts = made_up(world, alices)
    for caller in (world.bob, world.admin):
        await caller.get("/v1/networks")  # that their keys are used now is noted once a minute
    assert {n for n in alices if len(alices[n]) != len(ghosts[n])} == set()
    bob = (world.bob, "")
    admin = (world.admin, "account=bob")
    named = (world.bob, "account={account}")  # which his key may not
    before = await rows(world.pool)
    for name, probe in sorted(ALL, key=lambda each: each[1].adds):
        for caller, more in (bob, admin, named):
            if caller is world.admin and name == "POST /v1/accounts":
                continue  # who may create accounts may know which there are
            answers, asked = [], []
            statements.taken()
            for names in (alices, ghosts):
                method = name.partition(" ")[0]
                answers.append(await ask(caller, method, probe, names, filled(more, names)))
                asked.append(statements.taken())
            after = await rows(world.pool)
            with subtests.test(name, target=probe.target, more=more):
                one, other = told(answers[0], probe, alices), told(answers[1], probe, ghosts)
                assert one == other
                assert asked[0] == asked[1]
                assert not before - after, "something is gone, or is not what it was"
                assert probe.adds or not after - before
                if more == named[1]:
                    assert one[0] == 403
            before = after


async def test_and_to_its_owner_it_is_there(world: World, subtests: pytest.Subtests) -> None:
    """The same requests by who may: without this, the test above would show nothing."""
    alices = await furnish(world, "alice", 200)
    ghosts = made_up(world, alices)
    for name, probe in ALL:
        method = name.partition(" ")[0]
        if probe.owner and not probe.adds:
            with subtests.test(name, target=probe.target):
                caller = world.alice
                if (nobodys := await ask(caller, method, probe, ghosts)).status == 403:
                    caller = world.admin
                    nobodys = await ask(caller, method, probe, ghosts)
                hers = told(await ask(caller, method, probe, alices), probe, alices)
                assert hers[0] < 300 or hers[0] == 409  # no node of this world gives proofs
                assert hers != told(nobodys, probe, ghosts)


async def view(world: World) -> dict[str, bytes]:
    """All that bob can list, and each thing of it, byte for byte."""
    singles = {"deposits": "/v1/deposits/", "endpoints": "/v1/endpoints/"}
    seen = {
        path: (await world.bob.ask("GET", path)).raw
        for path in ("/v1/networks", "/v1/coins", "/v1/totals", "/v1/events")
    }
    endpoints = await world.bob.pages("/v1/endpoints")
    paths = [path.format(endpoint=each["id"]) for path in LISTS.values() for each in endpoints]
    for path in paths:
        cursor = ""
        while True:
            page = await world.bob.ask("GET", f"{path}?limit=1{cursor}")
            seen[path + cursor] = page.raw
            if page.body["nextCursor"] is None:
                break
            cursor = f"&cursor={page.body['nextCursor']}"
    for kind, path in singles.items():
        for each in await world.bob.pages(LISTS[kind]):
            seen[path + each["id"]] = (await world.bob.ask("GET", path + each["id"])).raw
    return seen


async def test_what_others_do_changes_nothing_that_an_account_sees(world: World) -> None:
    await furnish(world, "bob", 100)
    await world.pool.execute("update scan set state = 'done', unread = '{}'")
    await world.alice.register("ethereum", address(150))
    await world.activate("ethereum")
    await world.pay(NOBODYS, address(NOBODYS), ETHER, height=HEIGHT + 200)  # the chain grows
    before = await view(world)
    alices = await furnish(world, "alice", 150)
    for name, probe in ALL:  # all that she can do, to the end of all she has
        await ask(world.alice, name.partition(" ")[0], probe, alices)
    await world.activate("ethereum")
    after = await view(world)
    assert {path: after.get(path) for path in before} == before
    assert len(after) == len(before) > 20


async def test_a_stream_brings_nothing_of_anybody_elses(world: World) -> None:
    alices = await furnish(world, "alice", 200)
    url, headers = f"{world.bob.base}/v1/stream", world.bob.headers
    refused = []
    for account in ("alice", "qqqqq"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await world.session.ws_connect(url, params={"account": account}, headers=headers)
        refused.append((refusal.value.status, refusal.value.message))
    assert refused == [(403, "Invalid response status")] * 2
    async with world.session.ws_connect(url, headers=headers) as following:
        await world.pay(250, alices["address"], ETHER, height=HEIGHT + 200)
        await world.bob.register("ethereum", address(150))
        await world.activate("ethereum")
        await world.pay(150, address(150), ETHER, height=HEIGHT + 201)
        event = json.loads(await following.receive_str(timeout=SECONDS))
    assert (event["position"], event["data"]["account"]) == (1, "bob")


async def test_ids_and_cursors_do_not_count_what_others_have(world: World) -> None:
    """The database numbers what all accounts have; nothing of that shows, nor any order."""
    given = []
    for number, account in enumerate(("bob", "alice"), 1):
        names = await furnish(world, account, 100 * number)
        given.append([names[name] for name in ("delivery", "done", "resend", "import")])
        given[-1] += [value for name, value in names.items() if name.endswith("_cursor")]
    for one, other in zip(*given, strict=True):
        prefix, mark, name = one.rpartition("_")
        assert other.startswith(prefix + mark)
        assert re.fullmatch("[a-z2-7]{30,}", name), one
        alike = sum(a == b for a, b in zip(name, other.removeprefix(prefix + mark), strict=True))
        assert alike < len(name) / 2, (one, other)
