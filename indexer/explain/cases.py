"""What is explained apart: each transfer, for each account that it concerns. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.booking import transfer_of
from indexer.chains import Codec, Transfer
from indexer.explain.facts import Facts, Watcher
from indexer.explain.nodes import Look
from indexer.model import Coin, Deposit


@dataclass(frozen=True, slots=True)
class Subject:
    """A network's transaction, and all that is known of it."""

    network: str
    codec: Codec
    required: int | None  # the network's own confirmations; None: "finalized"
    look: Look
    facts: Facts
    asked_for: str | None  # the account; None: all of them

    @property
    def read(self) -> bool:
        """Whether our chain has the transaction's block."""
        sighting, cursor, stored = self.look.sighting, self.facts.cursor, self.facts.stored
        if sighting is None or sighting.height is None or self.look.stray:
            return False
        if cursor is None or sighting.height > cursor:
            return False
        return stored in (None, sighting.block)


@dataclass(frozen=True, slots=True)
class Case:
    """A transfer and an account; None: it is nobody's that was asked for."""

    subject: Subject
    transfer: Transfer
    height: int
    account: str | None
    deposit: Deposit | None

    @property
    def coin(self) -> Coin | None:
        return self.subject.facts.coins.get(self.transfer.asset)

    @property
    def watcher(self) -> Watcher | None:
        watchers = self.subject.facts.watchers.get(self.transfer.recipient, [])
        return next((w for w in watchers if w.account == self.account), None)


def cases_of(subject: Subject) -> list[Case]:
    """Those of somebody first. A deposit whose transfer nobody shows now speaks for itself."""
    sighting, facts = subject.look.sighting, subject.facts
    deposits = {(d.address, d.asset, d.ordinal, d.account): d for d in facts.deposits}
    cases: list[Case] = []
    height = -1 if sighting is None or sighting.height is None else sighting.height
    for transfer in subject.look.transfers:
        place = (transfer.recipient, transfer.asset, transfer.ordinal)
        accounts = {w.account for w in facts.watchers.get(transfer.recipient, [])}
        accounts |= {account for *rest, account in deposits if tuple(rest) == place}
        for account in sorted(accounts):
            deposit = deposits.pop((*place, account), None)
            cases.append(Case(subject, transfer, height, account, deposit))
        if not accounts:
            cases.append(Case(subject, transfer, height, None, None))
    for deposit in deposits.values():
        height = deposit.place.height
        cases.append(Case(subject, transfer_of(deposit), height, deposit.account, deposit))
    return sorted(cases, key=lambda case: case.account is None)
