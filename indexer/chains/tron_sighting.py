"""Where a TRON node has a transaction, by its own word: its block is proved by who reads it."""

from __future__ import annotations

from typing import Final

from indexer.chains import NATIVE, Sighting
from indexer.chains.answers import Missing
from indexer.chains.failover import Endpoints
from indexer.chains.protobuf import Message
from indexer.chains.rpc import Endpoint
from indexer.chains.sightings import from_any
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.chains.tron_execution import SUCCESS
from indexer.chains.tron_node import TronNode
from indexer.chains.tron_transaction import read_order, trc10
from indexer.chains.tron_wire import WireInfo, WireTransaction, address, octets, sized

EXPIRATION: Final = 8  # Protocol.Transaction.raw's field: milliseconds


async def find(node: TronNode, endpoints: Endpoints, tx: bytes) -> Sighting | None:
    """As the port says."""

    async def ask(endpoint: Endpoint) -> Sighting | None:
        name = tx.hex()
        sent = await node.transaction(endpoint, name)
        if sent is None:
            waiting = await node.pending(endpoint, name)
            return None if waiting is None else await _waiting(node, endpoint, waiting)
        info = await node.info(endpoint, name)
        if info is None:
            raise Missing(f"{endpoint.name} has it in a block, and not yet what became of it")
        header = await node.header(endpoint, info.blockNumber)
        if header is None:
            raise Missing(f"{endpoint.name} lacks block {info.blockNumber}, which it names")
        failure = _failure(sent, info)
        return Sighting(
            source=endpoint.name,
            height=info.blockNumber,
            block=sized(header.blockID, 32),
            executed=failure is None,
            trouble=None if failure is None else f"it ended with {endpoint.clean(failure)}",
            assets=_assets(sent, info),
            unseen=_unseen(sent, info),
        )

    return await from_any(endpoints, ask)


async def _waiting(node: TronNode, endpoint: Endpoint, sent: WireTransaction) -> Sighting:
    expires = Message(octets(sent.raw_data_hex)).signed(EXPIRATION)
    late = 0 < expires < (await node.head(endpoint)).data.timestamp
    return Sighting(endpoint.name, trouble="it expired before it was mined" if late else None)


def _failure(sent: WireTransaction, info: WireInfo) -> str | None:
    """The node's word for how it failed; None where it did not."""
    said = [str(each.contractRet) for each in sent.ret if each.contractRet not in (None, SUCCESS)]
    return said[0] if said else (None if info.result is None else str(info.result))


def _assets(sent: WireTransaction, info: WireInfo) -> frozenset[bytes]:
    order = read_order(octets(sent.raw_data_hex), octets(sent.txID))
    ids = {v.tokenId for each in info.internal_transactions for v in each.callValueInfo}
    internal = {asset for name in ids if (asset := trc10(name.encode())) is not None}
    tokens = {
        address(octets(log.address))
        for log in info.log
        if log.topics and octets(log.topics[0]) == TRANSFER_TOPIC
    }
    return frozenset([NATIVE, *(paid.asset for paid in order.payments), *internal, *tokens])


def _unseen(sent: WireTransaction, info: WireInfo) -> str | None:
    executed = read_order(octets(sent.raw_data_hex), octets(sent.txID)).executed
    if executed and not info.internal_transactions:
        return (
            "what contracts paid in TRX or TRC-10, if this node keeps no internal transactions "
            "(vm.saveInternalTx)"
        )
    return None
