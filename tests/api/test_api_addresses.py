"""Watched addresses over HTTP: registering, reading, removing."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final

import pytest

from tests.api.world import CODEC, HEIGHT, IDLE, World, address

REGISTER_SECONDS: Final = 10.0  # for 10,000 addresses, on a slow and shared machine
FIELDS: Final = {
    "network",
    "address",
    "reference",
    "role",
    "state",
    "coveredFrom",
    "activeFrom",
    "scannedTo",
    "createdAt",
}


async def rows(world: World) -> int:
    count: int = await world.pool.fetchval("select count(*) from watched_address")
    return count


async def test_a_registration_says_from_where_it_covers(world: World) -> None:
    answer = await world.alice.register("ethereum", address(1), {"address": address(2)})
    assert answer.body == {"created": 2, "existing": 0, "coveredFrom": HEIGHT + 1}
    again = await world.alice.register("ethereum", address(2), address(3))
    assert again.body == {"created": 1, "existing": 1, "coveredFrom": HEIGHT + 1}


@pytest.mark.pitfall("P111")
async def test_from_block_lowers_the_coverage_and_never_raises_it(world: World) -> None:
    low = {"address": address(1), "fromBlock": 10}
    assert (await world.alice.register("ethereum", low)).body["coveredFrom"] == 10
    high = {"address": address(2), "fromBlock": HEIGHT + 500}
    assert (await world.alice.register("ethereum", high)).body["coveredFrom"] == HEIGHT + 1


async def test_an_address_as_it_is_shown(world: World) -> None:
    await world.alice.register(
        "ethereum", {"address": address(1).lower(), "reference": "user-42", "fromBlock": 900}
    )
    shown = (await world.alice.get(f"/v1/addresses/ethereum/{address(1)}")).body
    assert set(shown) == FIELDS
    assert shown["createdAt"].endswith("Z")
    del shown["createdAt"]
    assert shown == {
        "network": "ethereum",
        "address": address(1),
        "reference": "user-42",
        "role": "deposit",
        "state": "pending",
        "coveredFrom": 900,
        "activeFrom": None,
        "scannedTo": None,
    }


@pytest.mark.pitfall("P111", "P121")
async def test_scanned_to_follows_the_scan_up_to_the_activation(world: World) -> None:
    await world.alice.register(
        "ethereum", {"address": address(1), "fromBlock": 900}, {"address": address(2)}
    )
    await world.advance("ethereum", HEIGHT + 5)
    await world.activate("ethereum")

    async def shown(number: int) -> tuple[str, int, int]:
        body = (await world.alice.get(f"/v1/addresses/ethereum/{address(number)}")).body
        return body["state"], body["activeFrom"], body["scannedTo"]

    async def scanned(following: int) -> None:
        await world.pool.execute(
            "update scan set unread = unread - int8multirange(int8range(null, $1)),"
            " state = (case when $1 > last then 'done' else 'open' end)::scan_state",
            following,
        )

    active = HEIGHT + 6
    assert await shown(1) == ("active", active, 899)
    assert await shown(2) == ("active", active, HEIGHT)
    await scanned(950)
    assert await shown(1) == ("active", active, 949)
    assert await shown(2) == ("active", active, HEIGHT)
    await scanned(HEIGHT + 3)
    assert await shown(1) == ("active", active, HEIGHT + 2)
    assert await shown(2) == ("active", active, HEIGHT + 2)
    await scanned(HEIGHT + 6)
    assert await shown(1) == await shown(2) == ("active", active, HEIGHT + 5)


async def test_registering_again_replaces_what_is_given_and_keeps_the_rest(world: World) -> None:
    await world.alice.register("ethereum", {"address": address(1), "reference": "one"})
    await world.alice.register("ethereum", {"address": address(1), "role": "own"})
    shown = (await world.alice.get(f"/v1/addresses/ethereum/{address(1)}")).body
    assert (shown["reference"], shown["role"]) == ("one", "own")
    await world.alice.register("ethereum", {"address": address(1), "reference": "two"})
    shown = (await world.alice.get(f"/v1/addresses/ethereum/{address(1)}")).body
    assert (shown["reference"], shown["role"]) == ("two", "own")
    assert await rows(world) == 1


async def test_silent_registrations_are_noted(world: World) -> None:
    await world.alice.register("ethereum", {"address": address(1), "fromBlock": 5}, callbacks=False)
    await world.alice.register("ethereum", {"address": address(2), "fromBlock": 5})
    silent = await world.pool.fetch(
        "select isempty(silent) as none, lower(silent) as low from watched_address order by address"
    )
    assert [tuple(row) for row in silent] == [(False, 5), (True, None)]


@pytest.mark.pitfall("P43")
async def test_one_bad_address_refuses_all_and_each_bad_one_is_named(world: World) -> None:
    checksum_broken = CODEC.format_address(b"\xab\xcd" * 10).swapcase().replace("0X", "0x")
    given: list[Any] = [
        address(1),
        "0x12",
        {"address": checksum_broken, "reference": "r"},
        "",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        address(2),
    ]
    answer = await world.alice.post("/v1/addresses", {"network": "ethereum", "addresses": given})
    assert answer.status == 400
    assert answer.error
    named = {detail["field"]: detail["value"] for detail in answer.body["details"]}
    assert named == {
        "addresses[1]": "0x12",
        "addresses[2]": checksum_broken,
        "addresses[3]": "",
        "addresses[4]": given[4],
    }
    assert "checksum" in answer.body["details"][1]["error"]
    assert await rows(world) == 0


@pytest.mark.pitfall("P43")
async def test_every_spelling_of_an_address_is_the_same_address(world: World) -> None:
    mixed = CODEC.format_address(bytes.fromhex("dac17f958d2ee523a2206206994597c13d831ec7"))
    for spelling in (mixed, mixed.lower(), "0x" + mixed[2:].upper(), "0X" + mixed[2:].lower()):
        await world.alice.register("ethereum", spelling)
        shown = await world.alice.get(f"/v1/addresses/ethereum/{spelling}")
        assert shown.body["address"] == mixed
    assert await rows(world) == 1


BAD_REGISTRATIONS: Final[tuple[tuple[Any, int, str], ...]] = (
    ({"network": "nowhere", "addresses": [address(1)]}, 400, "ethereum"),
    ({"network": IDLE, "addresses": [address(1)]}, 503, "idle"),
    ({"network": "ethereum", "addresses": []}, 400, "addresses"),
    ({"network": "ethereum", "addresses": [address(1)] * 10_001}, 400, "10000"),
    ({"network": "ethereum", "addresses": [5]}, 400, "addresses[0]: must be an object"),
    ({"network": "ethereum", "addresses": [{}]}, 400, "addresses[0].address: is missing"),
    (
        {"network": "ethereum", "addresses": [{"address": address(1), "fromBlock": -1}]},
        400,
        "addresses[0].fromBlock",
    ),
    (
        {"network": "ethereum", "addresses": [{"address": address(1), "fromBlock": 1.0}]},
        400,
        "addresses[0].fromBlock",
    ),
    (
        {"network": "ethereum", "addresses": [{"address": address(1), "fromBlock": 2**80}]},
        400,
        "addresses[0].fromBlock",
    ),
    (
        {"network": "ethereum", "addresses": [{"address": address(1), "role": "hot"}]},
        400,
        "addresses[0].role",
    ),
    (
        {"network": "ethereum", "addresses": [{"address": address(1), "reference": "r" * 257}]},
        400,
        "addresses[0].reference",
    ),
    ({"network": "ethereum", "addresses": [address(1)], "callbacks": 1}, 400, "callbacks"),
)


async def test_a_bad_registration_writes_nothing(world: World, subtests: pytest.Subtests) -> None:
    for body, status, said in BAD_REGISTRATIONS:
        with subtests.test(said):
            answer = await world.alice.post("/v1/addresses", body)
            assert answer.status == status, answer
            assert said in answer.error
    assert await rows(world) == 0


async def test_removal_hides_the_address_and_keeps_its_row(world: World) -> None:
    await world.alice.register("ethereum", address(1), address(2))
    path = f"/v1/addresses/ethereum/{address(1)}"
    assert (await world.alice.delete(path)).status == 204
    assert (await world.alice.get(path)).status == 404
    assert (await world.alice.delete(path)).status == 404
    listed = (await world.alice.get("/v1/addresses")).body["items"]
    assert [item["address"] for item in listed] == [address(2)]
    assert await rows(world) == 2
    back = await world.alice.register("ethereum", address(1))
    assert back.body["created"] == 1
    assert (await world.alice.get(path)).body["state"] == "pending"


async def test_what_is_not_watched_is_404(world: World) -> None:
    for path in (f"ethereum/{address(9)}", f"nowhere/{address(1)}", f"{IDLE}/{address(1)}"):
        assert (await world.alice.get(f"/v1/addresses/{path}")).status == 404
        assert (await world.alice.delete(f"/v1/addresses/{path}")).status == 404
    assert (await world.alice.get("/v1/addresses/ethereum/0x12")).status == 400


async def test_the_list_filters_by_network_and_reference(world: World) -> None:
    await world.alice.register(
        "ethereum", {"address": address(1), "reference": "u1"}, {"address": address(2)}
    )
    await world.alice.register("bsc", {"address": address(1), "reference": "u1"})

    async def found(**query: Any) -> list[tuple[str, str]]:
        items = (await world.alice.get("/v1/addresses", **query)).body["items"]
        return sorted((item["network"], item["address"]) for item in items)

    assert await found(reference="u1") == [("bsc", address(1)), ("ethereum", address(1))]
    assert await found(network="ethereum") == [("ethereum", address(1)), ("ethereum", address(2))]
    assert await found(network="bsc", reference="u1") == [("bsc", address(1))]
    assert await found(reference="u2") == []


async def test_pages_stay_true_while_addresses_arrive(world: World) -> None:
    first = [address(n) for n in range(1, 26)]
    await world.alice.register("ethereum", *first)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for step in range(100, 110):
        page = (await world.alice.get("/v1/addresses", limit=4, **cursor)).body
        seen += [item["address"] for item in page["items"]]
        await world.alice.register("ethereum", address(step))
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
    assert sorted(seen) == sorted(first)


async def test_ten_thousand_addresses_in_a_call(world: World) -> None:
    given = [{"address": address(n), "reference": f"user-{n}"} for n in range(1, 10_001)]
    start = monotonic()
    answer = await world.alice.register("ethereum", *given)
    again = await world.alice.register("ethereum", *given)
    assert monotonic() - start < 2 * REGISTER_SECONDS
    assert (answer.body["created"], answer.body["existing"]) == (10_000, 0)
    assert (again.body["created"], again.body["existing"]) == (0, 10_000)
    assert await rows(world) == 10_000


async def test_the_same_addresses_at_once_from_many_callers_are_one_row_each(world: World) -> None:
    given = [address(n) for n in range(1, 201)]
    answers = await asyncio.gather(
        *(
            caller.register("ethereum", *(given if n % 2 else reversed(given)))
            for n in range(4)
            for caller in (world.alice, world.bob)
        )
    )
    assert sum(answer.body["created"] for answer in answers) == 400
    assert await rows(world) == 400
