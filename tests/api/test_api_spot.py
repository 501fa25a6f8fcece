"""The exchange-style routes: the same deposits in another envelope."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.registered import create
from tests.api.world import CONFIRMATIONS, HEIGHT, STRANGER, Caller, World, address, tx_hash

ONE = 10**18
pytestmark = pytest.mark.usefixtures("contracts")


async def page(caller: Caller, **body: Any) -> list[Any]:
    answer = await caller.post("/api/spot/v1/deposit/page", body)
    assert answer.status == 200, answer
    assert (answer.body["code"], answer.body["msg"]) == ("0", "result.success")
    assert answer.body["success"] is True
    rows: list[Any] = answer.body["data"]
    return rows


@pytest.fixture
async def paid(world: World) -> World:
    for network in ("ethereum", "bsc"):
        await world.alice.register(network, address(1))
        await world.activate(network)
    for number in range(1, 4):
        await world.pay(number, address(1), number * ONE)
    await world.pay(4, address(1), ONE, network="bsc")
    return world


async def test_a_deposit_as_exchange_clients_read_it(paid: World) -> None:
    [row] = await page(paid.alice, transactionHash=tx_hash("ethereum", 2))
    [deposit] = await paid.alice.pages("/v1/deposits", transactionHash=tx_hash("ethereum", 2))
    assert row == {
        "id": deposit["id"],
        "transactionHash": tx_hash("ethereum", 2),
        "coin": "eth",
        "network": "ethereum",
        "type": "deposit",
        "fromAddress": deposit["fromAddress"],
        "toAddress": address(1),
        "amount": "2.000000000000000000",
        "status": "pending",
        "ctime": row["ctime"],
    }
    assert STRANGER.hex() == row["fromAddress"][2:].lower()
    assert isinstance(row["ctime"], int)


async def test_filters_and_empty_texts(paid: World) -> None:
    everything = await page(paid.alice)
    assert len(everything) == 4
    assert everything == await page(
        paid.alice, coin="", type="", id="", transactionHash="", startTime="", endTime="", limit=""
    )
    assert [row["coin"] for row in everything] == ["bnb", "eth", "eth", "eth"]
    newest = everything[0]
    assert await page(paid.alice, id=newest["id"]) == [newest]
    assert await page(paid.alice, coin="BNB") == await page(paid.alice, coin="bnb") == [newest]
    assert await page(paid.alice, coin="nothing") == []
    assert await page(paid.alice, type="withdrawal") == []
    assert await page(paid.alice, transactionHash="zz") == []
    assert len(await page(paid.alice, limit=2)) == 2
    first = everything[-1]["ctime"]
    assert everything[-1] in await page(paid.alice, startTime=first, endTime=first)
    assert await page(paid.alice, endTime=first - 1) == []
    assert await page(paid.alice, startTime=newest["ctime"] + 1) == []
    assert await page(paid.bob) == []


async def test_states_have_their_names_there(paid: World) -> None:
    await paid.admin.put("/v1/coins", {"coin": "eth", "maxAutoAmount": "5", "minDepositAmount": 1})
    await paid.pay(5, address(1), 9 * ONE)
    await paid.pay(6, address(1), 1)  # below the minimum: not listed
    await paid.advance("ethereum", HEIGHT + CONFIRMATIONS)
    await paid.pay(7, address(1), ONE, height=HEIGHT + CONFIRMATIONS + 1)
    [held] = [d for d in await paid.alice.pages("/v1/deposits") if d["status"] == "held"]
    status = {row["id"]: row["status"] for row in await page(paid.alice, coin="eth")}
    assert sorted(status.values()) == ["pending", "pending", "success", "success", "success"]
    assert status[held["id"]] == "pending"
    await paid.admin.post(f"/v1/deposits/{held['id']}/reject", {"note": "no"})
    assert (await page(paid.alice, id=held["id"]))[0]["status"] == "fail"
    await paid.pool.execute("update deposit set state = 'orphaned' where id = $1", held["id"])
    assert (await page(paid.alice, id=held["id"]))[0]["status"] == "cancelled"


async def test_addresses_of_a_coin_on_a_network(paid: World) -> None:
    await create(paid, "ethereum")
    await create(paid, "bsc")
    await paid.alice.register("ethereum", {"address": address(9), "role": "own"}, address(2))
    answer = await paid.alice.post(
        "/api/spot/v1/deposit/address", {"coin": "USDT", "network": "ethereum"}
    )
    shown = {"coin": "usdt_erc20", "network": "ethereum", "memo": None}
    assert answer.body["data"] == [{**shown, "address": address(n)} for n in (1, 2)]
    for body in ({"coin": "USDT", "network": "polygon"}, {"coin": "USDT", "network": "nowhere"}):
        refused = await paid.alice.post("/api/spot/v1/deposit/address", body)
        assert (refused.status, refused.body["success"], refused.body["data"]) == (400, False, None)


@pytest.mark.parametrize(
    "body",
    [{"limit": 101}, {"limit": 0}, {"startTime": -1}, {"endTime": 1e400}, {"nothing": 1}, {"id": 7},
     {"startTime": 10**18}, [], {"coin": None, "limit": "5"}],
)  # fmt: skip
async def test_refusals_come_in_the_envelope(paid: World, body: Any) -> None:
    answer = await paid.alice.post("/api/spot/v1/deposit/page", body)
    assert answer.status == 400
    assert set(answer.body) == {"code", "msg", "data", "success"}
    assert (answer.body["code"], answer.body["success"]) == ("400", False)
    assert answer.body["msg"]


async def test_the_envelope_holds_for_every_refusal(paid: World) -> None:
    nobody = await paid.nobody.post("/api/spot/v1/deposit/page", {})
    assert (nobody.status, nobody.body["code"]) == (401, "401")
    nothing = await paid.alice.post("/api/spot/v1/withdraw", {})
    assert (nothing.status, nothing.body["success"]) == (404, False)
    admin = await paid.admin.post("/api/spot/v1/deposit/page", {})
    assert (admin.status, "?account=" in admin.body["msg"]) == (400, True)
    assert len(await page(paid.alice)) == 4
