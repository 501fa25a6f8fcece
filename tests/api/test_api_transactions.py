"""`GET /v1/transactions/{network}/{hash}`: whose, of which network, and without any node."""

from __future__ import annotations

from tests.api.world import World, address, tx_hash

ALICE = address(1)


async def paid(world: World) -> str:
    """The path of a transaction that paid alice."""
    await world.alice.register("ethereum", ALICE)
    await world.activate("ethereum")
    await world.pay(1, ALICE, 5)
    return f"/v1/transactions/ethereum/{tx_hash('ethereum', 1)}"


async def test_what_is_known_is_told_without_a_node(world: World) -> None:
    path = await paid(world)
    answer = await world.alice.get(path)
    assert answer.status == 200
    assert (answer.body["network"], answer.body["stoppedAt"]) == ("ethereum", "transaction")
    (step,) = answer.body["steps"]
    assert step["sentence"] == "no node of ethereum could say: no node of ethereum answers"
    (way,) = answer.body["transfers"]
    assert (way["account"], way["toAddress"], way["status"]) == ("alice", ALICE, "detected")
    assert [each["step"] for each in way["steps"]][:4] == ["coin", "address", "amount", "deposit"]


async def test_another_account_learns_nothing_of_it(world: World) -> None:
    path = await paid(world)
    answer = await world.bob.get(path)
    assert (answer.status, answer.body["transfers"]) == (200, [])
    assert "alice" not in answer.raw.decode()
    assert len((await world.admin.get(path)).body["transfers"]) == 1
    assert (await world.admin.get(path, account="bob")).body["transfers"] == []


async def test_a_hash_that_no_node_knows(world: World) -> None:
    answer = await world.alice.get(f"/v1/transactions/polygon/{tx_hash('polygon', 7)}")
    assert answer.body["steps"][0]["result"] == "waits"
    assert (await world.alice.get("/v1/transactions/polygon/0x12")).status == 400
    assert (await world.alice.get("/v1/transactions/nowhere/0x12")).status == 404
    assert (
        await world.nobody.get(f"/v1/transactions/polygon/{tx_hash('polygon', 7)}")
    ).status == 401
