"""From what moved in a block to transfers: matching with the watch set, and counting ordinals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from indexer.chains import Transfer, Watch

Sender: TypeAlias = bytes | None


class Movement(NamedTuple):
    """A movement before its recipient was looked up."""

    tx: bytes
    asset: bytes
    recipient: bytes
    units: int
    sender: Sender | Callable[[], Sender]  # a call where finding it out costs something
    odd: bool = False


def match(movements: Iterable[Movement], watch: Watch) -> list[Transfer]:
    """The transfers among movements, which stand in execution order.

    Every movement counts for the ordinals of its transaction, asset and recipient. Those of
    nothing, and to oneself, are no transfers.
    """
    every = list(movements)
    recipients = list({movement.recipient for movement in every})
    flags = watch.contains(recipients)
    watched = {key for key, flag in zip(recipients, flags, strict=True) if flag}
    ordinals: Counter[tuple[bytes, bytes, bytes]] = Counter()
    found: list[Transfer] = []
    for tx, asset, recipient, units, source, odd in every:
        if recipient not in watched:
            continue
        identity = (tx, asset, recipient)
        ordinal = ordinals[identity]
        ordinals[identity] += 1
        sender = source() if callable(source) else source
        if sender == recipient or not (units or odd):
            continue
        found.append(Transfer(*identity, ordinal, units, sender, odd))
    return found
