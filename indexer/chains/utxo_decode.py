"""Who is paid in a block, and by whom: outputs to watched scripts, and the inputs beside them.

Amounts, recipients and inputs are read from the proved bytes, never from what a node says of them
(P91, P97). Nothing unconfirmed comes here (P87).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from indexer.chains import NATIVE, Transfer, Watch
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_parse import OUTPOINT_BYTES, RawBlock, body_of
from indexer.chains.utxo_script import (
    addressable,
    bare_pubkey,
    hash160,
    is_taproot,
    p2pkh,
    spent_key,
)
from indexer.chains.utxo_wire import compact_size


class Origin(NamedTuple):
    """Where a transaction's money comes from, as far as its inputs say."""

    senders: tuple[bytes, ...]  # every address that an input reveals, once, in order
    unrevealed: tuple[tuple[bytes, int], ...]  # outputs spent by the others: transaction, index

    @property
    def sender(self) -> bytes | None:
        """The one known address, if there is no other input."""
        return self.senders[0] if len(self.senders) == 1 and not self.unrevealed else None


def transfers(block: RawBlock, network: Parameters, watch: Watch) -> list[Transfer]:
    """Outputs of more than nothing to scripts that `watch` may contain; the ordinal is the index.

    P2PK counts as the P2PKH address of its key, and as oddly shaped (P92). What an address alone
    sends to itself is its change and moves nothing (P113). Litecoin's last transaction pays its
    extension block by its first output: no address, no transfer (P101).
    """
    if NATIVE not in watch.assets:
        return []
    segwit = network.segwit is not None
    keys, odd = _keys(block.scripts)
    origins: dict[int, Origin] = {}
    found: list[Transfer] = []
    for at, hit in enumerate(watch.contains(keys)):
        if not hit or not (at in odd or addressable(keys[at], segwit=segwit)):
            continue
        place = block.places[at]
        units = int.from_bytes(block.raw[place : place + 8], "little")
        if units == 0:
            continue
        number = bisect_right(block.outputs, at) - 1
        source = origins.get(number) or origin(block, number)
        origins[number] = source
        if source.sender == keys[at]:
            continue
        found.append(
            Transfer(
                tx=block.txids[number][::-1],
                asset=NATIVE,
                recipient=keys[at],
                ordinal=at - block.outputs[number],
                units=units,
                sender=source.sender,
                odd=at in odd,
                maturity=maturity(block, number, network),
                senders=source.senders,
                unrevealed=source.unrevealed,
                concealed=at in odd or is_taproot(keys[at]),
            )
        )
    return found


def maturity(block: RawBlock, number: int, network: Parameters) -> int:
    """Confirmations that a transaction's outputs need before anyone can spend them (P88)."""
    if number == 0:
        return network.maturity
    if block.hogex and number == len(block.txids) - 1:
        return network.pegout_maturity
    return 0


def origin(block: RawBlock, number: int) -> Origin:
    """A coinbase has none: what it pays is new."""
    if number == 0:
        return Origin((), ())
    senders: dict[bytes, None] = {}
    unrevealed: list[tuple[bytes, int]] = []
    for outpoint, script, witness in _inputs(block.raw, block.starts[number]):
        key = spent_key(script, witness)
        if key is None:
            index = int.from_bytes(outpoint[32:], "little")
            unrevealed.append((outpoint[31::-1], index))
        else:
            senders[key] = None
    return Origin(tuple(senders), tuple(unrevealed))


def _keys(scripts: Sequence[bytes]) -> tuple[list[bytes], set[int]]:
    """What to look up for each output, and which of them are P2PK."""
    keys, odd = list(scripts), set()
    for at, script in enumerate(scripts):
        if len(script) in (35, 67):
            pubkey = bare_pubkey(script)
            if pubkey is not None:
                keys[at] = p2pkh(hash160(pubkey))
                odd.add(at)
    return keys, odd


def _inputs(raw: bytes, start: int) -> list[tuple[bytes, bytes, list[bytes]]]:
    """Of a transaction parsed before: outpoint, script and witness of each."""
    flag, at = body_of(raw, start)
    count, at = compact_size(raw, at)
    bare: list[tuple[bytes, bytes]] = []
    for _ in range(count):
        outpoint, at = raw[at : at + OUTPOINT_BYTES], at + OUTPOINT_BYTES
        size, at = compact_size(raw, at)
        bare.append((outpoint, raw[at : at + size]))
        at += size + 4
    outputs, at = compact_size(raw, at)
    for _ in range(outputs):
        size, at = compact_size(raw, at + 8)
        at += size
    witnesses: list[list[bytes]] = []
    for _ in bare if flag & 1 else ():
        stack, at = _stack(raw, at)
        witnesses.append(stack)
    if not witnesses:
        witnesses = [[] for _ in bare]
    return [(*spent, stack) for spent, stack in zip(bare, witnesses, strict=True)]


def _stack(raw: bytes, at: int) -> tuple[list[bytes], int]:
    items, at = compact_size(raw, at)
    stack: list[bytes] = []
    for _ in range(items):
        size, at = compact_size(raw, at)
        stack.append(raw[at : at + size])
        at += size
    return stack, at
