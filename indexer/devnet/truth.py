"""What ought to be deposited: read off what was truly moved, not off logs, traces or answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from indexer.devnet.contract_chain import Executed, ExecutedBlock
from indexer.devnet.evm_machine import Movement

NOBODY: Final = b""  # as a sender: new money, or that of several

Identity: TypeAlias = tuple[bytes, bytes, bytes, int]  # transaction, address, asset, ordinal


@dataclass(frozen=True, slots=True)
class Due:
    """A movement that an indexer owes its user."""

    units: int  # base units
    sender: bytes
    height: int
    hash: bytes  # of its block
    odd: bool  # to be held, not credited
    maturity: int = 0  # confirmations that the network itself asks for


@dataclass(frozen=True, slots=True)
class Payment:
    """A movement with the ordinal that the contract gives it."""

    tx: bytes
    movement: Movement
    ordinal: int


def payments(executed: Iterable[Executed]) -> Iterator[Payment]:
    """What truly moved, in execution order, numbered per transaction, asset and recipient."""
    for each in executed:
        count: dict[tuple[bytes, bytes], int] = {}
        for movement in each.movements:
            key = (movement.asset, movement.recipient)
            ordinal = count.get(key, 0)
            count[key] = ordinal + 1
            yield Payment(each.transaction.hash, movement, ordinal)


def deposits_due(
    blocks: Iterable[ExecutedBlock],
    recipients: Collection[bytes],
    assets: Collection[bytes],
    *,
    internal: bool,
) -> dict[Identity, Due]:
    """Everything that these blocks pay to `recipients` in `assets`.

    `internal`: with native coin that contracts paid. Zero, and what an address sends to itself,
    has an ordinal but is owed to nobody.
    """
    due: dict[Identity, Due] = {}
    for block in blocks:
        for payment in payments(block.executed):
            moved = payment.movement
            if moved.recipient not in recipients or moved.asset not in assets:
                continue
            if moved.sender == moved.recipient or not (moved.units or moved.odd):
                continue
            if internal or not moved.internal:
                identity = (payment.tx, moved.recipient, moved.asset, payment.ordinal)
                due[identity] = Due(moved.units, moved.sender, block.number, block.hash, moved.odd)
    return due
