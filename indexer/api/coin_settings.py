"""A coin's settings as callers write them and as the engine stores them.

They stand at the top level of a body or under `settings`; absent ones stay as they are, null takes
one back. Amounts are decimal texts in the coin's decimals (P41); a JSON number counts as its text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.inputs import AmountText, Body, bad_field, refusal
from indexer.api.shapes import Amount
from indexer.model import Coin, Refused, Tier, format_amount, parse_amount

MAX_TIERS: Final = 32
USD_DECIMALS: Final = 2
PERCENT_DECIMALS: Final = 4
MAX_CONFIRMATIONS: Final = 2**31 - 1  # the database's integer; `reorg_window` is far below


Usd: TypeAlias = AmountText | None


def _usd(alias: str) -> Any:
    return Field(default=None, alias=alias)


class TierView(TypedDict):
    upTo: Amount
    confirmations: int


class Settings(TypedDict):
    """Null: nothing set, or the network's rule."""

    minDepositAmount: Amount
    confirmations: int | None
    confirmationTiers: list[TierView]
    maxAutoAmount: Amount | None
    balanceCheck: bool
    collectThreshold: Amount | None
    collectServiceToColdThreshold: Amount | None
    collectPercentageHot: Amount | None
    approveThreshold: Amount | None
    minValue: Amount | None
    maxValue: Amount | None
    maxValueDaily: Amount | None
    useUsdLimits: bool | None
    collectThresholdUSD: Amount | None
    collectServiceToColdThresholdUSD: Amount | None
    approveThresholdUSD: Amount | None
    minValueUSD: Amount | None
    maxValueUSD: Amount | None
    maxValueDailyUSD: Amount | None


class TierBody(Body):
    up_to: AmountText
    confirmations: int = Field(ge=1, le=MAX_CONFIRMATIONS)


class KeptSettings(Body):
    """What back offices keep with a coin: stored, validated, returned, and never acted on."""

    collect_threshold: AmountText | None = None
    collect_service_to_cold_threshold: AmountText | None = None
    collect_percentage_hot: AmountText | None = None
    approve_threshold: AmountText | None = None
    min_value: AmountText | None = None
    max_value: AmountText | None = None
    max_value_daily: AmountText | None = None
    use_usd_limits: bool | None = None
    collect_threshold_usd: Usd = _usd("collectThresholdUSD")
    collect_service_to_cold_threshold_usd: Usd = _usd("collectServiceToColdThresholdUSD")
    approve_threshold_usd: Usd = _usd("approveThresholdUSD")
    min_value_usd: Usd = _usd("minValueUSD")
    max_value_usd: Usd = _usd("maxValueUSD")
    max_value_daily_usd: Usd = _usd("maxValueDailyUSD")


class CoinSettings(KeptSettings):
    min_deposit_amount: AmountText | None = None
    confirmations: int | None = Field(default=None, ge=1, le=MAX_CONFIRMATIONS)
    confirmation_tiers: list[TierBody] | None = Field(default=None, max_length=MAX_TIERS)
    max_auto_amount: AmountText | None = None
    balance_check: bool | None = None


class WithSettings(CoinSettings):
    """A body that has them in either place."""

    settings: CoinSettings | None = None

    def given(self) -> dict[str, Any]:
        """Each setting that stands in the body, by its name here; Problem if one does twice."""
        inner = self.settings or CoinSettings()
        outer = self.model_fields_set & CoinSettings.model_fields.keys()
        if twice := sorted(outer & inner.model_fields_set):
            name = str(CoinSettings.model_fields[twice[0]].alias)
            raise refusal([bad_field(name, "is given twice: at top level and under settings")])
        return {name: getattr(self, name) for name in outer} | {
            name: getattr(inner, name) for name in inner.model_fields_set
        }


def parse_settings(
    given: dict[str, Any], decimals: int, reorg_window: int, *, checkable: bool
) -> dict[str, Any]:
    """What `coins` takes of them, in base units; a Problem names each bad one.

    `checkable`: whether the coin's balances can be asked at a block.
    """
    reading = _Reading(decimals, reorg_window, checkable=checkable)
    readers: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
        "min_deposit_amount": ("minimum", 0, partial(reading.units, "minDepositAmount")),
        "max_auto_amount": ("cap", None, partial(reading.units, "maxAutoAmount")),
        "confirmations": ("confirmations", None, partial(reading.depth, "confirmations")),
        "confirmation_tiers": ("tiers", (), reading.tiers),
        "balance_check": ("balance_check", False, reading.balance_check),
    }
    changes: dict[str, Any] = {}
    kept: dict[str, str | bool | None] = {}
    for name, value in given.items():
        if name in KeptSettings.model_fields:
            field = str(KeptSettings.model_fields[name].alias)
            kept[field] = value if value is None else reading.kept(field, value)
        else:
            stored, none, read = readers[name]
            changes[stored] = none if value is None else read(value)
    if reading.bad:
        raise refusal(reading.bad)
    return changes | ({"kept": kept} if kept else {})


class _Reading:
    """Values of one body's settings, and what is wrong with them."""

    def __init__(self, decimals: int, reorg_window: int, *, checkable: bool) -> None:
        self.bad: list[dict[str, str]] = []
        self._decimals = decimals
        self._reorg_window = reorg_window
        self._checkable = checkable

    def units(self, field: str, text: str, decimals: int | None = None) -> int:
        try:
            return parse_amount(text, self._decimals if decimals is None else decimals)
        except Refused as error:
            self.bad.append(bad_field(field, str(error)))
            return 0

    def kept(self, field: str, value: str | bool) -> str | bool:
        """An amount in the coin's decimals, in dollars, or a percentage: as text of that form."""
        if isinstance(value, bool):
            return value
        decimals = self._decimals
        if field.endswith("USD"):
            decimals = USD_DECIMALS
        elif field == "collectPercentageHot":
            decimals = PERCENT_DECIMALS
        units = self.units(field, value, decimals)
        if field == "collectPercentageHot" and units > 100 * 10**decimals:
            self.bad.append(bad_field(field, "must be 100 at most"))
        return format_amount(units, decimals)

    def depth(self, field: str, number: int) -> int:
        if number > self._reorg_window:
            error = f"{number} is more than reorg_window ({self._reorg_window})"
            self.bad.append(bad_field(field, error))
        return number

    def balance_check(self, wanted: bool) -> bool:
        if wanted and not self._checkable:
            self.bad.append(bad_field("balanceCheck", "is for tokens of EVM networks only"))
        return wanted

    def tiers(self, given: Sequence[TierBody]) -> tuple[Tier, ...]:
        read: list[Tier] = []
        for index, tier in enumerate(given):
            place = f"confirmationTiers[{index}]"
            units = self.units(f"{place}.upTo", tier.up_to)
            if read and units <= read[-1].up_to and not self.bad:
                error = "must be more than that of the tier before it"
                self.bad.append(bad_field(f"{place}.upTo", error))
            read.append(Tier(units, self.depth(f"{place}.confirmations", tier.confirmations)))
        return tuple(read)


def settings_view(coin: Coin, kept: Mapping[str, Any]) -> Settings:
    """A coin's settings as the API shows them, with those that are only kept."""
    shown = {
        str(field.alias): kept.get(str(field.alias)) for field in KeptSettings.model_fields.values()
    }
    acting = {
        "minDepositAmount": format_amount(coin.minimum, coin.decimals),
        "confirmations": coin.confirmations,
        "confirmationTiers": [
            {"upTo": format_amount(t.up_to, coin.decimals), "confirmations": t.confirmations}
            for t in coin.tiers
        ],
        "maxAutoAmount": None if coin.cap is None else format_amount(coin.cap, coin.decimals),
        "balanceCheck": coin.balance_check,
    }
    return cast(Settings, acting | shown)
