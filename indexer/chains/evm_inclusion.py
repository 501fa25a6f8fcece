"""Evidence of a deposit on an EVM network: its transaction and receipt, in the tries of the header.

What the transaction itself pays stands in its signed bytes, what a token's event says in the
receipt, and both with the receipt's status. What a contract paid in the native coin stands in
neither: there the evidence is of the transaction alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from indexer.chains import Transfer
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evidence import Proof, TrieEvidence
from indexer.chains.evm_body import parsed
from indexer.chains.evm_decode import Content, transfers
from indexer.chains.evm_node import EvmNode
from indexer.chains.evm_proof import Log, header_bytes, prove, read_log, receipt_bytes
from indexer.chains.evm_transaction import raw_transaction
from indexer.chains.evm_trie import rlp_int, trie_path
from indexer.chains.evm_wire import WireBlock, WireReceipt, octets
from indexer.chains.failover import Endpoints
from indexer.chains.inclusion import Only, from_any, shows
from indexer.chains.jsonrpc import NodeError, shaped
from indexer.chains.rpc import Endpoint
from indexer.chains.transfer_event import TRANSFER_TOPIC, read_transfer

LACKING: Final = (Malformed, Missing, NodeError, NotProved)


async def prove_transfer(
    node: EvmNode, endpoints: Endpoints, block: bytes, transfer: Transfer
) -> Proof:
    """As the port says."""
    name = f"0x{block.hex()}"

    async def ask(endpoint: Endpoint) -> Proof:
        body = await node.body(endpoint, name)
        with shaped(endpoint):
            found, receipts = parsed(body)
        if octets(found.hash) != block:
            raise NotProved(f"asked for block {name}, the node answers with another")
        return proof(found, receipts, transfer)

    return await from_any(endpoints, name, ask, LACKING)


def proof(block: WireBlock, receipts: Sequence[WireReceipt], transfer: Transfer) -> Proof:
    """The way from a block's hash to a transfer; NotProved where the answers lead nowhere."""
    executions = prove(block, receipts)
    places = [at for at, each in enumerate(executions) if each.hash == transfer.tx]
    if not places:
        raise NotProved(f"block {block.hash} doesn't have transaction 0x{transfer.tx.hex()}")
    (index,) = places
    evidence = TrieEvidence(
        header=header_bytes(block),
        key=rlp_int(index),
        transaction=trie_path([raw_transaction(tx) for tx in block.transactions], index),
        receipt=trie_path([receipt_bytes(each) for each in receipts], index),
        log=_log_index([read_log(log) for log in receipts[index].logs], transfer),
    )
    told = transfers(Content(executions[index : index + 1], [], rebuilt=True), Only(transfer))
    return Proof(evidence, shows(told, transfer))


def _log_index(logs: Sequence[Log], transfer: Transfer) -> int | None:
    """Where a token's transfer stands among its transaction's logs."""
    ordinal = -1
    for at, log in enumerate(logs):
        if log.address == transfer.asset and log.topics and log.topics[0] == TRANSFER_TOPIC:
            for each in read_transfer(log.topics, log.data):
                ordinal += each.recipient == transfer.recipient
                if ordinal == transfer.ordinal:
                    return at
    return None
