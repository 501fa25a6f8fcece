"""Merge-mined headers (Dogecoin): without work of their own, named by a parent block that has it.

As `auxpow.cpp` of Dogecoin Core reads them.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Final

from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_parse import AUXPOW
from indexer.chains.utxo_proof import MERGED_MINING, double_sha256, fold, slot
from indexer.devnet.utxo_block import (
    NO_OUTPOINT,
    Input,
    Output,
    Transaction,
    count,
    is_worked,
    mine,
)

RULES: Final = 4  # the version beside its flags, as Dogecoin's blocks have it
HEIGHT: Final = 2  # of the tree of chains mined together: four of them
SIBLINGS: Final = 3  # hashes between the parent's coinbase and its merkle root
ANYONE: Final = b"\x51"


def merge_mine(network: Parameters, chain_id: int, middle: bytes, bits: int, rng: Random) -> bytes:
    """A header around parent, root and time, and all that stands before its transactions."""
    version = chain_id << 16 | AUXPOW | RULES
    start = version.to_bytes(4, "little") + middle + bits.to_bytes(4, "little")
    headers = (start + nonce.to_bytes(4, "little") for nonce in itertools.count())
    header = next(each for each in headers if not is_worked(network, each, bits))
    nonce = rng.getrandbits(32)
    place = slot(nonce, chain_id, HEIGHT)
    chains, siblings = ([rng.randbytes(32) for _ in range(n)] for n in (HEIGHT, SIBLINGS))
    root = fold(double_sha256(header), chains, place)[::-1]
    numbers = (1 << HEIGHT).to_bytes(4, "little") + nonce.to_bytes(4, "little")
    script = b"\x01\x01" + MERGED_MINING + root + numbers
    coinbase = Transaction((Input(NO_OUTPOINT, script),), (Output(0, ANYONE),))
    paid = fold(coinbase.txid, siblings, 0)
    parent = mine(network, rng.randbytes(32) + paid + header[68:72], bits=bits)
    work = coinbase.raw + double_sha256(parent) + _path(siblings, 0) + _path(chains, place)
    return header + work + parent


def _path(branch: list[bytes], position: int) -> bytes:
    return count(len(branch)) + b"".join(branch) + position.to_bytes(4, "little")
