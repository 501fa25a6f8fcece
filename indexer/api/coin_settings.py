"""A coin's settings as callers write them and as the engine stores them.

They stand at the top level of a body or under `settings`; absent ones stay as they are, null takes
one back. Amounts are decimal texts in the coin's decimals (P41); a JSON number counts as its text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.inputs import AmountText, Body, bad_field, refusal
from indexer.api.shapes import Amount
from indexer.model import Coin, Refused, Tier, format_amount, parse_amount

MAX_TIERS: Final = 32
MAX_CONFIRMATIONS: Final = 2**31 - 1  # the database's integer; `reorg_window` is far below


class TierView(TypedDict):
    upTo: Amount
    confirmations: int


class Settings(TypedDict):
    minDepositAmount: Amount
    confirmations: int | None
    confirmationTiers: list[TierView]
    maxAutoAmount: Amount | None


class TierBody(Body):
    up_to: AmountText
    confirmations: int = Field(ge=1, le=MAX_CONFIRMATIONS)


class CoinSettings(Body):
    min_deposit_amount: AmountText | None = None
    confirmations: int | None = Field(default=None, ge=1, le=MAX_CONFIRMATIONS)
    confirmation_tiers: list[TierBody] | None = Field(default=None, max_length=MAX_TIERS)
    max_auto_amount: AmountText | None = None


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


def parse_settings(given: dict[str, Any], decimals: int, reorg_window: int) -> dict[str, Any]:
    """What `coverage` takes: minimum, confirmations, tiers, cap; a Problem names each bad one."""
    reading = _Reading(decimals, reorg_window)
    readers: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
        "min_deposit_amount": ("minimum", 0, partial(reading.units, "minDepositAmount")),
        "max_auto_amount": ("cap", None, partial(reading.units, "maxAutoAmount")),
        "confirmations": ("confirmations", None, partial(reading.depth, "confirmations")),
        "confirmation_tiers": ("tiers", (), reading.tiers),
    }
    changes = {}
    for name, value in given.items():
        stored, none, read = readers[name]
        changes[stored] = none if value is None else read(value)
    if reading.bad:
        raise refusal(reading.bad)
    return changes


class _Reading:
    """Values of one body's settings, and what is wrong with them."""

    def __init__(self, decimals: int, reorg_window: int) -> None:
        self.bad: list[dict[str, str]] = []
        self._decimals = decimals
        self._reorg_window = reorg_window

    def units(self, field: str, text: str) -> int:
        try:
            return parse_amount(text, self._decimals)
        except Refused as error:
            self.bad.append(bad_field(field, str(error)))
            return 0

    def depth(self, field: str, number: int) -> int:
        if number > self._reorg_window:
            error = f"{number} is more than reorg_window ({self._reorg_window})"
            self.bad.append(bad_field(field, error))
        return number

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


def settings_view(coin: Coin) -> Settings:
    """A coin's settings as the API shows them; null: nothing set, the network's rule holds."""
    return {
        "minDepositAmount": format_amount(coin.minimum, coin.decimals),
        "confirmations": coin.confirmations,
        "confirmationTiers": [
            {"upTo": format_amount(t.up_to, coin.decimals), "confirmations": t.confirmations}
            for t in coin.tiers
        ],
        "maxAutoAmount": None if coin.cap is None else format_amount(coin.cap, coin.decimals),
    }
