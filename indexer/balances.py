"""Asks whether balances agree with what blocks say, for the coins that want it (P7, P13).

Nodes are asked before a transaction is begun. What is matched within one by newer registrations or
settings, and was not asked about, makes it `Stale`: the next step asks about that as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from indexer.chains import Block, Chain, Holding, Transfer
from indexer.cursors import Stale
from indexer.watchset import WatchSet, Widened

# By block, asset and address: whether the balance agrees, None where no node can say.
Checks: TypeAlias = Mapping[tuple[bytes, bytes, bytes], bool | None]

NO_CHECKS: Final[Checks] = MappingProxyType({})


class _Checked:
    """A watch set's addresses, and of its assets those that are checked."""

    def __init__(self, watch: WatchSet | Widened) -> None:
        self.assets = watch.checked
        self.contains = watch.contains


async def check(chain: Chain, blocks: Sequence[Block], watch: WatchSet | Widened) -> Checks:
    """Ask about each address and checked asset that blocks have a transfer of."""
    if not watch.checked:
        return NO_CHECKS
    checked = _Checked(watch)
    holdings = {
        (block.header.hash, t.asset, t.recipient): Holding(block, t.asset, t.recipient)
        for block in blocks
        for t in chain.transfers(block, checked)
        if not t.odd
    }
    if not holdings:
        return NO_CHECKS
    agree = await chain.balances_agree(list(holdings.values()))
    return dict(zip(holdings, agree, strict=True))


def agrees(checks: Checks, block: bytes, transfer: Transfer) -> bool | None:
    """What was found out of a transfer's balance; Stale where nobody has asked."""
    key = (block, transfer.asset, transfer.recipient)
    if key not in checks:
        raise Stale("a balance that must agree was not asked for yet")
    return checks[key]
