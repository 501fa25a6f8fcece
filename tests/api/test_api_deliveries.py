"""Deliveries: listed, shown with their attempts, and sent again one by one or as a range."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import pytest

from callbacks import resends
from indexer.model import format_time
from tests import callback_rows as rows
from tests.api.past import endpoint, happen, named, numbered, states
from tests.api.world import Caller, World, address
from tests.callback_runs import dispatching, hurried, settled
from tests.harness.receiver import Receiver, receiver

NOBODYS: Final = ["1", "x", "dlv_", "dlv_1", "dlv_" + "a" * 39, "imp_" + "a" * 39]


@asynccontextmanager
async def shop(world: World, **given: Any) -> AsyncIterator[tuple[Receiver, str]]:
    """A receiver, and the path of alice's endpoint there."""
    async with (
        receiver(**given) as made,
        world.with_callbacks(allow_private=True, allow_http=True) as alice,
    ):
        path, secret = await endpoint(alice, made.url)
        made.secrets.append(secret)
        yield made, path


async def end(world: World, state: str, *sequences: int) -> None:
    """What lives of these steps has ended so."""
    await world.pool.execute(
        "select end_deliveries(array(select id from delivery where sequence = any ($1)), "
        "$2::text::delivery_state, $2)",
        sequences,
        state,
    )


async def ids(world: World, path: str, **query: str) -> list[str]:
    return [each["id"] for each in await world.alice.pages(f"{path}/deliveries", **query)]


# ---------------------------------------------------------------------------- lists and one


async def test_deliveries_are_listed_newest_first_whether_they_live_or_not(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await endpoint(world.alice)  # another one's are not among them
    await happen(world, 3, 4)
    await end(world, "delivered", 1)
    await end(world, "exhausted", 2)
    await end(world, "cancelled", 3)
    listed = await world.alice.pages(f"{path}/deliveries", limit=5)
    assert len(listed) == 12
    times = [(each["createdAt"], numbered(world, each["id"])) for each in listed]
    assert times == sorted(times, reverse=True)
    assert {each["endpoint"] for each in listed} == {path[14:]}
    for state, sequence in (("delivered", 1), ("exhausted", 2), ("cancelled", 3), ("pending", 4)):
        found = await world.alice.pages(f"{path}/deliveries", state=state, limit=2)
        assert [(each["state"], each["sequence"]) for each in found] == [(state, sequence)] * 3
        assert found == [each for each in listed if each["state"] == state]
    refused = await world.alice.get(f"{path}/deliveries", state="held")
    assert refused.status == 400


async def test_a_delivery_is_shown_the_same_wherever_it_is_shown(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await world.alice.register("ethereum", "0x" + "11" * 20)
    await world.activate("ethereum")
    await world.pay(1, "0x" + "11" * 20, 10**18)
    [deposit] = (await world.alice.get("/v1/deposits")).body["items"]
    for state in ("pending", "delivered"):
        [listed] = (await world.alice.get(f"{path}/deliveries")).body["items"]
        shown = (await world.alice.get(f"/v1/deliveries/{listed['id']}")).body
        whole = (await world.alice.get(f"/v1/deposits/{deposit['id']}")).body
        assert listed["state"] == state
        assert shown == {**listed, "attempts": []}
        assert whole["deliveries"] == [listed]
        assert (listed["deposit"], listed["type"]) == (deposit["id"], "deposit.detected")
        await end(world, "delivered", 1)


async def test_a_delivery_shows_each_of_its_attempts(world: World) -> None:
    async with shop(world, fail=1.0) as (made, _):
        await happen(world, 1)

        async def tried(times: int) -> None:
            while len(made.requests) < times:
                await asyncio.sleep(0.01)

        async with dispatching(world.pool, world.context.vault):
            await tried(1)
            made.fail = 0.0
            while not await world.pool.fetchval("select exists (select from attempt)"):
                await asyncio.sleep(0.01)
            await world.pool.execute("update delivery set due_at = clock()")
            [done] = await settled(world.pool)
        shown = (await world.alice.get(f"/v1/deliveries/{named(world, done['id'])}")).body
    assert (shown["state"], shown["chargedAttempts"], shown["lastStatus"]) == ("delivered", 2, 204)
    first, second = shown["attempts"]
    assert (first["number"], first["status"], first["error"]) == (1, 500, "status")
    assert (second["number"], second["status"], second["error"]) == (2, 204, None)
    assert first["at"] < second["at"]
    assert first["connectMs"] is not None
    assert second["connectMs"] is None  # the connection was kept
    assert first["head"].startswith("HTTP/1.1 500")


@pytest.mark.parametrize("number", NOBODYS)
async def test_a_delivery_that_is_not_there_is_not_found(world: World, number: str) -> None:
    for method, path in (("GET", "/v1/deliveries/{}"), ("POST", "/v1/deliveries/{}/resend")):
        assert (await world.alice.ask(method, path.format(number))).status == 404
        assert (await world.alice.ask(method, path.format(named(world, 999)))).status == 404


async def test_another_accounts_deliveries_are_not_there(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await happen(world, 1, 2)
    await end(world, "delivered", 1)
    for number in await ids(world, path):
        assert (await world.bob.get(f"/v1/deliveries/{number}")).status == 404
        assert (await world.bob.post(f"/v1/deliveries/{number}/resend", None)).status == 404
        assert (await world.alice.get(f"/v1/deliveries/{number}")).status == 200
        assert (await world.admin.get(f"/v1/deliveries/{number}")).status == 200
    since = {"since": format_time(await ago(world, hours=1))}
    for method, action, body in (
        ("GET", "deliveries", None),
        ("GET", "resends", None),
        ("POST", "resend", since),
        ("POST", "resend", {**since, "dryRun": True}),
        ("DELETE", "resends/rsd_x", None),
    ):
        assert (await world.bob.ask(method, f"{path}/{action}", body)).status == 404
    assert await states(world) == [("delivered", "delivered"), ("pending", None)]


# ---------------------------------------------------------------------------- one again


async def test_a_finished_delivery_is_sent_again_with_its_id_and_bytes(world: World) -> None:
    async with shop(world) as (made, _):
        await happen(world, 1, 2)
        async with dispatching(world.pool, world.context.vault):
            first, second = await settled(world.pool)
            again = await world.alice.post(
                f"/v1/deliveries/{named(world, first['id'])}/resend", None
            )
            assert (again.status, again.body["id"]) == (200, named(world, first["id"]))
            assert (again.body["state"], again.body["chargedAttempts"]) == ("pending", 0)
            done = await settled(world.pool)
        assert [row["id"] for row in done] == [first["id"], second["id"]]
        before, _, after = made.requests
        assert (before.id, before.body) == (after.id, after.body)
        shown = (await world.alice.get(f"/v1/deliveries/{named(world, first['id'])}")).body
        assert [each["number"] for each in shown["attempts"]] == [1, 2]


@pytest.mark.case(28)
async def test_bytes_of_any_kind_are_the_same_on_every_attempt_and_resend(world: World) -> None:
    async with shop(world, fail=0.5, seed=28) as (made, path):
        await world.pool.execute("update coin set symbol = $1 where id = 'eth'", "Ξ\u2028")
        watched = {"address": address(1), "reference": 'Größe "円" 🪙 \\u2028'}
        await world.alice.register("ethereum", watched)
        await world.activate("ethereum")
        await world.pay(1, address(1), 2**256 - 1)
        since = await ago(world, hours=1)
        async with dispatching(world.pool, world.context.vault), hurried(world.pool):
            [done] = await settled(world.pool)
            for _ in range(3):
                await world.alice.post(f"/v1/deliveries/{named(world, done['id'])}/resend", None)
                await settled(world.pool)
            await resend(world.alice, path, since)
            await resends.feed(world.pool)
            await settled(world.pool)
        [event] = (await world.alice.get("/v1/events")).body["items"]
    assert not made.refused
    assert len(made.accepted) == 5
    assert len(made.requests) > 5
    [(name, body)] = {(each.id, each.body) for each in made.requests}
    assert (name, orjson.loads(body)) == (
        event["id"],
        {key: event[key] for key in ("type", "timestamp", "data")},
    )
    data = orjson.loads(body)["data"]
    assert data["amountUnits"] == str(2**256 - 1)
    assert data["reference"] == watched["reference"]
    assert data["symbol"] == "Ξ\u2028"


async def test_an_exhausted_or_cancelled_delivery_is_sent_again(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await happen(world, 1, 2)
    await end(world, "exhausted", 1)
    await end(world, "cancelled", 2)
    for number in await ids(world, path):
        again = (await world.alice.post(f"/v1/deliveries/{number}/resend", None)).body
        assert (again["state"], again["reason"]) == ("pending", None)
    assert await states(world) == [("pending", None)] * 2


async def test_one_that_waits_is_sent_now_and_one_that_is_being_sent_stays(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await happen(world, 1)
    [number] = await ids(world, path)
    await world.pool.execute("update delivery set due_at = clock() + interval '1 day'")
    await world.alice.post(f"/v1/deliveries/{number}/resend", None)
    assert await world.pool.fetchval("select due_at <= clock() from delivery")
    await world.pool.execute(
        "update delivery set lease_token = gen_random_uuid(), leased_until = 'infinity', "
        "due_at = clock() + interval '1 minute'"
    )
    leased = await world.pool.fetchrow("select * from delivery")
    await world.alice.post(f"/v1/deliveries/{number}/resend", None)
    assert await world.pool.fetchrow("select * from delivery") == leased


async def test_what_has_no_endpoint_or_no_event_any_more_says_so(world: World) -> None:
    path, _ = await endpoint(world.alice)
    await happen(world, 1, 2)
    one, other = await ids(world, path)
    await end(world, "delivered", 2)
    await world.pool.execute("delete from event where sequence = 2")
    gone = await world.admin.post(f"/v1/deliveries/{one}/resend", None)
    assert (gone.status, gone.body["code"]) == (410, "GONE")
    assert (await world.alice.get(f"/v1/deliveries/{one}")).status == 404
    await world.alice.delete(path)
    refused = await world.alice.post(f"/v1/deliveries/{other}/resend", None)
    assert (refused.status, "was deleted" in refused.error) == (409, True)
    assert len(await states(world)) == 2


# ---------------------------------------------------------------------------- a range again


async def ago(world: World, **time: float) -> datetime:
    now: datetime = await world.pool.fetchval("select clock()")
    return now - timedelta(**time)


async def resend(caller: Caller, path: str, since: datetime, **body: Any) -> int:
    answer = await caller.post(f"{path}/resend", {"since": format_time(since), **body})
    assert (answer.status, set(answer.body)) == (200, {"count"}), answer
    count: int = answer.body["count"]
    return count


async def test_a_range_is_counted_and_sent_again(world: World) -> None:
    path, _ = await endpoint(world.alice)
    since = await ago(world, hours=1)
    await happen(world, 2, 4)
    await end(world, "delivered", 1)
    await end(world, "exhausted", 2)
    await end(world, "cancelled", 3)
    for given, expected in (
        ({}, 6),
        ({"states": ["delivered"]}, 2),
        ({"states": ["exhausted", "cancelled"]}, 4),
        ({"until": format_time(since + timedelta(milliseconds=1))}, 0),
    ):
        assert await resend(world.alice, path, since, dryRun=True, **given) == expected
    assert (await world.alice.get(f"{path}/resends")).body["items"] == []
    assert await resend(world.alice, path, since, states=["exhausted"]) == 2
    [waiting] = (await world.alice.get(f"{path}/resends")).body["items"]
    assert (waiting["since"], waiting["states"], waiting["count"]) == (
        format_time(since),
        ["exhausted"],
        2,
    )
    assert (await world.alice.delete(f"{path}/resends/{waiting['id']}")).status == 204
    assert (await world.alice.delete(f"{path}/resends/{waiting['id']}")).status == 404
    assert await world.pool.fetchval("select count(*) from resend") == 0


async def test_what_is_asked_for_twice_under_one_key_is_sent_again_once(world: World) -> None:
    path, _ = await endpoint(world.alice)
    since = format_time(await ago(world, hours=1))
    await happen(world, 1)
    await end(world, "delivered", 1)
    [number] = await ids(world, path)
    for to, given in ((path, {"since": since}), (f"/v1/deliveries/{number}", None)):
        key = {"Idempotency-Key": "once"}
        first = await world.alice.post(f"{to}/resend", given, headers=key)
        await end(world, "delivered", 1)
        again = await world.alice.post(f"{to}/resend", given, headers=key)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["Idempotency-Replayed"] == "true"
    assert await world.pool.fetchval("select count(*) from resend") == 1
    assert [state for state, _ in await states(world)] == ["delivered"]


async def test_a_range_reaches_what_happened_before_there_was_the_endpoint(world: World) -> None:
    since = await ago(world, hours=1)
    await happen(world, 3, 2)
    silent = await rows.deposit(world.pool, 99, account="alice", silent=True)
    await rows.event(world.pool, silent, 1, account="alice")
    await rows.history(world.pool, 100, 1)  # another account's
    path, _ = await endpoint(world.alice)
    assert await resend(world.alice, path, since, dryRun=True) == 6
    assert await resend(world.alice, path, since, dryRun=True, states=["delivered"]) == 0
    change = {"events": ["deposit.confirmed"]}
    await world.alice.ask("PATCH", path, change)
    assert await resend(world.alice, path, since, dryRun=True) == 0


@pytest.mark.parametrize(
    ("days", "body", "sentence"),
    [
        (31, {}, "the last 30 days"),
        (-1, {}, "the range is empty"),
        (1, {"until": "2000-01-01T00:00:00Z"}, "the range is empty"),
        (1, {"states": []}, "at least 1"),
        (1, {"states": ["pending"]}, "must be 'delivered', 'exhausted' or 'cancelled'"),
        (1, {"since": "yesterday"}, "must be a time"),
    ],
)
async def test_a_range_that_can_not_be_is_refused(
    world: World, days: int, body: dict[str, Any], sentence: str
) -> None:
    path, _ = await endpoint(world.alice)
    given = {"since": format_time(await ago(world, days=days)), **body}
    for dry in (True, False):
        refused = await world.alice.post(f"{path}/resend", {**given, "dryRun": dry})
        assert (refused.status, sentence in refused.error) == (400, True), refused


async def test_ranges_have_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = await endpoint(world.alice)
    since = await ago(world, hours=1)
    await happen(world, 1, 3)
    await end(world, "delivered", 1, 2, 3)
    monkeypatch.setattr("callbacks.resends.MAX_EVENTS", 2)
    refused = await world.alice.post(f"{path}/resend", {"since": format_time(since)})
    assert (refused.status, "more than 2 events" in refused.error) == (400, True)
    monkeypatch.setattr("callbacks.resends.MAX_EVENTS", 3)
    for _ in range(10):
        assert await resend(world.alice, path, since) == 3
    refused = await world.alice.post(f"{path}/resend", {"since": format_time(since)})
    assert (refused.status, "not done yet" in refused.error) == (400, True)
