"""Executions made of `eth_getLogs` alone: for networks without native coin and proof of receipts.

Only a successful transaction has logs, so what has logs has succeeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import Execution, transfer_logs
from indexer.chains.evm_wire import WireHeader, WireLog, quantity, sized


def executions_of(
    header: WireHeader, logs: Sequence[WireLog], *, complete: bool
) -> list[Execution]:
    """The block's transactions that have logs, in order.

    `complete`: all logs of the block were asked for, so that their indexes must count from 0
    without a gap. Otherwise they must rise.
    """
    expected = 0
    for log in logs:
        what = f"a log of transaction {log.transaction_hash[:80]}"
        if log.block_hash.lower() != header.hash.lower():
            raise NotProved(f"{what} is of block {log.block_hash[:80]}, not {header.hash}")
        if log.removed:
            raise NotProved(f"{what} is marked as removed")
        index = quantity(log.log_index)
        if index < expected or (complete and index != expected):
            raise NotProved(f"{what} has the logIndex {index} where {expected} should be")
        expected = index + 1
    return [
        Execution(
            hash=sized(transaction, 32),
            transaction=None,
            status=True,
            logs=transfer_logs(group),
        )
        for transaction, group in groupby(logs, key=lambda log: log.transaction_hash)
    ]
