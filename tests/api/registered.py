"""Tokens that the simulated nodes of a test know, and the calls that make coins of them."""

from __future__ import annotations

from typing import Any, Final

import pytest

from indexer.chains import Token
from tests.api.world import CODEC, USDT, World, address

TETHER: Final = Token("Tether USD", "USDT", 6)
JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture
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


KEPT: Final = (
    "collectThreshold",
    "collectServiceToColdThreshold",
    "collectPercentageHot",
    "approveThreshold",
    "minValue",
    "maxValue",
    "maxValueDaily",
    "useUsdLimits",
    "collectThresholdUSD",
    "collectServiceToColdThresholdUSD",
    "approveThresholdUSD",
    "minValueUSD",
    "maxValueUSD",
    "maxValueDailyUSD",
)
NOTHING: Final[dict[str, Any]] = {  # the settings of a coin of 6 decimals that has none
    "minDepositAmount": "0.000000",
    "confirmations": None,
    "confirmationTiers": [],
    "maxAutoAmount": None,
    "balanceCheck": False,
    **dict.fromkeys(KEPT),
}
