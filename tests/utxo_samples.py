"""Bitcoin-like blocks for tests: recorded ones, and small ones made by hand."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from indexer.chains.utxo_network import NETWORKS, Parameters
from indexer.chains.utxo_parse import RawBlock, parse_block
from indexer.chains.utxo_proof import (
    COMMITMENT,
    double_sha256,
    merkle_root,
    prove_block,
    target,
    work_hash,
)

REGTEST: Final = NETWORKS["btc", "regtest"]
EASY_BITS: Final = REGTEST.easiest
_COINS: Final = {"bitcoin": "btc", "litecoin": "ltc", "dogecoin": "doge"}
_CHAINS: Final = {"testnet3": "testnet", "testnet4": "testnet"}


@dataclass(frozen=True)
class Recorded:
    """A recorded raw block and its network."""

    path: Path
    network: Parameters

    @property
    def raw(self) -> bytes:
        return self.path.read_bytes()

    @property
    def decoded(self) -> list[dict[str, Any]]:
        """Its transactions as `decoderawtransaction` of Bitcoin Core 28.1 shows them."""
        with gzip.open(self.path.with_name(f"{self.path.stem}_txs_decoded_core28.1.json.gz")) as f:
            by_hash: dict[str, Any] = json.load(f)
        transactions: list[dict[str, Any]] = by_hash["tx"]
        return transactions

    def proved(self) -> RawBlock:
        return prove(self.raw, self.network)


def recorded(name: str = "*", coin: str = "*") -> list[Any]:
    """Parameters: recorded blocks, skipped where there are none."""
    root = os.environ.get("CHAIN_FIXTURES")
    if root is None:
        skip = pytest.mark.skip(reason="CHAIN_FIXTURES names no folder of recorded blocks")
        return [pytest.param(None, marks=skip, id="none")]
    found = []
    for path in sorted(Path(root).glob(f"{coin}/{name}.raw")):
        if path.parent.name not in _COINS or "undo" in path.name:
            continue
        chain = path.stem.split("_")[0]
        network = NETWORKS[_COINS[path.parent.name], _CHAINS.get(chain, chain)]
        found.append(pytest.param(Recorded(path, network), id=f"{network.coin}-{path.stem}"))
    return found


def prove(raw: bytes, network: Parameters) -> RawBlock:
    """Parsed and proved to have the hash that its header has."""
    block = parse_block(raw, network)
    prove_block(block, double_sha256(raw[:80]), network)
    return block


# ------------------------------------------------------------------------------ made by hand


def sized(data: bytes) -> bytes:
    return count(len(data)) + data


def count(number: int) -> bytes:
    if number < 253:
        return bytes((number,))
    return b"\xfd" + number.to_bytes(2, "little")


@dataclass(frozen=True)
class Input:
    outpoint: bytes = b"\x77" * 32 + bytes(4)
    script: bytes = b""
    witness: tuple[bytes, ...] = ()


COINBASE: Final = Input(bytes(32) + b"\xff" * 4, b"\x01\x01\x00")


def transaction(inputs: Sequence[Input], outputs: Sequence[tuple[int, bytes]]) -> bytes:
    """Version 2, no lock time; with witnesses where an input has one."""
    vin = count(len(inputs)) + b"".join(i.outpoint + sized(i.script) + b"\xff" * 4 for i in inputs)
    vout = count(len(outputs)) + b"".join(v.to_bytes(8, "little") + sized(s) for v, s in outputs)
    start, end = (2).to_bytes(4, "little"), bytes(4)
    if not any(i.witness for i in inputs):
        return start + vin + vout + end
    stacks = b"".join(count(len(i.witness)) + b"".join(map(sized, i.witness)) for i in inputs)
    return start + b"\0\1" + vin + vout + stacks + end


def block(
    *transactions: bytes,
    network: Parameters = REGTEST,
    reward: Sequence[tuple[int, bytes]] = ((50, b"\x51"),),
    root: bytes | None = None,
) -> bytes:
    """A mined block of a coinbase and these transactions, with the commitment that it needs."""
    coinbase = transaction([COINBASE], reward)
    if any(tx[4] == 0 for tx in transactions):
        reserved = bytes(32)
        hashes = [bytes(32), *map(double_sha256, transactions)]
        script = COMMITMENT + double_sha256(merkle_root(hashes) + reserved)
        committing = Input(COINBASE.outpoint, COINBASE.script, (reserved,))
        coinbase = transaction([committing], [*reward, (0, script)])
    body = b"".join([coinbase, *transactions])
    found = parse_block(bytes(80) + count(1 + len(transactions)) + body, network)
    header = mine(root or merkle_root(found.txids), network)
    return header + count(1 + len(transactions)) + body


def mine(root: bytes, network: Parameters = REGTEST, version: int = 2) -> bytes:
    start = version.to_bytes(4, "little") + bytes(32) + root + bytes(4)
    start += EASY_BITS.to_bytes(4, "little")
    for nonce in range(1 << 16):
        header = start + nonce.to_bytes(4, "little")
        found = work_hash(header, scrypt=network.scrypt)
        if int.from_bytes(found, "little") <= target(EASY_BITS):
            return header
    raise AssertionError("regtest's target is met by every second header")
