"""Evidence of a deposit on a TRON network: its transaction, in the tree that the header commits to.

The transaction's bytes hold what it pays in TRX and TRC-10 tokens, and that it succeeded. Logs,
every TRC-20 transfer among them, and internal payments stand under no root (P79): there the
evidence is of the transaction alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from indexer.chains import Transfer
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evidence import Branch, Proof, TreeEvidence
from indexer.chains.failover import Endpoints
from indexer.chains.inclusion import Only, from_any, shows
from indexer.chains.rpc import Endpoint
from indexer.chains.tron_decode import Content, transfers
from indexer.chains.tron_execution import SUCCESS, Execution
from indexer.chains.tron_node import TronNode
from indexer.chains.tron_proof import (
    ProvedTransaction,
    header_bytes,
    level_above,
    prove,
    prove_header,
    whole_bytes,
)
from indexer.chains.tron_transaction import read_order
from indexer.chains.tron_wire import WireBlock

LACKING: Final = (Malformed, Missing, NotProved)


async def prove_transfer(
    node: TronNode, endpoints: Endpoints, height: int, block: bytes, transfer: Transfer
) -> Proof:
    """As the port says."""

    async def ask(endpoint: Endpoint) -> Proof:
        (found,) = (await node.blocks(endpoint, height, height)).value
        if prove_header(found) != block:
            raise NotProved(f"{endpoint.name} has another block at height {height}")
        return proof(found, transfer)

    return await from_any(endpoints, block.hex(), ask, LACKING)


def proof(block: WireBlock, transfer: Transfer) -> Proof:
    """The way from a block's id to a transfer; NotProved where JSON can't rebuild it (P80)."""
    proved = prove(block)
    if not proved.complete:
        raise NotProved(f"the transactions of block {block.blockID} can't be rebuilt from JSON")
    places = [at for at, tx in enumerate(proved.transactions) if tx.id == transfer.tx]
    if not places:
        raise NotProved(f"block {block.blockID} doesn't have transaction {transfer.tx.hex()}")
    (position,) = places
    branch = Branch(
        transaction=whole_bytes(block.transactions[position]),
        position=position,
        beside=beside([tx.leaf for tx in proved.transactions], position),
    )
    content = Content([_execution(proved.transactions[position])], [], True, 0, 0)
    told = transfers(content, Only(transfer))
    return Proof(TreeEvidence(header_bytes(block.data), branch), shows(told, transfer))


def beside(leaves: Sequence[bytes], position: int) -> list[bytes | None]:
    """The hashes beside the way from a leaf to the root; None where it goes up alone."""
    found: list[bytes | None] = []
    level = leaves
    while len(level) > 1:
        partner = position ^ 1
        found.append(level[partner] if partner < len(level) else None)
        level, position = level_above(level), position // 2
    return found


def _execution(tx: ProvedTransaction) -> Execution:
    """What became of a transaction as far as its own bytes say."""
    said = [result.contractRet for result in tx.results]
    status = True if said == [SUCCESS] else None
    return Execution(tx.id, read_order(tx.raw, tx.id), status, logs=(), internal=())
