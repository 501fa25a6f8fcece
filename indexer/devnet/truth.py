"""What ought to be deposited: read off what the contracts truly moved, not off logs or traces."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from indexer.devnet.chain import Block

Identity: TypeAlias = tuple[bytes, bytes, bytes, int]  # transaction, address, asset, ordinal


@dataclass(frozen=True, slots=True)
class Due:
    """A movement that an indexer owes its user."""

    units: int  # base units
    sender: bytes
    height: int
    hash: bytes  # of its block
    odd: bool  # to be held, not credited


def deposits_due(
    blocks: Iterable[Block],
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
        for payment in block.payments():
            moved = payment.movement
            if moved.recipient not in recipients or moved.asset not in assets:
                continue
            if moved.sender == moved.recipient or not (moved.units or moved.odd):
                continue
            if internal or not moved.internal:
                identity = (payment.tx, moved.recipient, moved.asset, payment.ordinal)
                due[identity] = Due(moved.units, moved.sender, block.number, block.hash, moved.odd)
    return due
