"""Which events each deposit must have by now, foretold from the chain's own script.

A second, much simpler reading of the contract's table of states, for an engine that saw every step
of the chain. Held against what the receivers got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from indexer.devnet.evm_truth import Due, Identity


@dataclass(slots=True)
class _Life:
    due: Due
    events: list[str]  # without their `deposit.`

    @property
    def state(self) -> str:
        return self.events[-1]


class Forecast:
    """`confirmations`: of the network, for every coin alike."""

    def __init__(self, confirmations: int) -> None:
        self._confirmations = confirmations
        self._lives: dict[Identity, _Life] = {}

    def observe(self, due: Mapping[Identity, Due], head: int, finalized: int) -> None:
        """The chain as the engine has seen it now, what it owes, and its finalized height."""
        for identity, life in self._lives.items():
            if life.state != "orphaned" and identity not in due:
                life.events.append("orphaned")
        for identity, owed in due.items():
            known = self._lives.setdefault(identity, _Life(owed, []))
            changed = (known.due.units, known.due.sender) != (owed.units, owed.sender)
            if known.events and known.state != "orphaned" and changed:
                known.events.append("orphaned")
            known.due = owed
            if not known.events or known.state == "orphaned":
                known.events.append("held" if owed.odd else "detected")
            self._settle(known, head, finalized)

    def events(self) -> dict[Identity, tuple[str, ...]]:
        """Every deposit's events so far, in order of `sequence`."""
        return {identity: tuple(life.events) for identity, life in self._lives.items()}

    def open(self) -> int:
        """How many deposits still have a step before them that more blocks bring."""
        return sum(life.state in ("detected", "confirmed") for life in self._lives.values())

    def _settle(self, life: _Life, head: int, finalized: int) -> None:
        if life.state == "detected" and head - life.due.height + 1 >= self._confirmations:
            life.events.append("confirmed")
        if life.state == "confirmed" and life.due.height <= finalized:
            life.events.append("finalized")
