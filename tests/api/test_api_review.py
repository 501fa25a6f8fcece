"""What a person decides of held and ignored deposits, and the sums of all."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.chains import NATIVE
from tests.api.world import CONFIRMATIONS, HEIGHT, World, address

ONE = 10**18


@pytest.fixture
async def held(world: World) -> str:
    """A deposit of 5 ether, above the cap of 2."""
    await world.admin.put("/v1/coins", {"coin": "eth", "maxAutoAmount": "2"})
    await world.alice.register("ethereum", address(1))
    await world.activate("ethereum")
    await world.pay(1, address(1), 5 * ONE)
    [deposit] = await world.alice.pages("/v1/deposits")
    assert (deposit["status"], deposit["reason"]) == ("held", "above_cap")
    return str(deposit["id"])


async def events(world: World) -> list[str]:
    return [event["type"] for event in await world.alice.pages("/v1/events")]


async def test_a_released_deposit_goes_on_as_if_found_now(world: World, held: str) -> None:
    await world.advance("ethereum", HEIGHT + CONFIRMATIONS)
    answer = await world.admin.post(f"/v1/deposits/{held}/release", {"note": "asked the customer"})
    assert (answer.status, answer.body["status"], answer.body["reason"]) == (200, "confirmed", None)
    assert await events(world) == ["deposit.held", "deposit.detected", "deposit.confirmed"]
    audit = (await world.admin.get("/v1/audit", limit=1)).body["items"][0]
    assert audit["details"] == {"note": "asked the customer"}
    assert audit["target"] == f"/v1/deposits/{held}/release"
    again = await world.admin.ask("POST", f"/v1/deposits/{held}/release")
    assert (again.status, "confirmed" in again.error) == (409, True)


async def test_a_rejected_deposit_stays_so_for_good(world: World, held: str) -> None:
    assert (await world.admin.post(f"/v1/deposits/{held}/reject", {})).status == 400
    answer = await world.admin.post(f"/v1/deposits/{held}/reject", {"note": "stolen"})
    assert (answer.status, answer.body["status"]) == (200, "rejected")
    assert await events(world) == ["deposit.held", "deposit.rejected"]
    for decision in ("release", "reject"):
        refused = await world.admin.post(f"/v1/deposits/{held}/{decision}", {"note": "again"})
        assert refused.status == 409
    assert len(await events(world)) == 2


async def test_an_ignored_deposit_can_be_released_but_not_rejected(world: World) -> None:
    await world.admin.put("/v1/coins", {"coin": "eth", "minDepositAmount": "2"})
    await world.alice.register("ethereum", address(1))
    await world.activate("ethereum")
    await world.pay(1, address(1), ONE)
    [deposit] = await world.alice.pages("/v1/deposits")
    assert deposit["reason"] == "below_minimum"
    path = f"/v1/deposits/{deposit['id']}"
    assert (await world.admin.post(f"{path}/reject", {"note": "dust"})).status == 409
    assert (await world.admin.ask("POST", f"{path}/release")).body["status"] == "detected"
    assert await events(world) == ["deposit.detected"]


async def test_only_admins_decide(world: World, held: str) -> None:
    for decision in ("release", "reject"):
        path = f"/v1/deposits/{held}/{decision}"
        assert (await world.alice.post(path, {"note": "mine"})).status == 403
        assert (await world.admin.post(f"{path}?account=bob", {"note": "his"})).status == 404
        assert (
            await world.admin.post(f"/v1/deposits/dep_x/{decision}", {"note": "x"})
        ).status == 404
    assert await events(world) == ["deposit.held"]


@pytest.mark.pitfall("P115")
async def test_sums_are_exact_and_by_state(world: World, held: str) -> None:
    for number, units in enumerate((1, 10**18 - 1, 7), start=2):
        await world.pay(number, address(1), units)
    await world.pay(9, address(1), 2**200 + 1, asset=NATIVE)
    await world.bob.register("ethereum", address(1))

    def eth(answer: Any) -> Any:
        return next(item for item in answer.body["items"] if item["coin"] == "eth")

    sums = eth(await world.alice.get("/v1/totals"))
    assert sums["detected"] == "1.000000000000000007"
    assert sums["held"] == f"{(2**200 + 1 + 5 * ONE) // ONE}.{(2**200 + 1) % ONE:018d}"
    assert sums["confirmed"] == "0.000000000000000000"
    await world.admin.ask("POST", f"/v1/deposits/{held}/release")
    await world.advance("ethereum", HEIGHT + CONFIRMATIONS)
    await world.pay(10, address(2), 1, height=HEIGHT + CONFIRMATIONS)
    sums = eth(await world.admin.get("/v1/totals"))
    assert (sums["confirmed"], sums["detected"]) == ("6.000000000000000007", "0.000000000000000000")
    nothing = eth(await world.bob.get("/v1/totals"))
    assert {nothing["confirmed"], nothing["detected"], nothing["held"]} == {"0.000000000000000000"}
