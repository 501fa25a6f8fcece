"""Which events each deposit must have by now, foretold from the chain's own script.

A second and much simpler reading of the contract's table of states, for an engine that saw every
step of the chain. Held against what the engine said and what the receivers got.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from indexer.devnet.truth import Due, Identity

Step: TypeAlias = tuple[str, int]  # an event's type without `deposit.`, and its base units
# Network, transaction, address, asset and ordinal, as events name them.
Name: TypeAlias = tuple[str, str, str, str, int]
History: TypeAlias = Mapping[Name, tuple[Step, ...]]


@dataclass(slots=True)
class _Life:
    due: Due
    steps: list[Step]

    @property
    def state(self) -> str | None:
        return self.steps[-1][0] if self.steps else None

    def enter(self, state: str) -> None:
        self.steps.append((state, self.due.units))


class Forecast:
    """`confirmations`: of the network, for every coin alike."""

    def __init__(self, confirmations: int) -> None:
        self._confirmations = confirmations
        self._lives: dict[Identity, _Life] = {}

    def observe(self, due: Mapping[Identity, Due], head: int, finalized: int) -> None:
        """The chain as the engine has seen it now: what it owes, head and finalized height."""
        for identity, life in self._lives.items():
            if life.state != "orphaned" and identity not in due:
                life.enter("orphaned")
        for identity, owed in due.items():
            life = self._lives.setdefault(identity, _Life(owed, []))
            self._find(life, owed)
            self._settle(life, head, finalized)

    def steps(
        self, recipients: Collection[bytes], own: Collection[bytes]
    ) -> dict[Identity, tuple[Step, ...]]:
        """Each deposit's steps so far, in order of `sequence`, to one account's addresses.

        What its `own` wallets pay is nothing that it is told of.
        """
        return {
            identity: tuple(life.steps)
            for identity, life in self._lives.items()
            if identity[1] in recipients and (life.due.sender not in own or life.due.odd)
        }

    def unfinished(self) -> int:
        """How many deposits have a step before them that more blocks will bring."""
        return sum(life.state in ("detected", "confirmed") for life in self._lives.values())

    def _find(self, life: _Life, owed: Due) -> None:
        changed = (life.due.units, life.due.sender) != (owed.units, owed.sender)
        if changed and life.state not in (None, "orphaned"):
            life.enter("orphaned")
        life.due = owed
        if life.state in (None, "orphaned"):
            life.enter("held" if owed.odd else "detected")

    def _settle(self, life: _Life, head: int, finalized: int) -> None:
        required = max(self._confirmations, life.due.maturity)
        if life.state == "detected" and head - life.due.height + 1 >= required:
            life.enter("confirmed")
        if life.state == "confirmed" and life.due.height <= finalized:
            life.enter("finalized")


def read_history(events: Iterable[Mapping[str, Any]]) -> History:
    """What events say, in the order in which they came: bodies of callbacks, or feed items."""
    history: dict[Name, list[Step]] = {}
    for event in events:
        data = event["data"]
        name = (
            data["network"],
            data["transactionHash"],
            data["toAddress"],
            data["contractAddress"] or "native",
            data["ordinal"],
        )
        step = (event["type"].removeprefix("deposit."), int(data["amountUnits"]))
        history.setdefault(name, []).append(step)
    return {name: tuple(steps) for name, steps in history.items()}


def without(kind: str, history: History) -> History:
    """A history as an endpoint sees it that doesn't ask for events of that type."""
    return {
        name: tuple(step for step in steps if step[0] != kind) for name, steps in history.items()
    }


def differences(expected: History, found: History) -> Iterator[str]:
    """A sentence for each deposit that was told otherwise than foretold."""
    for name in sorted(expected.keys() | found.keys()):
        want, got = expected.get(name, ()), found.get(name, ())
        if want != got:
            yield _sentence(name, want, got)


def early(expected: History, found: History) -> Iterator[str]:
    """The same for each that was told what is not due yet. What lags is none of them."""
    for name, got in found.items():
        want = expected.get(name, ())
        if want[: len(got)] != got:
            yield _sentence(name, want, got)


def _sentence(name: Name, want: tuple[Step, ...], got: tuple[Step, ...]) -> str:
    network, tx, address, asset, ordinal = name
    place = f"{network}: {tx} to {address}, {asset} {ordinal}"
    return f"{place}: expected {_text(want)}, got {_text(got)}"


def _text(steps: tuple[Step, ...]) -> str:
    return ", ".join(f"{kind} {units}" for kind, units in steps) or "nothing"
