"""Evidence of a deposit on a Bitcoin-like network: its transaction, in the tree of the header.

The bytes are those that the transaction's id is the hash of, without witnesses; they hold the
output. The coinbase's branch comes with it: a transaction of 64 bytes can pose as a node of the
tree, with anything below it, but nothing else is as deep as the coinbase (P107).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from indexer.chains import Transfer
from indexer.chains.evidence import Branch, Proof, TreeEvidence
from indexer.chains.failover import Endpoints
from indexer.chains.inclusion import Only, from_any, shows
from indexer.chains.rpc import Endpoint
from indexer.chains.utxo_decode import transfers
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_node import Missing, UtxoNode
from indexer.chains.utxo_parse import RawBlock, body_of, parse_block
from indexer.chains.utxo_proof import NotProved, double_sha256, prove_block
from indexer.chains.utxo_wire import Malformed, compact_size

LACKING: Final = (Missing, NotProved)


async def prove_transfer(
    node: UtxoNode, endpoints: Endpoints, network: Parameters, block: bytes, transfer: Transfer
) -> Proof:
    """As the port says."""

    async def ask(endpoint: Endpoint) -> Proof:
        raw = await node.kept_block(endpoint, block)
        try:
            parsed = parse_block(raw, network)
        except Malformed as error:
            raise NotProved(f"{endpoint.name}: block {block.hex()}: {error}") from None
        prove_block(parsed, block[::-1], network)
        return proof(parsed, network, transfer)

    return await from_any(endpoints, block.hex(), ask, LACKING)


def proof(block: RawBlock, network: Parameters, transfer: Transfer) -> Proof:
    """The way from a proved block's hash to a transfer; NotProved where it hasn't got it."""
    if transfer.tx[::-1] not in block.txids:
        raise NotProved(f"a block doesn't have transaction {transfer.tx.hex()}")
    branches = [
        Branch(stripped(block, position), position, beside(block.txids, position))
        for position in (block.txids.index(transfer.tx[::-1]), 0)
    ]
    told = transfers(block, network, Only(transfer))
    return Proof(TreeEvidence(block.header, *branches), shows(told, transfer))


def beside(leaves: Sequence[bytes], position: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root; a last one alone is its own partner."""
    found: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        found.append(level[position ^ 1])
        pairs = zip(level[::2], level[1::2], strict=True)
        level, position = [double_sha256(left + right) for left, right in pairs], position // 2
    return found


def stripped(block: RawBlock, number: int) -> bytes:
    """The bytes of a transaction that its id is the hash of: without witnesses."""
    raw, start = block.raw, block.starts[number]
    end = [*block.starts, block.end][number + 1]
    flag, body = body_of(raw, start)
    if not flag:
        return raw[start:end]
    last = block.places[[*block.outputs, len(block.places)][number + 1] - 1]
    size, script = compact_size(raw, last + 8)
    return raw[start : start + 4] + raw[body : script + size] + raw[end - 4 : end]
