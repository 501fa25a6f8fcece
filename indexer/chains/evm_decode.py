"""Transfers in a proved EVM block: the native coin and ERC-20 tokens. Pure.

Native coin: a transaction's value; its mint, on OP-stack chains; what its contracts paid, where
traces are on. Not seen: fees, rewards and validator withdrawals, which belong to no transaction.

Tokens: `Transfer` events of registered contracts and nothing else: no calldata, no return values,
no other contract's word (P3 to P8). Exactly three topics and one word of data is the standard's
shape; four topics are an NFT; any other shape is `odd`.

A failed transaction moves nothing (P1), except what an OP-stack deposit mints (P50). What an
address sends to itself moves nothing either. Before Byzantium no receipt says whether a transaction
failed: everything there is `odd` (P2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from indexer.chains import NATIVE, Transfer, Watch
from indexer.chains.answers import NotProved
from indexer.chains.evm_codec import NATIVE_MIRRORS
from indexer.chains.evm_proof import Execution, Log
from indexer.chains.evm_trace import Payment
from indexer.chains.evm_transaction import OP_DEPOSIT, SIGNED, created_address, recover_sender
from indexer.chains.evm_wire import WireTransaction, quantity, sized

WORD: Final = 32  # bytes
ADDRESS: Final = 20
PADDING: Final = bytes(WORD - ADDRESS)
TRANSFER_TOPIC: Final = bytes.fromhex(
    "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
)


class Content(msgspec.Struct, frozen=True):
    """What an EVM block holds, for `transfers` to read."""

    executions: Sequence[Execution]
    payments: Sequence[Sequence[Payment]]  # of each execution; empty where traces are off
    rebuilt: bool  # transactions equal their hashes, so that a signer can be recovered


class _Movement(NamedTuple):
    """A movement before its recipient was looked up."""

    execution: Execution
    asset: bytes
    recipient: bytes
    units: int
    sender: bytes | None
    odd: bool
    own: bool = False  # the transaction's own value: its sender is its signer


def transfers(content: Content, watch: Watch) -> list[Transfer]:
    """Movements of `watch.assets` to recipients that `watch` may contain, in execution order."""
    movements = list(_movements(content, watch))
    recipients = list({movement.recipient for movement in movements})
    flags = watch.contains(recipients)
    watched = {key for key, flag in zip(recipients, flags, strict=True) if flag}
    ordinals: Counter[tuple[bytes, bytes, bytes]] = Counter()
    found: list[Transfer] = []
    for movement in movements:
        if movement.recipient not in watched:
            continue
        identity = (movement.execution.hash, movement.asset, movement.recipient)
        ordinal = ordinals[identity]
        ordinals[identity] += 1
        sender = movement.sender
        if movement.own:
            sender = _signer(movement.execution.transaction, content.rebuilt)
        if sender == movement.recipient or not (movement.units or movement.odd):
            continue
        found.append(Transfer(*identity, ordinal, movement.units, sender, movement.odd))
    return found


def _movements(content: Content, watch: Watch) -> Iterator[_Movement]:
    assets = frozenset(watch.assets) - NATIVE_MIRRORS
    native = NATIVE in assets
    for at, execution in enumerate(content.executions):
        if native and execution.transaction is not None:
            yield from _own_value(execution, execution.transaction, content.rebuilt)
            if content.payments and execution.status is not False:
                odd = execution.status is None
                for paid in content.payments[at]:
                    yield _Movement(execution, NATIVE, paid.recipient, paid.units, paid.sender, odd)
        if execution.status is False:
            continue
        for log in execution.logs:
            if log.address in assets and log.topics and log.topics[0] == TRANSFER_TOPIC:
                yield from _token_movements(execution, log)


def _own_value(execution: Execution, tx: WireTransaction, rebuilt: bool) -> Iterator[_Movement]:
    if tx.mint is not None and quantity(tx.type) == OP_DEPOSIT:
        minted = quantity(tx.mint)
        if minted:
            yield _Movement(execution, NATIVE, sized(tx.sender, ADDRESS), minted, None, False)
    units = quantity(tx.value)
    if not units or execution.status is False:
        return
    recipient = sized(tx.to, ADDRESS) if tx.to is not None else _created(execution, tx, rebuilt)
    if recipient is not None:
        odd = execution.status is None
        yield _Movement(execution, NATIVE, recipient, units, None, odd, own=True)


def _created(execution: Execution, tx: WireTransaction, rebuilt: bool) -> bytes | None:
    """Where a creation's value went: from signer and nonce, else as the receipt says."""
    if rebuilt and quantity(tx.type) in SIGNED:
        signer = _signer(tx, rebuilt)
        if signer is not None:
            return created_address(signer, quantity(tx.nonce))
    return execution.created


def _signer(tx: WireTransaction | None, rebuilt: bool) -> bytes | None:
    """Who sent it; None where a chain has transactions that nobody signed."""
    if tx is None:
        return None
    if not rebuilt:
        return sized(tx.sender, ADDRESS)
    try:
        return recover_sender(tx)
    except NotProved:
        return None


def _token_movements(execution: Execution, log: Log) -> Iterator[_Movement]:
    undecided = execution.status is None
    words = [log.data[at : at + WORD] for at in range(0, len(log.data), WORD)]
    for sender, recipient, units, odd in _read_transfer(log.topics[1:], words):
        yield _Movement(
            execution, log.address, recipient[-ADDRESS:], units, sender, odd or undecided
        )


def _read_transfer(
    indexed: Sequence[bytes], words: Sequence[bytes]
) -> Iterator[tuple[bytes | None, bytes, int, bool]]:
    """(sender, recipient's word, units, odd) of a Transfer, for each way to read it.

    An event that indexes fewer parameters than the standard's has them in its data, in order
    (P10). With one indexed it may be either address, so both readings are held.
    """
    match len(indexed):
        case 2:
            standard = len(words) == 1 and len(words[0]) == WORD and _clean(*indexed)
            yield indexed[0][-ADDRESS:], indexed[1], _number(words, 0), not standard
        case 1 if words and len(words[0]) == WORD:
            units = _number(words, 1)
            yield indexed[0][-ADDRESS:], words[0], units, True
            if indexed[0][-ADDRESS:] != words[0][-ADDRESS:]:
                yield words[0][-ADDRESS:], indexed[0], units, True
        case 0 if len(words) >= 2 and len(words[1]) == WORD:
            yield words[0][-ADDRESS:], words[1], _number(words, 2), True


def _clean(*topics: bytes) -> bool:
    return all(topic.startswith(PADDING) for topic in topics)


def _number(words: Sequence[bytes], at: int) -> int:
    """The amount, as well as it can be read: 0 where its word is missing or short."""
    if at >= len(words) or len(words[at]) != WORD:
        return 0
    return int.from_bytes(words[at], "big")
