"""Native coin that contracts paid, read from the call tracer's tree of each transaction.

No header commits to traces: they are bound to their transactions and otherwise believed. Source of
the rules: the project's pitfalls P24 to P27; geth's `eth/tracers/native/call.go` for the shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import Execution
from indexer.chains.evm_wire import WireFrame, WireTrace, WireTransaction, octets, quantity, sized

# DELEGATECALL shows its parent's value and moves nothing; CALLCODE pays itself.
_PAYING: Final = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})


class Payment(msgspec.Struct, frozen=True, gc=False):
    """Native coin moved inside a transaction, after its own value."""

    sender: bytes
    recipient: bytes
    units: int


def bind_traces(
    executions: Sequence[Execution], traces: Sequence[WireTrace]
) -> list[tuple[Payment, ...]]:
    """What each transaction's contracts paid; NotProved where a trace is another transaction's."""
    if len(traces) != len(executions):
        raise NotProved(f"{len(executions)} transactions have {len(traces)} traces")
    return [
        _payments_of(execution, trace) for execution, trace in zip(executions, traces, strict=True)
    ]


def payments(root: WireFrame) -> Iterator[Payment]:
    """Depth first, which is the order of execution, without the root and what was reverted."""
    if root.error:
        return
    stack = list(reversed(root.calls or ()))
    while stack:
        frame = stack.pop()
        if frame.error:
            continue  # everything below it was undone with it
        units = 0 if frame.value is None else quantity(frame.value)
        if units and frame.type in _PAYING:
            if frame.to is None:
                raise NotProved(f"a trace has a {frame.type} with value and no recipient")
            paid = Payment(sized(frame.sender, 20), sized(frame.to, 20), units)
            # A contract that destroys itself in its own favour burns or keeps its balance.
            if frame.type != "SELFDESTRUCT" or paid.sender != paid.recipient:
                yield paid
        stack.extend(reversed(frame.calls or ()))


def _payments_of(execution: Execution, trace: WireTrace) -> tuple[Payment, ...]:
    tx, root = execution.transaction, trace.result
    what = f"the trace of transaction 0x{execution.hash.hex()}"
    if tx is None or root is None:
        raise NotProved(f"{what} is missing")
    if trace.tx_hash is not None and octets(trace.tx_hash) != execution.hash:
        raise NotProved(f"{what} is that of transaction {trace.tx_hash[:80]}")
    _bind_root(what, tx, root, execution.created)
    if execution.status is False:
        return ()
    if execution.status and root.error:
        raise NotProved(f"{what} ends in an error, its receipt does not")
    return tuple(payments(root))


def _bind_root(what: str, tx: WireTransaction, root: WireFrame, created: bytes | None) -> None:
    if octets(root.sender) != octets(tx.sender):
        raise NotProved(f"{what} starts from {root.sender[:80]}, not {tx.sender}")
    if (0 if root.value is None else quantity(root.value)) != quantity(tx.value):
        raise NotProved(f"{what} starts with the value {root.value}, not {tx.value}")
    target = created if tx.to is None else octets(tx.to)
    said = None if root.to is None else octets(root.to)
    if said != target and not (tx.to is None and None in (said, target)):
        raise NotProved(f"{what} starts at {root.to}, not {tx.to}")
