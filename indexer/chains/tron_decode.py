"""Transfers in a TRON block: TRX, TRC-10 and TRC-20. Pure.

TRX and TRC-10: what the transaction itself moves, then what its contracts paid, where the node
keeps internal transactions. TRC-20: `Transfer` events of registered contracts and nothing else: no
calldata, no name, no other contract's word (P70). A failed transaction moves nothing (P67); where
nobody says how it ended, everything is `odd`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from indexer.chains import NATIVE, Transfer, Watch
from indexer.chains.movements import Movement, match
from indexer.chains.transfer_event import ADDRESS, TRANSFER_TOPIC, read_transfer
from indexer.chains.tron_codec import PADDINGS
from indexer.chains.tron_execution import Execution


class Content(msgspec.Struct, frozen=True):
    """What a TRON block holds, for `transfers` to read."""

    executions: Sequence[Execution]
    leaves: Sequence[bytes]  # of the transactions' tree, as far as JSON gives them
    complete: bool  # the tree's root was rebuilt from them
    calls: int  # of contracts
    nested: int  # internal transactions of any kind, which only some nodes keep


def transfers(content: Content, watch: Watch) -> list[Transfer]:
    """Movements of `watch.assets` to recipients that `watch` may contain, in execution order."""
    return match(_movements(content, watch), watch)


def _movements(content: Content, watch: Watch) -> Iterator[Movement]:
    assets = frozenset(watch.assets)
    paid = NATIVE in assets or any(len(asset) != ADDRESS for asset in assets)
    for execution in content.executions:
        if execution.status is False:
            continue
        undecided = execution.status is None
        if paid:
            payments = (*execution.order.payments, *execution.internal)
            for asset, sender, recipient, units, odd in payments:
                if asset in assets:
                    yield Movement(
                        execution.hash, asset, recipient, units, sender, odd or undecided
                    )
        for log in execution.logs:
            if log.address in assets and log.topics and log.topics[0] == TRANSFER_TOPIC:
                readings = read_transfer(log.topics, log.data, PADDINGS)
                for sender, recipient, units, odd in readings:
                    yield Movement(
                        execution.hash, log.address, recipient, units, sender, odd or undecided
                    )
