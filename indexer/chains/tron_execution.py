"""What became of a TRON block's transactions: bound to their infos by id, never by position (P77).

Three fields say how a transaction ended (P67, P68): `contractRet` in the block, which the root
commits to; the info's `receipt.result`, which only contracts have; the info's `result`, which is
there only where it failed. Something moved only where all that must be there say success. Where
they contradict each other the answer is not believed; where one is missing, as in blocks of 2018,
nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from indexer.chains import NATIVE
from indexer.chains.answers import Missing, NotProved
from indexer.chains.rpc import Endpoint
from indexer.chains.tron_proof import ProvedTransaction
from indexer.chains.tron_transaction import Order, Payment, read_order, trc10
from indexer.chains.tron_wire import (
    WireBlock,
    WireInfo,
    WireInternal,
    WireLog,
    address,
    octets,
    sized,
)

SUCCESS: Final = "SUCCESS"
UNSAID: Final = (None, "DEFAULT", 0)
# What moves a contract's own funds, by the name that java-tron gives it; votes and stakes have
# amounts as well, but move nothing to whom they name (P73).
MOVING_NOTES: Final = frozenset(name.encode().hex() for name in ("call", "create", "suicide"))


class Log(NamedTuple):
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class Execution(NamedTuple):
    """A transaction and what it did."""

    hash: bytes
    order: Order  # what its signed bytes ask for
    status: bool | None  # None: nobody says
    logs: tuple[Log, ...]
    internal: tuple[Payment, ...]  # what contracts paid


def executions_of(
    endpoint: Endpoint,
    block: WireBlock,
    transactions: Sequence[ProvedTransaction],
    infos: Sequence[WireInfo],
) -> list[Execution]:
    """The block's transactions in their order; Missing unless every one has its info (P76)."""
    by_id = {sized(info.id, 32): info for info in infos}
    if len(by_id) != len(infos) or by_id.keys() != {tx.id for tx in transactions}:
        raise Missing(
            f"{endpoint.name} has infos of {len(by_id)} of the {len(transactions)} "
            f"transactions of block {block.blockID}"
        )
    for info in infos:
        if (info.blockNumber, info.blockTimeStamp) != (block.data.number, block.data.timestamp):
            raise NotProved(f"the info of transaction {info.id} is of another block")
    return [_execution(tx, by_id[tx.id]) for tx in transactions]


def _execution(tx: ProvedTransaction, info: WireInfo) -> Execution:
    order = read_order(tx.raw, tx.id)
    status = _status(tx, info, order)
    if status is False:
        return Execution(tx.id, order, False, (), ())
    logs = tuple([_log(log) for log in info.log])
    internal = tuple([paid for each in info.internal_transactions for paid in _payments(each)])
    return Execution(tx.id, order, status, logs, internal)


def _status(tx: ProvedTransaction, info: WireInfo, order: Order) -> bool | None:
    """Whether it succeeded. Several results, or none, decide nothing."""
    said = tx.results[0].contractRet if len(tx.results) == 1 else None
    receipt = None if info.receipt is None else info.receipt.result
    if said in UNSAID:
        return None
    succeeded = said == SUCCESS
    if succeeded and info.result not in (None, "SUCESS"):
        raise NotProved(f"transaction {info.id} succeeded by its block and failed by its info")
    if receipt not in UNSAID and (receipt == SUCCESS) != succeeded:
        raise NotProved(f"transaction {info.id} is {said!r} by its block, {receipt!r} by its info")
    if succeeded and receipt in UNSAID and order.executed:
        return None
    return succeeded


def _log(log: WireLog) -> Log:
    return Log(
        address(octets(log.address)),
        tuple([sized(topic, 32) for topic in log.topics]),
        octets(log.data),
    )


def _payments(internal: WireInternal) -> list[Payment]:
    """What an internal transaction moved: nothing if it was rejected (P74)."""
    if internal.rejected or internal.note not in MOVING_NOTES:
        return []
    payments = []
    for value in internal.callValueInfo:
        asset = trc10(value.tokenId.encode()) if value.tokenId else NATIVE
        if asset is not None and value.callValue > 0:
            sender = address(octets(internal.caller_address))
            recipient = address(octets(internal.transferTo_address))
            payments.append(Payment(asset, sender, recipient, value.callValue))
    return payments
