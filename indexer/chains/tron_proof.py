"""Proof that a TRON node's answer is the block that its id names, as far as its JSON allows.

block id ← the header's bytes → parent, time, and the root of the transactions' tree
transaction id ← its signed bytes
root ← every transaction's bytes, signatures and `contractRet`, in their order

JSON drops protobuf fields that the node doesn't know, and they count for the root: a root that
can't be rebuilt is no proof of a lie (P80). Nothing commits to logs and internal transactions: only
another node can say the same of them (P79).

Source: java-tron's `BlockCapsule` (calcMerkleRoot, getBlockId), `MerkleTree`, `TransactionCapsule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from indexer.chains.answers import NotProved
from indexer.chains.protobuf import field, string
from indexer.chains.tron_wire import (
    WireBlock,
    WireHeaderData,
    WireResult,
    WireTransaction,
    octets,
    sized,
)

NO_TRANSACTIONS: Final = bytes(32)  # the root of an empty block

# Protocol.Transaction.Result.contractResult
RESULTS: Final = {
    name: number
    for number, name in enumerate(
        (
            "DEFAULT",
            "SUCCESS",
            "REVERT",
            "BAD_JUMP_DESTINATION",
            "OUT_OF_MEMORY",
            "PRECOMPILED_CONTRACT",
            "STACK_TOO_SMALL",
            "STACK_TOO_LARGE",
            "ILLEGAL_OPERATION",
            "STACK_OVERFLOW",
            "OUT_OF_ENERGY",
            "OUT_OF_TIME",
            "JVM_STACK_OVER_FLOW",
            "UNKNOWN",
            "TRANSFER_FAILED",
            "INVALID_CODE",
        )
    )
}
_CODES: Final = {"SUCESS": 0, "FAILED": 1}  # spelt so in Protocol.Transaction.Result.code


class ProvedTransaction(NamedTuple):
    """A transaction whose bytes are those of its id."""

    id: bytes
    raw: bytes
    leaf: bytes  # its hash with signatures and results, as well as JSON gives them
    results: Sequence[WireResult]


class Proved(NamedTuple):
    transactions: list[ProvedTransaction]
    complete: bool  # the root was rebuilt: nothing is missing, added or altered


def header_id(data: WireHeaderData) -> bytes:
    """A block's id: its height, and the end of its header's hash."""
    digest = sha256(header_bytes(data)).digest()
    return data.number.to_bytes(8, "big") + digest[8:]


def header_bytes(data: WireHeaderData) -> bytes:
    return b"".join(
        (
            field(1, data.timestamp),
            field(2, octets(data.txTrieRoot)),
            field(3, octets(data.parentHash)),
            field(7, data.number),
            field(8, data.witness_id),
            field(9, octets(data.witness_address)),
            field(10, data.version),
            field(11, octets(data.accountStateRoot)),
        )
    )


def prove_header(block: WireBlock) -> bytes:
    """The block's id, which its header's bytes must give."""
    named = sized(block.blockID, 32)
    if block.data.number < 0 or header_id(block.data) != named:
        raise NotProved(f"block {block.blockID} does not prove: its header has another id")
    return named


def prove(block: WireBlock) -> Proved:
    """The block's transactions; `complete` says whether its root could be rebuilt from JSON."""
    transactions = [_prove_transaction(tx) for tx in block.transactions]
    if len({tx.id for tx in transactions}) < len(transactions):
        raise NotProved(f"block {block.blockID} does not prove: it has a transaction twice")
    root, named = merkle_root([tx.leaf for tx in transactions]), octets(block.data.txTrieRoot)
    if not transactions and root != named:
        raise NotProved(f"block {block.blockID} does not prove: its transactions were left out")
    return Proved(transactions, root == named)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Pairs are hashed together; a last one without partner goes up as it is."""
    if not leaves:
        return NO_TRANSACTIONS
    level = leaves
    while len(level) > 1:
        level = level_above(level)
    return level[0]


def level_above(level: Sequence[bytes]) -> Sequence[bytes]:
    """The next level of the tree, nearer to the root."""
    above = [sha256(a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
    return [*above, *level[len(level) - len(level) % 2 :]]


def transaction_bytes(raw: bytes, signatures: Sequence[bytes], results: Sequence[bytes]) -> bytes:
    """A serialized Transaction, whose hash is its leaf."""
    return b"".join(
        (
            string(1, raw),
            *(string(2, signature) for signature in signatures),
            *(string(5, result) for result in results),
        )
    )


def whole_bytes(tx: WireTransaction) -> bytes:
    """A transaction with its signatures and results, as well as JSON gives them."""
    return transaction_bytes(
        octets(tx.raw_data_hex),
        [octets(each) for each in tx.signature],
        [result_bytes(each) for each in tx.ret],
    )


def result_bytes(result: WireResult) -> bytes:
    """A serialized Transaction.Result; of an unknown code only what JSON could say."""
    code = result.contractRet
    number = code if isinstance(code, int) else RESULTS.get(code or "DEFAULT", 0)
    return field(1, result.fee) + field(2, _CODES.get(result.ret or "", 0)) + field(3, number)


def _prove_transaction(tx: WireTransaction) -> ProvedTransaction:
    raw = octets(tx.raw_data_hex)
    named = sized(tx.txID, 32)
    if sha256(raw).digest() != named:
        raise NotProved(f"transaction {tx.txID} does not prove: its bytes have another id")
    return ProvedTransaction(named, raw, sha256(whole_bytes(tx)).digest(), tx.ret)
