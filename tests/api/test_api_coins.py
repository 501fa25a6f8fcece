"""Coins over HTTP: made from a contract alone, read, changed, switched off and on."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from indexer.model import Unavailable
from tests.api.registered import NOTHING, TETHER, coin, create
from tests.api.world import (
    CODEC,
    HEIGHT,
    IDLE,
    USDT,
    World,
    address,
)

pytestmark = pytest.mark.usefixtures("contracts")


async def tokens(world: World) -> int:
    count: int = await world.pool.fetchval("select count(*) from coin where asset <> ''")
    return count


async def test_native_coins_exist_from_the_start(world: World) -> None:
    listed = (await world.bob.get("/v1/coins")).body
    assert [(c["coin"], c["type"], c["contractAddress"]) for c in listed] == [
        ("bnb", "NATIVE", None),
        ("eth", "NATIVE", None),
        ("pol", "NATIVE", None),
    ]


async def test_a_coin_from_a_contract_alone(world: World) -> None:
    made = await create(world)
    assert made.status == 201
    assert made.body == {
        "message": "coin created",
        "coin": "usdt_erc20",
        "coveredFrom": HEIGHT + 1,
    }
    assert await coin(world, "usdt_erc20") == {
        "coin": "usdt_erc20",
        "name": "Tether USD",
        "symbol": "USDT",
        "type": "TOKEN",
        "decimals": 6,
        "contractAddress": USDT,
        "status": "ACTIVE",
        "coveredFrom": HEIGHT + 1,
        "activeFrom": None,
        "settings": NOTHING,
        "network": {"network": "ethereum"},
    }
    await world.activate("ethereum")
    assert (await coin(world, "usdt_erc20"))["activeFrom"] == HEIGHT + 1


async def test_generated_ids_say_symbol_and_standard_or_network(world: World) -> None:
    assert (await create(world, "bsc")).body["coin"] == "usdt_bep20"
    assert (await create(world, "polygon")).body["coin"] == "usdt_polygon"
    assert (await create(world, "ethereum")).body["coin"] == "usdt_erc20"
    clash = await create(world, "ethereum", contractAddress=address(77))
    assert clash.body["coin"] == "usdt_ethereum"
    world.tokens["ethereum", CODEC.parse_asset(address(79))] = TETHER
    full = await create(world, "ethereum", contractAddress=address(79))
    assert full.status == 409
    assert "usdt_erc20 and usdt_ethereum" in full.error
    named = await create(world, "ethereum", contractAddress=address(79), coin="usdt_3")
    assert named.body["coin"] == "usdt_3"


async def test_a_symbol_without_letters_needs_an_id(world: World) -> None:
    answer = await create(world, contractAddress=address(78))
    assert answer.status == 400
    assert "name one as coin" in answer.error
    assert (await create(world, contractAddress=address(78), coin="odd")).status == 201


async def test_one_coin_per_contract_and_per_id(world: World) -> None:
    assert (await create(world)).status == 201
    for other in ({"coin": "other"}, {}):
        again = await create(world, **other)
        assert (again.status, again.body["code"]) == (409, "CONFLICT")
        assert again.error == "network ethereum has a coin of that contract: usdt_erc20"
    taken = await create(world, contractAddress=address(77), coin="eth")
    assert taken.status == 409
    assert await tokens(world) == 1


async def test_the_same_contract_at_once_is_one_coin(world: World) -> None:
    answers = await asyncio.gather(*(create(world) for _ in range(6)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 5
    assert await tokens(world) == 1


@pytest.mark.pitfall("P41")
async def test_decimals_are_the_contracts_and_never_overruled(world: World) -> None:
    answer = await create(world, decimals=18)
    assert answer.status == 400
    assert "the contract says 6" in answer.error
    assert await tokens(world) == 0
    assert (await create(world, decimals=6, name="Mine", symbol="XX")).status == 201
    made = await coin(world, "xx_erc20")
    assert (made["name"], made["decimals"]) == ("Mine", 6)


async def test_a_contract_that_says_nothing_needs_all_of_it_said(world: World) -> None:
    silent = {"contractAddress": address(50)}
    assert (await create(world, **silent)).status == 400
    assert (await create(world, **silent, name="Old", symbol="OLD")).status == 400
    assert await tokens(world) == 0
    full = await create(world, **silent, name="Old", symbol="OLD", decimals=3)
    assert (full.status, full.body["coin"]) == (201, "old_erc20")


async def test_a_coin_may_cover_earlier_blocks(world: World) -> None:
    assert (await create(world, fromBlock=5)).body["coveredFrom"] == 5


async def test_a_node_that_does_not_answer_is_503_and_writes_nothing(world: World) -> None:
    world.node_fails = Unavailable("http://node:8545 does not answer")
    for answer in (
        await create(world),
        await world.admin.put(
            "/v1/coins/precreate-token", {"network": "ethereum", "contractAddress": USDT}
        ),
    ):
        assert (answer.status, answer.error) == (503, "http://node:8545 does not answer")
    assert await tokens(world) == 0


async def test_precreate_reads_the_contract_and_writes_nothing(world: World) -> None:
    body = {"network": "ethereum", "contractAddress": USDT}
    answer = await world.admin.put("/v1/coins/precreate-token", body)
    assert answer.status == 201
    assert answer.body == {
        "coin": "usdt_erc20",
        "symbol": "USDT",
        "name": "Tether USD",
        "decimals": 6,
    }
    assert await tokens(world) == 0
    none = {"network": "ethereum", "contractAddress": address(50)}
    refused = await world.admin.put("/v1/coins/precreate-token", none)
    assert refused.status == 400
    assert "no token" in refused.error
    await create(world)
    other = {"network": "ethereum", "contractAddress": address(77)}
    assert (await world.admin.put("/v1/coins/precreate-token", other)).body["coin"] == (
        "usdt_ethereum"
    )


BAD_COINS: Final[tuple[tuple[dict[str, Any], int, str], ...]] = (
    ({"network": "nowhere"}, 400, "nowhere"),
    ({"network": IDLE, "name": "A", "symbol": "A", "decimals": 1}, 503, "idle"),
    ({"contractAddress": "0x12"}, 400, "contractAddress"),
    ({"contractAddress": "native"}, 400, "contractAddress"),
    ({"contractAddress": USDT.swapcase().replace("0X", "0x")}, 400, "checksum"),
    ({"contractAddress": address(51)}, 400, "no token"),
    ({"coin": "Upper"}, 400, "coin"),
    ({"coin": "a" * 65}, 400, "coin"),
    ({"coin": ""}, 400, "coin"),
    ({"decimals": 78}, 400, "decimals"),
    ({"decimals": -1}, 400, "decimals"),
    ({"fromBlock": -1}, 400, "fromBlock"),
    ({"symbol": ""}, 400, "symbol"),
    ({"name": "a\u202eb"}, 400, "U+202E"),
    ({"status": "INACTIVE"}, 400, "status"),
    ({"settings": {"status": "INACTIVE"}}, 400, "settings.status"),
    ({"settings": []}, 400, "settings: must be an object"),
)


async def test_a_bad_coin_is_refused_and_writes_nothing(
    world: World, subtests: pytest.Subtests
) -> None:
    for body, status, said in BAD_COINS:
        with subtests.test(str(body)):
            answer = await create(world, **body)
            assert answer.status == status, answer
            assert said in answer.error
    assert await tokens(world) == 0


async def test_an_unknown_coin_is_404(world: World) -> None:
    assert (await world.alice.get("/v1/coins/nothing")).status == 404
    assert (await world.admin.put("/v1/coins", {"coin": "nothing"})).status == 404
