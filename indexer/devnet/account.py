"""The demo's users: what they register, what they are told, and what they should have been told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from indexer.client import Client
from indexer.devnet.forecast import (
    History,
    Name,
    Step,
    differences,
    early,
    read_history,
    without,
)
from indexer.devnet.simulation import Simulation
from indexer.devnet.simulations import ADDRESSES

SCOPES: Final = ("read", "write")


@dataclass(frozen=True)
class Plan:
    """What an account is to be, on every network alike."""

    id: str
    name: str
    watches: slice  # of a network's addresses
    owns: bool  # the hot wallet is its own
    events: tuple[str, ...] | None  # that its endpoint asks for; None: what it gets unasked


PLANS: Final = (
    Plan("shop", "A shop", slice(0, 4), owns=True, events=None),
    # One address is watched by both.
    Plan("exchange", "An exchange", slice(3, ADDRESSES), owns=False, events=("deposit.*",)),
)


@dataclass
class Account:
    """An account at the engine under test, with its own key."""

    plan: Plan
    api: Client
    simulations: Sequence[Simulation]
    feed: list[dict[str, Any]] = field(default_factory=list)  # its events so far
    early: list[str] = field(default_factory=list)  # problems: what it was told before its time

    @property
    def id(self) -> str:
        return self.plan.id

    async def watch(self) -> None:
        """Register its addresses on every network, each with a reference, and its own wallets."""
        for simulation in self.simulations:
            watched = enumerate(simulation.texts(self._watched(simulation)), 1)
            addresses = [{"address": text, "reference": f"user-{n}"} for n, text in watched]
            own = simulation.texts(self._own(simulation))
            addresses += [{"address": text, "role": "own"} for text in own]
            await self.api.watch(simulation.id, addresses)

    async def subscribe(self, url: str) -> str:
        """Make its endpoint; returns the secret."""
        events = {} if self.plan.events is None else {"events": self.plan.events}
        secret: str = (await self.api.create_endpoint(url, **events))["secret"]
        return secret

    async def read(self) -> list[dict[str, Any]]:
        """What is new in its feed, now that the networks are observed as they stand."""
        after = self.feed[-1]["position"] if self.feed else 0
        new = [cast("dict[str, Any]", event) async for event in self.api.events(after)]
        self.feed += new
        if new:
            told = read_history(self.feed)
            found = early(self._due(), {name: told[name] for name in read_history(new)})
            self.early += [f"{self.id}'s feed is early: {each}" for each in found]
        return new

    def problems(self, received: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What it should have been told and was not, or was told and should not have been.

        `received`: what its endpoint got.
        """
        yield from self.early
        due = self._due()
        asked = without("finalized", due) if self.plan.events is None else due
        for what, expected, events in (
            ("feed", due, self.feed),
            ("callbacks", asked, received),
        ):
            for difference in differences(expected, read_history(events)):
                yield f"{self.id}'s {what}: {difference}"

    def _due(self) -> History:
        due: dict[Name, tuple[Step, ...]] = {}
        for simulation in self.simulations:
            due |= simulation.history(self._watched(simulation), self._own(simulation))
        return due

    def _watched(self, simulation: Simulation) -> Sequence[bytes]:
        return simulation.traffic.addresses[self.plan.watches]

    def _own(self, simulation: Simulation) -> Sequence[bytes]:
        return [simulation.traffic.own] if self.plan.owns else []


async def open_account(operator: Client, plan: Plan, simulations: Sequence[Simulation]) -> Account:
    """As an operator does: the account, and its key."""
    await operator.create_account(plan.name, id=plan.id)
    key = await operator.create_key(plan.id, SCOPES)
    return Account(plan, operator.with_key(key["key"]), simulations)
