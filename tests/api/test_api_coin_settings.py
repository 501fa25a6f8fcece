"""A coin's settings: read exactly or refused, and what those that act do."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.api.registered import JSON, KEPT, NOTHING, coin, create
from tests.api.world import CODEC, CONFIRMATIONS, HEIGHT, REORG_WINDOW, USDT, World, address

pytestmark = pytest.mark.usefixtures("contracts")


SETTINGS: Final[dict[str, Any]] = {
    "minDepositAmount": "1.5",
    "confirmations": 20,
    "confirmationTiers": [
        {"upTo": "100", "confirmations": 2},
        {"upTo": "1000.000001", "confirmations": 6},
    ],
    "maxAutoAmount": "50000",
    "balanceCheck": True,
}
SHOWN: Final[dict[str, Any]] = {
    "minDepositAmount": "1.500000",
    "confirmations": 20,
    "confirmationTiers": [
        {"upTo": "100.000000", "confirmations": 2},
        {"upTo": "1000.000001", "confirmations": 6},
    ],
    "maxAutoAmount": "50000.000000",
    "balanceCheck": True,
    **dict.fromkeys(KEPT),
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
    assert (await coin(world, "usdt_erc20"))["settings"] == NOTHING


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


async def test_balances_are_checked_of_tokens_only(world: World) -> None:
    answer = await world.admin.put("/v1/coins", {"coin": "eth", "balanceCheck": True})
    assert (answer.status, "EVM networks only" in answer.error) == (400, True)
    assert not (await coin(world, "eth"))["settings"]["balanceCheck"]
    shown = {"coin": "eth", "settings": {"balanceCheck": False}}  # as GET has it
    assert (await world.admin.put("/v1/coins", shown)).status == 200


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
    ({"balanceCheck": 1}, "balanceCheck"),
    ({"balanceCheck": "true"}, "balanceCheck"),
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


USED: Final[dict[str, Any]] = {
    "collectThreshold": "12.5",
    "collectServiceToColdThreshold": 7,
    "collectPercentageHot": "33.3",
    "approveThreshold": "0.000001",
    "minValue": "1",
    "maxValue": "1000000",
    "maxValueDaily": "5000000",
    "useUsdLimits": True,
    "collectThresholdUSD": "10",
    "collectServiceToColdThresholdUSD": "99.99",
    "approveThresholdUSD": 100.5,
    "minValueUSD": "0.01",
    "maxValueUSD": "1000",
    "maxValueDailyUSD": "5000",
}


async def test_what_back_offices_keep_with_a_coin_comes_back_as_it_is(world: World) -> None:
    await create(world, **USED)
    settings = (await coin(world, "usdt_erc20"))["settings"]
    assert {name: settings[name] for name in USED} == {
        "collectThreshold": "12.500000",
        "collectServiceToColdThreshold": "7.000000",
        "collectPercentageHot": "33.3000",
        "approveThreshold": "0.000001",
        "minValue": "1.000000",
        "maxValue": "1000000.000000",
        "maxValueDaily": "5000000.000000",
        "useUsdLimits": True,
        "collectThresholdUSD": "10.00",
        "collectServiceToColdThresholdUSD": "99.99",
        "approveThresholdUSD": "100.50",
        "minValueUSD": "0.01",
        "maxValueUSD": "1000.00",
        "maxValueDailyUSD": "5000.00",
    }
    change = {"coin": "usdt_erc20", "settings": {"useUsdLimits": False, "minValue": None}}
    await world.admin.put("/v1/coins", change)
    changed = (await coin(world, "usdt_erc20"))["settings"]
    assert changed == {**settings, "useUsdLimits": False, "minValue": None}


@pytest.mark.parametrize(
    "bad",
    [
        {"minValue": "0.0000001"},
        {"maxValueUSD": "1.001"},
        {"collectPercentageHot": "100.0001"},
        {"collectPercentageHot": "-1"},
        {"useUsdLimits": "yes"},
        {"useUsdLimits": 1},
        {"maxValueUsd": "1"},
        {"approveThreshold": "1e3"},
    ],
)
async def test_what_is_only_kept_is_validated_too(world: World, bad: dict[str, Any]) -> None:
    await create(world, **USED)
    before = await coin(world, "usdt_erc20")
    answer = await world.admin.put("/v1/coins", {"coin": "usdt_erc20", **bad})
    assert (answer.status, answer.body["details"][0]["field"]) == (400, next(iter(bad)))
    assert await coin(world, "usdt_erc20") == before
