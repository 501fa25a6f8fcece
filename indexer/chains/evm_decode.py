"""Transfers in a proved EVM block: the native coin and ERC-20 tokens. Pure.

Native coin: a transaction's value; its mint, on OP-stack chains; what its contracts paid, where
traces are on. Not seen: fees, rewards and validator withdrawals, which belong to no transaction.

Tokens: `Transfer` events of registered contracts and nothing else: no calldata, no return values,
no other contract's word (P3 to P8).

A failed transaction moves nothing (P1), except what an OP-stack deposit mints (P50). What an
address sends to itself moves nothing either. Before Byzantium no receipt says whether a transaction
failed: everything there is `odd` (P2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import msgspec

from indexer.chains import NATIVE, Transfer, Watch
from indexer.chains.answers import NotProved
from indexer.chains.evm_codec import NATIVE_MIRRORS
from indexer.chains.evm_proof import Execution
from indexer.chains.evm_trace import Payment
from indexer.chains.evm_transaction import OP_DEPOSIT, SIGNED, created_address, recover_sender
from indexer.chains.evm_wire import WireTransaction, quantity, sized
from indexer.chains.movements import Movement, match
from indexer.chains.transfer_event import ADDRESS, read_transfer, recipients


class Content(msgspec.Struct, frozen=True):
    """What an EVM block holds, for `transfers` to read."""

    executions: Sequence[Execution]
    payments: Sequence[Sequence[Payment]]  # of each execution; empty where traces are off
    rebuilt: bool  # transactions equal their hashes, so that a signer can be recovered


def transfers(content: Content, watch: Watch, *, native: bool = True) -> list[Transfer]:
    """Movements of `watch.assets` to recipients that `watch` may contain, in execution order.

    `native`: whether the native coin is followed.
    """
    unread = NATIVE_MIRRORS if native else NATIVE_MIRRORS | {NATIVE}
    assets = frozenset(watch.assets) - unread
    paid: list[tuple[int, bytes]] = []
    for at in range(len(content.executions)):
        paid += [(at, recipient) for recipient in _recipients(content, at, assets)]
    flags = watch.contains([recipient for _, recipient in paid])
    # Few transactions pay anyone we know: only those are read in full.
    hits = dict.fromkeys(at for (at, _), flag in zip(paid, flags, strict=True) if flag)
    return match((each for at in hits for each in _movements(content, at, assets)), watch)


def _recipients(content: Content, at: int, assets: Collection[bytes]) -> Iterator[bytes]:
    """Of all that an execution may have moved, as `_movements` reads it, but nothing more of it."""
    execution = content.executions[at]
    if NATIVE in assets:
        yield from (each.recipient for each in _native(content, at))
    if execution.status is not False:
        for log in execution.logs:
            if log.address in assets:
                yield from recipients(log.topics, log.data)


def _movements(content: Content, at: int, assets: Collection[bytes]) -> Iterator[Movement]:
    execution = content.executions[at]
    if NATIVE in assets:
        yield from _native(content, at)
    if execution.status is False:
        return
    undecided = execution.status is None
    for log in execution.logs:
        if log.address in assets:
            for sender, recipient, units, odd in read_transfer(log.topics, log.data):
                yield Movement(
                    execution.hash, log.address, recipient, units, sender, odd or undecided
                )


def _native(content: Content, at: int) -> Iterator[Movement]:
    """What it moved of the native coin: its own value first, then what its contracts paid."""
    execution = content.executions[at]
    if execution.transaction is not None:
        yield from _own_value(execution, execution.transaction, content.rebuilt)
    if content.payments and execution.status is not False:
        odd = execution.status is None
        for paid in content.payments[at]:
            yield Movement(execution.hash, NATIVE, paid.recipient, paid.units, paid.sender, odd)


def _own_value(execution: Execution, tx: WireTransaction, rebuilt: bool) -> Iterator[Movement]:
    if tx.mint is not None and quantity(tx.type) == OP_DEPOSIT:
        minted = quantity(tx.mint)
        if minted:
            yield Movement(execution.hash, NATIVE, sized(tx.sender, ADDRESS), minted, None)
    units = quantity(tx.value)
    if not units or execution.status is False:
        return
    recipient = sized(tx.to, ADDRESS) if tx.to is not None else _created(execution, tx, rebuilt)
    if recipient is not None:
        odd = execution.status is None
        signer = partial(_signer, tx, rebuilt)
        yield Movement(execution.hash, NATIVE, recipient, units, signer, odd)


def _created(execution: Execution, tx: WireTransaction, rebuilt: bool) -> bytes | None:
    """Where a creation's value went: from signer and nonce, else as the receipt says."""
    if rebuilt and quantity(tx.type) in SIGNED:
        signer = _signer(tx, rebuilt)
        if signer is not None:
            return created_address(signer, quantity(tx.nonce))
    return execution.created


def _signer(tx: WireTransaction, rebuilt: bool) -> bytes | None:
    """Who sent it; None where a chain has transactions that nobody signed."""
    if not rebuilt:
        return sized(tx.sender, ADDRESS)
    try:
        return recover_sender(tx)
    except NotProved:
        return None
