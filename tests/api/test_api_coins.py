"""Coins over HTTP: made from a contract alone, read, changed, switched off and on."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from indexer.chains import Token
from indexer.model import Unavailable
from tests.api.world import (
    CODEC,
    CONFIRMATIONS,
    HEIGHT,
    IDLE,
    REORG_WINDOW,
    USDT,
    World,
    address,
)

TETHER: Final = Token("Tether USD", "USDT", 6)
JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def contracts(world: World) -> None:
    for network in ("ethereum", "bsc", "polygon"):
        world.tokens[network, CODEC.parse_asset(USDT)] = TETHER
    world.tokens["ethereum", CODEC.parse_asset(address(77))] = Token("Fake", "USDT", 18)
    world.tokens["ethereum", CODEC.parse_asset(address(78))] = Token("Odd", "₮₮", 0)


async def create(world: World, network: str = "ethereum", **more: Any) -> Any:
    body = {"network": network, "contractAddress": USDT, **more}
    return await world.admin.post("/v1/coins", body)


async def coin(world: World, coin_id: str) -> Any:
    answer = await world.alice.get(f"/v1/coins/{coin_id}")
    assert answer.status == 200, answer
    return answer.body


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
        "settings": {
            "minDepositAmount": "0.000000",
            "confirmations": None,
            "confirmationTiers": [],
            "maxAutoAmount": None,
        },
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
    again = await create(world, coin="other")
    assert (again.status, again.body["code"]) == (409, "CONFLICT")
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


SETTINGS: Final[dict[str, Any]] = {
    "minDepositAmount": "1.5",
    "confirmations": 20,
    "confirmationTiers": [
        {"upTo": "100", "confirmations": 2},
        {"upTo": "1000.000001", "confirmations": 6},
    ],
    "maxAutoAmount": "50000",
}
SHOWN: Final[dict[str, Any]] = {
    "minDepositAmount": "1.500000",
    "confirmations": 20,
    "confirmationTiers": [
        {"upTo": "100.000000", "confirmations": 2},
        {"upTo": "1000.000001", "confirmations": 6},
    ],
    "maxAutoAmount": "50000.000000",
}


@pytest.mark.parametrize("nested", [False, True])
async def test_settings_stand_at_top_level_or_under_settings(world: World, nested: bool) -> None:
    given = {"settings": SETTINGS} if nested else SETTINGS
    assert (await create(world, **given)).status == 201
    assert (await coin(world, "usdt_erc20"))["settings"] == SHOWN
    await create(world, "bsc")
    answer = await world.admin.put("/v1/coins", {"coin": "usdt_bep20", **given})
    assert answer.status == 200
    assert set(answer.body) == {"message"}
    assert (await coin(world, "usdt_bep20"))["settings"] == SHOWN


async def test_absent_settings_stay_and_null_takes_one_back(world: World) -> None:
    await create(world, **SETTINGS)
    await world.admin.put("/v1/coins", {"coin": "usdt_erc20", "maxAutoAmount": None})
    assert (await coin(world, "usdt_erc20"))["settings"] == {**SHOWN, "maxAutoAmount": None}
    nothing = dict.fromkeys(SETTINGS)
    await world.admin.put("/v1/coins", {"coin": "usdt_erc20", "settings": nothing})
    assert (await coin(world, "usdt_erc20"))["settings"] == {
        "minDepositAmount": "0.000000",
        "confirmations": None,
        "confirmationTiers": [],
        "maxAutoAmount": None,
    }


AMOUNTS: Final[tuple[tuple[str, str | None], ...]] = (
    ("0.1", "0.100000"),
    ("5", "5.000000"),
    ("1e2", "100.000000"),
    ("12345678901234567890.000001", "12345678901234567890.000001"),
    ("9007199254740993", "9007199254740993.000000"),
    ("0.30000000000000004", None),  # what 0.1 + 0.2 makes of itself in floats
    ("1e-7", None),
    ("-1", None),
    ("-0", None),
    ("1e400", None),
    ("1e72", None),  # more than 2^256 base units
    ("NaN", None),
    ("Infinity", None),
    ("true", None),
    ('"1,5"', None),
    ('"0x10"', None),
    ('" 1"', None),
    ('""', None),
    ('"١"', None),
    ('"1.0000001"', None),
)


@pytest.mark.pitfall("P41", "P42")
async def test_an_amount_is_read_exactly_or_refused(
    world: World, subtests: pytest.Subtests
) -> None:
    await create(world)
    kept = "0.000000"
    for number, shown in AMOUNTS:
        with subtests.test(number):
            raw = b'{"coin": "usdt_erc20", "minDepositAmount": %s}' % number.encode()
            answer = await world.admin.ask("PUT", "/v1/coins", data=raw, headers=JSON)
            assert answer.status == (400 if shown is None else 200), answer
            assert shown is not None or answer.error
            kept = kept if shown is None else shown
            settings = (await coin(world, "usdt_erc20"))["settings"]
            assert settings["minDepositAmount"] == kept


@pytest.mark.pitfall("P42")
async def test_the_largest_amount_there_is(world: World) -> None:
    await create(world, contractAddress=address(78), coin="odd")
    most = str(2**256 - 1)
    await world.admin.put("/v1/coins", {"coin": "odd", "maxAutoAmount": most})
    assert (await coin(world, "odd"))["settings"]["maxAutoAmount"] == most
    beyond = await world.admin.put("/v1/coins", {"coin": "odd", "maxAutoAmount": str(2**256)})
    assert (beyond.status, "2^256" in beyond.error) == (400, True)


BAD_SETTINGS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"confirmations": REORG_WINDOW + 1}, "reorg_window"),
    ({"confirmations": 0}, "confirmations"),
    ({"confirmations": "12"}, "confirmations"),
    ({"confirmations": 2**70}, "confirmations"),
    ({"confirmations": 1, "settings": {"confirmations": 1}}, "given twice"),
    ({"confirmationTiers": [{"upTo": "1", "confirmations": 65}]}, "reorg_window"),
    ({"confirmationTiers": [{"upTo": "1", "confirmations": 0}]}, "confirmationTiers[0]"),
    ({"confirmationTiers": [{"upTo": "1"}]}, "confirmationTiers[0].confirmations: is missing"),
    (
        {
            "confirmationTiers": [
                {"upTo": "2", "confirmations": 1},
                {"upTo": "2.0", "confirmations": 2},
            ]
        },
        "confirmationTiers[1].upTo: must be more",
    ),
    (
        {
            "confirmationTiers": [
                {"upTo": "2", "confirmations": 1},
                {"upTo": "1", "confirmations": 2},
            ]
        },
        "confirmationTiers[1].upTo: must be more",
    ),
    ({"confirmationTiers": [{"upTo": "1", "confirmations": 1}] * 33}, "confirmationTiers"),
    ({"maxAutoAmount": "1.1234567"}, "7 fraction digits"),
    ({"status": "ACTIVE", "minDepositAmount": "x"}, "minDepositAmount"),
    ({"status": "active"}, "status"),
    ({"decimals": 8}, "decimals: there is no such field"),
    ({"network": "bsc"}, "network: there is no such field"),
)


async def test_bad_settings_are_refused_and_nothing_of_them_is_kept(
    world: World, subtests: pytest.Subtests
) -> None:
    await create(world, **SETTINGS)
    for bad, said in BAD_SETTINGS:
        with subtests.test(str(bad)):
            body = {"coin": "usdt_erc20", "minDepositAmount": "7", **bad}
            answer = await world.admin.put("/v1/coins", body)
            assert answer.status == 400, answer
            assert said in answer.error
            kept = await coin(world, "usdt_erc20")
            assert (kept["settings"], kept["status"]) == (SHOWN, "ACTIVE")


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


async def test_a_coin_switched_off_holds_deposits_and_lets_them_go_when_on(world: World) -> None:
    await create(world)
    await world.alice.register("ethereum", address(1))
    await world.activate("ethereum")
    token = CODEC.parse_asset(USDT)
    off = await world.admin.put("/v1/coins", {"coin": "usdt_erc20", "status": "INACTIVE"})
    assert off.status == 200
    assert (await coin(world, "usdt_erc20"))["status"] == "INACTIVE"
    await world.pay(1, address(1), 5_000_000, asset=token)
    await world.advance("ethereum", HEIGHT + CONFIRMATIONS)
    held = (await world.alice.get("/v1/deposits")).body["items"][0]
    assert (held["status"], held["reason"]) == ("held", "coin_inactive")
    await world.admin.put("/v1/coins", {"coin": "usdt_erc20", "status": "ACTIVE"})
    gone = (await world.alice.get(f"/v1/deposits/{held['id']}")).body
    assert (gone["status"], gone["reason"], gone["amount"]) == ("confirmed", None, "5.000000")
    assert [event["type"] for event in gone["events"]] == [
        "deposit.held",
        "deposit.detected",
        "deposit.confirmed",
    ]


async def test_new_confirmations_act_on_what_is_still_detected(world: World) -> None:
    await world.alice.register("ethereum", address(1))
    await world.activate("ethereum")
    await world.pay(1, address(1), 10**18)
    await world.advance("ethereum", HEIGHT + 2)
    await world.admin.put("/v1/coins", {"coin": "eth", "confirmations": 30})
    item = (await world.alice.get("/v1/deposits")).body["items"][0]
    assert (item["status"], item["requiredConfirmations"]) == ("detected", 30)
    await world.admin.put("/v1/coins", {"coin": "eth", "confirmations": 2})
    item = (await world.alice.get("/v1/deposits")).body["items"][0]
    assert (item["status"], item["requiredConfirmations"]) == ("confirmed", 2)
