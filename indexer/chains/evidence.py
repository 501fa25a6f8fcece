"""Evidence of a deposit for those who trust neither us nor our nodes: bytes that lead to a hash.

From a transaction's bytes (EVM: and its receipt's) to the root in a block's header, and from the
header's bytes to the block's hash. That this block is on the chain is what its reader knows or asks
elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec


class TrieEvidence(msgspec.Struct, frozen=True):
    """EVM: the nodes on the way to a transaction and to its receipt, each trie's root first."""

    header: bytes  # RLP; its Keccak-256 is the block's hash
    key: bytes  # RLP of the transaction's index: its path in both tries
    transaction: Sequence[bytes]
    receipt: Sequence[bytes]
    log: int | None  # where a token's event stands in the receipt


class Branch(msgspec.Struct, frozen=True):
    """A leaf's way to the root of a binary tree: the hash beside it at each level, bottom up.

    The bits of `position`, lowest first, say on which side the leaf's own hash stands.
    """

    transaction: bytes  # whose hash is the leaf
    position: int
    beside: Sequence[bytes | None]  # None: the last one goes up without a partner (TRON)


class TreeEvidence(msgspec.Struct, frozen=True):
    """TRON and UTXO. `coinbase`: that the leaf lies as deep as a transaction must (UTXO, P107)."""

    header: bytes
    branch: Branch
    coinbase: Branch | None = None


Evidence: TypeAlias = TrieEvidence | TreeEvidence


class Proof(msgspec.Struct, frozen=True):
    """`amount`: whether it shows what was paid, or only that the transaction is in the block."""

    evidence: Evidence
    amount: bool
