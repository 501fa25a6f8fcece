"""The nouns and their rules: coins, deposits, states, events, amounts, failures. No I/O.

A deposit changes only through its methods here; `ledger` loads rows before and stores rows and
events after, in one transaction. Source of every rule: the contract's "Deposits".
"""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from indexer.chains import Codec

MAX_UNITS: Final = 2**256 - 1  # an EVM word; numeric(78,0) holds it exactly
MAX_DECIMALS: Final = 77
ID_CHARS: Final = 26  # base32 characters of an id: 130 bits


Decision = Literal["release", "reject"]  # of a person on a deposit that no rule decides


class Unavailable(Exception):
    """The other side may answer later: retry with backoff. The message is for the operator."""


class Refused(Exception):
    """Bad input, or a rule says no: say so in one sentence, record it, go on."""


class Impossible(Exception):
    """A bug or a corrupt state: stop that part loudly."""


class State(StrEnum):
    """States of a deposit; schema.sql's `deposit_state` says who moves it from where."""

    DETECTED = "detected"
    CONFIRMED = "confirmed"
    FINALIZED = "finalized"
    IGNORED = "ignored"
    HELD = "held"
    ORPHANED = "orphaned"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a deposit is `ignored` or `held`."""

    BELOW_MINIMUM = "below_minimum"
    INTERNAL = "internal"
    COIN_INACTIVE = "coin_inactive"
    UNKNOWN_SHAPE = "unknown_shape"
    BALANCE_MISMATCH = "balance_mismatch"
    BALANCE_UNKNOWN = "balance_unknown"
    ABOVE_CAP = "above_cap"
    MIXED_INPUTS = "mixed_inputs"


# The slots in which a deposit counts its events by type; stored as an array, so append only.
COUNTED: Final = (
    State.DETECTED,
    State.CONFIRMED,
    State.FINALIZED,
    State.ORPHANED,
    State.HELD,
    State.REJECTED,
)


@dataclass(frozen=True, slots=True)
class Tier:
    """Confirmations asked of amounts up to `up_to` base units."""

    up_to: int
    confirmations: int


@dataclass(frozen=True, slots=True)
class Coin:
    """What is deposited: a network's native coin or one token contract on it."""

    id: str
    network: str
    asset: bytes  # chains.NATIVE, or the contract or token id
    name: str
    symbol: str
    decimals: int
    active: bool
    covered_from: int
    minimum: int = 0  # base units
    confirmations: int | None = None  # None: the network's own
    tiers: tuple[Tier, ...] = ()  # rising `up_to`
    cap: int | None = None  # base units; above it a deposit waits for a person
    balance_check: bool = False  # what came must show in the address's balance

    def required(self, units: int, default: int | None) -> int | None:
        """Confirmations that `units` need; None means "when the network calls it final".

        `default` is the network's own setting in the same form.
        """
        for tier in self.tiers:
            if units <= tier.up_to:
                return max(1, tier.confirmations)
        own = default if self.confirmations is None else self.confirmations
        if own is None:
            return None
        return max(1, own, self.tiers[-1].confirmations if self.tiers else 1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a deposit stands in the followed chain."""

    height: int
    hash: bytes
    time: datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """The commit that events belong to: the cursor after it, what is final by then, the clock."""

    height: int
    finalized: int  # nothing at or below it can be undone; below every height where unknown
    now: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a deposit's life, with the deposit as it stood right after it."""

    deposit: Deposit
    id: str
    state: State
    confirmations: int
    timestamp: datetime

    @property
    def type(self) -> str:
        return f"deposit.{self.state}"


@dataclass(slots=True)
class Deposit:
    """A transfer to a watched address. The first six fields are its identity."""

    account: str
    network: str
    tx: bytes
    address: bytes
    asset: bytes
    ordinal: int
    id: str
    coin: str
    units: int
    sender: bytes | None
    place: Place
    reference: str | None
    required: int | None  # confirmations; None: when the network calls it final
    first_state: State
    first_reason: Reason | None
    maturity: int = 0  # confirmations that the network itself asks for before it can be spent
    silent: bool = False  # found by a backfill that was asked to make no callbacks
    state: State | None = None  # None until `find`
    reason: Reason | None = None
    previous: State | None = None  # the state before the last move
    sequence: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTED))
    unplaced: bool = False  # above a rewound cursor and not found again yet
    created_at: datetime | None = None
    events: list[Event] = field(default_factory=list)  # made since it was loaded
    changed: bool = False  # the ledger stores what changed
    stored: State | None = None  # as the ledger has it

    def find(self, moment: Moment) -> None:
        """Enter the first state: seen for the first time, or anew with another amount."""
        self._move(self.first_state, self.first_reason, moment)
        self.settle(moment)

    def settle(self, moment: Moment) -> None:
        """Take the steps that depth and finality allow by now."""
        if self.unplaced:
            return
        if self.state is State.DETECTED and self._deep(moment):
            self._move(State.CONFIRMED, None, moment)
        if self.state is State.CONFIRMED and self.place.height <= moment.finalized:
            self._move(State.FINALIZED, None, moment)

    def orphan(self, moment: Moment) -> None:
        """Its block left the chain and the chain that replaced it does not have it."""
        if self.state is State.ORPHANED:
            raise Impossible(f"deposit {self.id} is orphaned already")
        self.unplaced = False
        self._move(State.ORPHANED, None, moment)

    def place_again(self, place: Place) -> None:
        """Mined again while it stands, amount and sender the same: only its block changes."""
        if place != self.place or self.unplaced:
            self.place, self.unplaced, self.changed = place, False, True

    def revive(self, place: Place, moment: Moment) -> None:
        """Mined again after it was orphaned: back to where it first stood."""
        self.place = place
        if self.previous is State.REJECTED:
            self._move(State.REJECTED, None, moment)
        else:
            self.find(moment)

    def require(self, confirmations: int | None) -> None:
        """Its coin or network asks for another depth by now."""
        needed = at_least(confirmations, self.maturity)
        if needed != self.required:
            self.required, self.changed = needed, True

    def release(self, moment: Moment) -> None:
        """An admin, or its coin turning active, lets a held or ignored deposit go on."""
        if self.state not in (State.HELD, State.IGNORED):
            raise Refused(
                f"deposit {self.id} is {self.state}; only held or ignored ones can be released"
            )
        self._move(State.DETECTED, None, moment)
        self.settle(moment)

    def reject(self, moment: Moment) -> None:
        """An admin refuses a held deposit, for good."""
        if self.state is not State.HELD:
            raise Refused(f"deposit {self.id} is {self.state}; only held ones can be rejected")
        self._move(State.REJECTED, None, moment)

    def confirmations(self, moment: Moment) -> int:
        return 0 if self.state is State.ORPHANED else max(0, moment.height - self.place.height + 1)

    def _deep(self, moment: Moment) -> bool:
        if self.required is None:
            mature = self.confirmations(moment) >= self.maturity
            return mature and self.place.height <= moment.finalized
        return self.confirmations(moment) >= self.required

    def _move(self, state: State, reason: Reason | None, moment: Moment) -> None:
        quiet = state is State.IGNORED or (state is State.ORPHANED and self.state is State.IGNORED)
        self.previous, self.state, self.reason, self.changed = self.state, state, reason, True
        if quiet:
            return
        self.sequence += 1
        slot = COUNTED.index(state)
        event_id = make_id("evt_", self.id, f"deposit.{state}", str(self.counts[slot]))
        self.counts[slot] += 1
        as_it_stood = copy.copy(self)
        as_it_stood.counts, as_it_stood.events = list(self.counts), []
        self.events.append(
            Event(as_it_stood, event_id, state, self.confirmations(moment), moment.now)
        )


def make_id(prefix: str, *parts: str) -> str:
    """`prefix` + 26 base32 characters of SHA-256 over the parts, a line each."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return prefix + base64.b32encode(digest).decode().lower()[:ID_CHARS]


def at_least(confirmations: int | None, maturity: int) -> int | None:
    """Confirmations to ask for where the network itself asks for some; None stays what it is."""
    return None if confirmations is None else max(confirmations, maturity)


def classify(
    coin: Coin, units: int, *, odd: bool, own: bool, foreign: bool, agrees: bool | None = True
) -> tuple[State, Reason | None]:
    """The state in which a transfer to a watched address first stands, by today's rules.

    `own`, `foreign`: whether the account's own wallets are among who paid, and whether others are
    known to be. Who can't be known is neither. `agrees`: whether the address's balance shows it,
    None where nobody can say. An inactive coin comes last: its deposits go on without a person.
    """
    if odd:
        return State.HELD, Reason.UNKNOWN_SHAPE
    if own:
        return (State.HELD, Reason.MIXED_INPUTS) if foreign else (State.IGNORED, Reason.INTERNAL)
    if units < coin.minimum:
        return State.IGNORED, Reason.BELOW_MINIMUM
    if not agrees:
        return State.HELD, Reason.BALANCE_UNKNOWN if agrees is None else Reason.BALANCE_MISMATCH
    if coin.cap is not None and units > coin.cap:
        return State.HELD, Reason.ABOVE_CAP
    if not coin.active:
        return State.HELD, Reason.COIN_INACTIVE
    return State.DETECTED, None


_AMOUNT = re.compile(r"(\d{1,78})(?:\.(\d{1,77}))?", re.ASCII)


def parse_amount(text: str, decimals: int) -> int:
    """Base units of a decimal text; Refused unless exact and at most 2^256 - 1."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise Refused(f"{text[:90]!r} is not an amount: write it like 1.5")
    whole, fraction = match[1], match[2] or ""
    if len(fraction) > decimals:
        raise Refused(f"{text} has {len(fraction)} fraction digits; the coin has {decimals}")
    units = int(whole + fraction.ljust(decimals, "0"))
    if units > MAX_UNITS:
        raise Refused(f"{text} is more than 2^256 - 1 base units")
    return units


def format_amount(units: int, decimals: int) -> str:
    """Decimal text with exactly `decimals` fraction digits, no dot for 0."""
    if type(units) is not int or units < 0:
        raise Impossible(f"an amount must be a whole number of base units, not {units!r}")
    if decimals == 0:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}"


def format_time(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffffZ`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def view(deposit: Deposit, coin: Coin, codec: Codec, confirmations: int) -> dict[str, Any]:
    """A deposit as callbacks and API show it: the fields of a callback's `data`, in its order."""
    return {
        "id": deposit.id,
        "sequence": deposit.sequence,
        "account": deposit.account,
        "network": deposit.network,
        "coin": coin.id,
        "symbol": coin.symbol,
        "contractAddress": codec.format_asset(coin.asset) if coin.asset else None,
        "decimals": coin.decimals,
        "transactionHash": codec.format_hash(deposit.tx),
        "ordinal": deposit.ordinal,
        "fromAddress": None if deposit.sender is None else codec.format_address(deposit.sender),
        "toAddress": codec.format_address(deposit.address),
        "reference": deposit.reference,
        "memo": None,
        "amount": format_amount(deposit.units, coin.decimals),
        "amountUnits": str(deposit.units),
        "blockHeight": deposit.place.height,
        "blockHash": codec.format_hash(deposit.place.hash),
        "blockTime": format_time(deposit.place.time),
        "confirmations": confirmations,
        "requiredConfirmations": deposit.required,
        "status": deposit.state,
        "previousStatus": deposit.previous,
        "reason": deposit.reason,
    }
