"""Transactions and blocks of the simulated Bitcoin-like chains: real bytes, real ids, real work.

At a regtest's ease: every second header meets its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_proof import COMMITMENT, double_sha256, merkle_root, target, work_hash

VERSION: Final = 2  # of transactions; no lock time
BLOCK_VERSION: Final = 0x20000000  # says nothing (BIP 9)
FINAL: Final = b"\xff" * 4  # an input's sequence
NO_OUTPOINT: Final = bytes(32) + b"\xff" * 4  # what a coinbase spends
RESERVED: Final = bytes(32)  # the coinbase's witness
NONCES: Final = 1 << 20  # tried before it gives up


@dataclass(frozen=True, slots=True)
class Input:
    """What is spent, and what the spending reveals. Nobody here checks a signature."""

    outpoint: bytes  # 36 bytes, as serialised
    script: bytes = b""
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    units: int  # base units
    script: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    closing: bool = False  # Litecoin's last: to and from its extension block
    raw: bytes = field(init=False)
    txid: bytes = field(init=False)  # in the order of the hash function

    def __post_init__(self) -> None:
        body = count(len(self.inputs))
        body += b"".join(i.outpoint + sized(i.script) + FINAL for i in self.inputs)
        body += count(len(self.outputs))
        body += b"".join(o.units.to_bytes(8, "little") + sized(o.script) for o in self.outputs)
        start, end = VERSION.to_bytes(4, "little"), bytes(4)
        bare = start + body + end
        stacks = b"".join(
            count(len(i.witness)) + b"".join(map(sized, i.witness)) for i in self.inputs
        )
        if self.closing:
            raw = start + b"\0\x08" + body + b"\0" + end
        else:
            raw = start + b"\0\1" + body + stacks + end if self.witnessed else bare
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "txid", double_sha256(bare))

    @property
    def witnessed(self) -> bool:
        return any(each.witness for each in self.inputs)

    @property
    def wtxid(self) -> bytes:
        """What the coinbase commits to."""
        return self.txid if self.closing else double_sha256(self.raw)

    @property
    def hash(self) -> bytes:
        """The id as it is shown."""
        return self.txid[::-1]


def count(number: int) -> bytes:
    """A length or a count as it is serialised, below 2^32."""
    if number < 253:
        return bytes((number,))
    if number < 1 << 16:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")


def sized(data: bytes) -> bytes:
    return count(len(data)) + data


def coinbase(
    height: int, extra: bytes, reward: Output, others: Sequence[Transaction]
) -> Transaction:
    """A block's first transaction: names the height (BIP 34), commits to witnesses if there are."""
    number = height.to_bytes((height.bit_length() + 8) // 8, "little") if height else b""
    script = sized(number) + sized(extra)
    if not any(tx.witnessed for tx in others):
        return Transaction((Input(NO_OUTPOINT, script),), (reward,))
    leaves = [bytes(32), *(tx.wtxid for tx in others)]
    commitment = COMMITMENT + double_sha256(merkle_root(leaves) + RESERVED)
    return Transaction((Input(NO_OUTPOINT, script, (RESERVED,)),), (reward, Output(0, commitment)))


def assemble(
    network: Parameters,
    parent: bytes,
    time: int,
    transactions: Sequence[Transaction],
    bits: int | None = None,
) -> bytes:
    """A mined block's bytes; `parent` as hashed, `bits` the network's easiest unless said."""
    return mine(network, middle(parent, time, transactions), bits=bits) + body(transactions)


def middle(parent: bytes, time: int, transactions: Sequence[Transaction]) -> bytes:
    """What stands in a header between its version and its bits."""
    return parent + merkle_root([tx.txid for tx in transactions]) + time.to_bytes(4, "little")


def body(transactions: Sequence[Transaction]) -> bytes:
    """What follows the header."""
    return count(len(transactions)) + b"".join(tx.raw for tx in transactions)


def mine(
    network: Parameters, middle: bytes, version: int = BLOCK_VERSION, bits: int | None = None
) -> bytes:
    """A header around parent, root and time that has its work done."""
    bits = network.easiest if bits is None else bits
    start = version.to_bytes(4, "little") + middle + bits.to_bytes(4, "little")
    for nonce in range(NONCES):
        header = start + nonce.to_bytes(4, "little")
        if is_worked(network, header, bits):
            return header
    raise ValueError("only a regtest's work can be done here")


def is_worked(network: Parameters, header: bytes, bits: int) -> bool:
    """Whether a header's own hash meets a target."""
    return int.from_bytes(work_hash(header, scrypt=network.scrypt), "little") <= target(bits)
