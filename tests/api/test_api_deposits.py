"""Deposits, the feed of events, networks and health over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from indexer.model import format_time
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

ONE: Final = 10**18
FIELDS: Final = [
    "id",
    "sequence",
    "account",
    "network",
    "coin",
    "symbol",
    "contractAddress",
    "decimals",
    "transactionHash",
    "ordinal",
    "fromAddress",
    "toAddress",
    "reference",
    "memo",
    "amount",
    "amountUnits",
    "blockHeight",
    "blockHash",
    "blockTime",
    "confirmations",
    "requiredConfirmations",
    "status",
    "previousStatus",
    "reason",
    "createdAt",
    "updatedAt",
]


@pytest.fixture
async def paid(world: World) -> World:
    """Alice watches 1 and 2, Bob 2 and 3, on two networks."""
    for network in ("ethereum", "bsc"):
        one = {"address": address(1), "reference": "u1"}
        await world.alice.register(network, one, address(2))
        await world.bob.register(network, address(2), address(3))
        await world.activate(network)
    return world


async def found(caller: Any, **query: Any) -> list[Any]:
    answer = await caller.get("/v1/deposits", **query)
    assert answer.status == 200, answer
    items: list[Any] = answer.body["items"]
    return items


async def test_a_deposit_as_it_is_shown(paid: World) -> None:
    await paid.pay(1, address(1), 3 * ONE // 2)
    await paid.advance("ethereum", HEIGHT + 4)
    (item,) = await found(paid.alice)
    assert list(item) == FIELDS
    assert item["id"].startswith("dep_")
    assert format_time(datetime.now(UTC) - timedelta(minutes=5)) < item["createdAt"]
    assert item["createdAt"] == item["updatedAt"]
    expected = {
        "sequence": 1,
        "account": "alice",
        "network": "ethereum",
        "coin": "eth",
        "symbol": "ETH",
        "contractAddress": None,
        "decimals": 18,
        "ordinal": 0,
        "fromAddress": CODEC.format_address(STRANGER),
        "toAddress": address(1),
        "reference": "u1",
        "memo": None,
        "amount": "1.500000000000000000",
        "amountUnits": str(3 * ONE // 2),
        "blockHeight": HEIGHT + 1,
        "blockHash": CODEC.format_hash(block("ethereum", HEIGHT + 1).hash),
        "blockTime": format_time(block_time(HEIGHT + 1)),
        "confirmations": 4,
        "requiredConfirmations": CONFIRMATIONS,
        "status": "detected",
        "previousStatus": None,
        "reason": None,
    }
    assert expected.items() <= item.items()


async def test_confirmations_are_those_of_this_moment(paid: World) -> None:
    await paid.pay(1, address(1), ONE)
    for height in (1, 3, 30):
        await paid.advance("ethereum", HEIGHT + height)
        (item,) = await found(paid.alice)
        assert item["confirmations"] == height
    await paid.pool.execute(
        "update deposit set state = 'orphaned', previous = state, sequence = sequence + 1"
    )
    (item,) = await found(paid.alice)
    assert (item["status"], item["confirmations"]) == ("orphaned", 0)


async def test_every_filter_and_their_sum(paid: World) -> None:
    await paid.pay(1, address(1), ONE)
    await paid.pay(2, address(2), ONE, height=HEIGHT + 2)
    await paid.pay(3, address(2), ONE, network="bsc")
    await paid.pay(4, address(1), ONE, height=HEIGHT + 20, final=HEIGHT + 2)
    await paid.pay(5, address(1), ONE, height=HEIGHT + 21)

    hashes = {n: tx_hash("bsc" if n == 3 else "ethereum", n) for n in range(1, 6)}
    by_hash = {text: n for n, text in hashes.items()}

    async def numbers(**query: Any) -> set[int]:
        return {by_hash[item["transactionHash"]] for item in await found(paid.alice, **query)}

    assert await numbers() == {1, 2, 3, 4, 5}
    assert await numbers(network="bsc") == {3}
    assert await numbers(coin="eth") == {1, 2, 4, 5}
    assert await numbers(coin="nothing") == set()
    assert await numbers(address=address(1).lower()) == {1, 4, 5}
    assert await numbers(address=address(2)) == {2, 3}
    assert await numbers(address=address(2), network="bsc") == {3}
    assert await numbers(reference="u1") == {1, 4, 5}
    assert await numbers(transactionHash=hashes[2]) == {2}
    assert await numbers(status="detected") == {3, 4, 5}
    assert await numbers(status="finalized") == {1, 2}
    assert await numbers(reference="u1", status="detected") == {4, 5}
    created = {item["transactionHash"]: item["createdAt"] for item in await found(paid.alice)}
    second, fourth = created[hashes[2]], created[hashes[4]]
    assert await numbers(since=second) == {2, 3, 4, 5}
    assert await numbers(until=second) == {1}
    assert await numbers(since=second, until=fourth) == {2, 3}


async def test_lists_are_newest_first(paid: World) -> None:
    for number in range(5):
        await paid.pay(number, address(1), ONE + number, height=HEIGHT + 5 - number)
    amounts = [int(item["amountUnits"]) - ONE for item in await found(paid.alice)]
    assert amounts == [4, 3, 2, 1, 0]


async def test_pages_stay_true_while_deposits_arrive_and_change(paid: World) -> None:
    for number in range(23):
        await paid.pay(number, address(1), ONE)
    before = {item["id"] for item in await found(paid.alice, limit=1000)}
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    for number in range(100, 120):
        page = (await paid.alice.get("/v1/deposits", **query)).body
        assert len(page["items"]) <= 3
        seen += [item["id"] for item in page["items"]]
        await paid.pay(number, address(1), ONE)
        await paid.advance("ethereum", HEIGHT + number)
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert len(seen) == len(set(seen))
    assert set(seen) == before


async def test_deposits_of_one_instant_are_each_on_one_page(paid: World) -> None:
    for number in range(10):
        await paid.pay(number, address(1), ONE)
    await paid.pool.execute("update deposit set created_at = '2026-01-01 00:00:00.123456Z'")
    ids = [item["id"] for item in await paid.alice.pages("/v1/deposits", limit=3)]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == len(set(ids)) == 10


async def test_an_address_on_several_networks_has_one_list_in_one_order(paid: World) -> None:
    for number in range(1, 8):
        network = "bsc" if number % 3 else "ethereum"
        await paid.pay(number, address(2), ONE, network=network, height=HEIGHT + number)
    newest_first = [item["id"] for item in await found(paid.alice)]
    assert len(newest_first) == 7
    pages = await paid.alice.pages("/v1/deposits", address=address(2), limit=2)
    assert [item["id"] for item in pages] == newest_first
    one = tx_hash("bsc", 4)
    assert len(await found(paid.alice, address=address(2), transactionHash=one)) == 1
    assert await found(paid.alice, address=address(1), transactionHash=one) == []


async def test_one_deposit_with_its_events_and_deliveries(paid: World) -> None:
    await paid.pool.execute(
        "insert into endpoint (id, account, url) values ('ep_1', 'alice', 'https://a.example')"
    )
    await paid.pay(1, address(1), ONE)
    (item,) = await found(paid.alice)
    first = (await paid.alice.get(f"/v1/deposits/{item['id']}")).body
    assert list(first) == [*FIELDS, "events", "deliveries"]
    (event,) = first["events"]
    assert set(event) == {"position", "id", "type", "timestamp", "data"}
    assert (event["position"], event["type"]) == (1, "deposit.detected")
    assert event["data"]["id"] == item["id"]
    (delivery,) = first["deliveries"]
    assert delivery["event"] == event["id"]
    assert (delivery["endpoint"], delivery["state"], delivery["chargedAttempts"]) == (
        "ep_1",
        "pending",
        0,
    )
    assert delivery["dueAt"] is not None
    assert (delivery["doneAt"], delivery["heldSince"]) == (None, None)
    await paid.pool.execute(
        """
        with gone as (delete from delivery returning *)
        insert into delivery_done (id, endpoint, event, deposit, sequence, state, requests,
                                   attempts, last_status, created_at)
        select id, endpoint, event, deposit, sequence, 'delivered', 1, 1, 200, created_at from gone
        """
    )
    (done,) = (await paid.alice.get(f"/v1/deposits/{item['id']}")).body["deliveries"]
    assert (done["state"], done["lastStatus"], done["id"]) == ("delivered", 200, delivery["id"])
    assert done["doneAt"] is not None


async def test_the_feed_is_gapless_and_resumes_after_a_position(paid: World) -> None:
    for number in range(7):
        await paid.pay(number, address(1), ONE)
    feed: list[Any] = []
    page = (await paid.alice.get("/v1/events", limit=3)).body
    while True:
        feed += page["items"]
        if page["nextCursor"] is None:
            break
        page = (await paid.alice.get("/v1/events", limit=3, after=page["nextCursor"])).body
    assert [item["position"] for item in feed] == list(range(1, 8))
    assert len({item["id"] for item in feed}) == 7
    assert {item["type"] for item in feed} == {"deposit.detected"}
    assert all(item["data"]["account"] == "alice" for item in feed)
    assert (await paid.alice.get("/v1/events", after=7)).body == {"items": [], "nextCursor": None}


async def test_a_position_beyond_the_newest_says_that_the_feed_began_anew(paid: World) -> None:
    assert (await paid.alice.get("/v1/events", after=0)).status == 200
    await paid.pay(1, address(1), ONE)
    answer = await paid.alice.get("/v1/events", after=2)
    assert (answer.status, answer.body["code"]) == (409, "FEED_RESET")
    assert answer.error


async def test_a_position_that_is_no_longer_kept_is_gone(paid: World) -> None:
    for number in range(4):
        await paid.pay(number, address(1), ONE)
    await paid.pool.execute("update account set forgotten = 2 where position = 4")
    answer = await paid.alice.get("/v1/events", after=1)
    assert (answer.status, answer.body["code"]) == (410, "GONE")
    kept = (await paid.alice.get("/v1/events", after=2)).body["items"]
    assert [item["position"] for item in kept] == [3, 4]
    assert (await paid.alice.get("/v1/events")).body["items"] == kept
    await paid.pool.execute("update account set forgotten = 4 where position = 4")
    assert (await paid.alice.get("/v1/events", after=3)).status == 410
    assert (await paid.alice.get("/v1/events", after=4)).body["items"] == []


async def test_silent_deposits_are_in_the_feed(world: World) -> None:
    await world.alice.register("ethereum", {"address": address(1), "fromBlock": 1}, callbacks=False)
    await world.activate("ethereum")
    await world.pay(1, address(1), ONE, height=500)
    types = [item["type"] for item in (await world.alice.get("/v1/events")).body["items"]]
    assert types == ["deposit.detected", "deposit.confirmed"]


async def test_an_admin_sees_all_accounts_or_the_one_it_names(paid: World) -> None:
    await paid.pay(1, address(2), ONE)
    assert {item["account"] for item in await found(paid.admin)} == {"alice", "bob"}
    (item,) = await found(paid.admin, account="bob")
    assert item["account"] == "bob"
    assert (await paid.admin.get(f"/v1/deposits/{item['id']}")).status == 200
    assert (await paid.admin.get(f"/v1/deposits/{item['id']}", account="alice")).status == 404
    assert (await paid.admin.get("/v1/deposits", account="nobody")).status == 404


async def test_two_accounts_never_see_each_others_rows(paid: World) -> None:
    await paid.pay(1, address(1), ONE)
    await paid.pay(2, address(2), ONE)
    await paid.pay(3, address(3), ONE)
    both = {"alice": paid.alice, "bob": paid.bob}
    ids = {name: {item["id"] for item in await found(caller)} for name, caller in both.items()}
    assert [len(ids["alice"]), len(ids["bob"]), len(ids["alice"] & ids["bob"])] == [2, 2, 0]
    for mine, theirs in (("alice", "bob"), ("bob", "alice")):
        for path in [f"/v1/deposits/{deposit}" for deposit in ids[theirs]]:
            assert (await both[mine].get(path)).status == 404
        items = await found(both[mine])
        assert {item["account"] for item in items} == {mine}
        feed = (await both[mine].get("/v1/events")).body["items"]
        assert [item["position"] for item in feed] == [1, 2]
        assert {item["data"]["account"] for item in feed} == {mine}
    # Each other's addresses, hashes and references find nothing.
    assert await found(paid.alice, address=address(3)) == []
    assert await found(paid.bob, address=address(1)) == []
    assert await found(paid.bob, reference="u1") == []
    strange = (await found(paid.bob, address=address(3)))[0]["transactionHash"]
    assert await found(paid.alice, transactionHash=strange) == []
    listed = (await paid.bob.get("/v1/addresses", network="ethereum")).body["items"]
    assert {item["address"] for item in listed} == {address(2), address(3)}
    assert (await paid.bob.get("/v1/addresses", reference="u1")).body["items"] == []
    only_alices = f"/v1/addresses/ethereum/{address(1)}"
    assert (await paid.bob.get(only_alices)).status == 404
    assert (await paid.bob.delete(only_alices)).status == 404
    # One account's removal leaves the other's registration of the same address alone.
    assert (await paid.bob.delete(f"/v1/addresses/ethereum/{address(2)}")).status == 204
    assert (await paid.alice.get(f"/v1/addresses/ethereum/{address(2)}")).status == 200


async def test_another_accounts_reference_stays_out_of_mine(paid: World) -> None:
    await paid.bob.register("ethereum", {"address": address(2), "reference": "bobs"})
    await paid.pay(1, address(2), ONE)
    assert (await found(paid.alice))[0]["reference"] is None
    assert (await found(paid.bob))[0]["reference"] == "bobs"


async def test_networks_as_they_stand(world: World) -> None:
    await world.pool.execute(
        "update network set state = 'catching_up', head = $1 where id = 'ethereum'", HEIGHT + 9
    )
    await world.pool.execute("update cursor set finalized = 990 where network = 'ethereum'")
    await world.pool.execute("delete from network where id = 'idle'")
    body = (await world.alice.get("/v1/networks")).body
    assert body["nextCursor"] is None
    networks = {network["network"]: network for network in body["items"]}
    assert list(networks) == ["bsc", "ethereum", "idle", "polygon"]
    assert networks["ethereum"] == {
        "network": "ethereum",
        "family": "evm",
        "head": HEIGHT + 9,
        "cursor": HEIGHT,
        "lag": 9,
        "finalized": 990,
        "state": "catching_up",
        "reason": None,
    }
    nothing = dict.fromkeys(("head", "cursor", "lag", "finalized", "reason"))
    assert networks["idle"] == {
        "network": "idle",
        "family": "evm",
        "state": "starting",
        **nothing,
    }


async def test_health_needs_no_key_and_tells_no_reasons(world: World) -> None:
    await world.pool.execute(
        "update network set state = 'halted', reason = 'node-a says' where id = 'bsc'"
    )
    answer = await world.nobody.get("/healthz")
    assert answer.status == 200
    assert (answer.body["status"], answer.body["database"]) == ("ok", "ok")
    assert {"network": "bsc", "state": "halted"} in answer.body["networks"]
    assert "node-a" not in repr(answer.body)


async def test_readiness_is_this_processs_own(world: World) -> None:
    answer = await world.nobody.get("/readyz")
    assert (answer.status, answer.body) == (200, {"status": "ready", "roles": ["api"]})
    world.not_ready.append("network bsc: halted")
    answer = await world.nobody.get("/readyz")
    assert (answer.status, answer.body["code"]) == (503, "NOT_READY")
    assert answer.body["details"] == ["network bsc: halted"]


async def test_lists_answer_while_the_engine_writes(paid: World) -> None:
    async def write() -> None:
        for number in range(30):
            await paid.pay(number, address(2), ONE, height=HEIGHT + 1 + number)

    async def read() -> None:
        for _ in range(30):
            for caller in (paid.alice, paid.bob):
                items = await caller.pages("/v1/deposits", limit=5)
                assert len({item["id"] for item in items}) == len(items)

    await asyncio.gather(write(), read())
    assert len(await found(paid.alice)) == 30
