"""Bitcoin-like blocks for tests: recorded ones, and small ones made by hand."""

from __future__ import annotations

import gzip
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from indexer.chains.utxo_network import NETWORKS, Parameters
from indexer.chains.utxo_parse import RawBlock, parse_block
from indexer.chains.utxo_proof import double_sha256, merkle_root, prove_block
from indexer.devnet.utxo_block import (
    NO_OUTPOINT,
    Input,
    Output,
    Transaction,
    assemble,
    coinbase,
    count,
    mine,
)
from indexer.devnet.utxo_chain import SimulatedUtxoChain

REGTEST: Final = NETWORKS["btc", "regtest"]
_COINS: Final = {"bitcoin": "btc", "litecoin": "ltc", "dogecoin": "doge"}
_CHAINS: Final = {"testnet3": "testnet", "testnet4": "testnet"}


@dataclass(frozen=True)
class Sample(ABC):
    """A raw block and its network."""

    network: Parameters

    @property
    @abstractmethod
    def raw(self) -> bytes: ...

    def proved(self) -> RawBlock:
        return prove(self.raw, self.network)


@dataclass(frozen=True)
class Recorded(Sample):
    path: Path

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


@dataclass(frozen=True)
class Simulated(Sample):
    """The newest block of a chain in memory."""

    chain: SimulatedUtxoChain

    @property
    def raw(self) -> bytes:
        return self.chain.head.raw


def simulated(coin: str) -> Any:
    """A parameter: a merge-mined block where there are such, an extension block likewise."""
    chain = SimulatedUtxoChain(102, coin)
    payer, payee = chain.wallet("payer"), chain.wallet("payee").script
    for _ in range(2):
        chain.pay(payer, (payee, 1))
        if chain.network.mweb:
            chain.peg_out((payee, 2), (payee, 10**9))
        chain.mine()
    return pytest.param(Simulated(chain.network, chain), id=f"{coin}-simulated")


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
        found.append(pytest.param(Recorded(network, path), id=f"{network.coin}-{path.stem}"))
    return found


def prove(raw: bytes, network: Parameters) -> RawBlock:
    """Parsed and proved to have the hash that its header has."""
    block = parse_block(raw, network)
    prove_block(block, double_sha256(raw[:80]), network)
    return block


# ------------------------------------------------------------------------------ made by hand

COIN: Final = b"\x77" * 32 + bytes(4)  # an outpoint
COINBASE: Final = Input(NO_OUTPOINT, b"\x01\x01\x00")


def spending(script: bytes = b"", witness: tuple[bytes, ...] = (), outpoint: bytes = COIN) -> Input:
    return Input(outpoint, script, witness)


def transaction(inputs: Sequence[Input], outputs: Sequence[tuple[int, bytes]]) -> Transaction:
    return Transaction(tuple(inputs), tuple(Output(*output) for output in outputs))


def block(
    *others: Transaction,
    network: Parameters = REGTEST,
    reward: Sequence[tuple[int, bytes]] = ((50, b"\x51"),),
) -> bytes:
    """A mined block of a coinbase and these transactions, with the commitment that it needs."""
    first = coinbase(7, b"test", Output(0, b"\x51"), others)
    committed = [(output.units, output.script) for output in first.outputs[1:]]
    first = transaction(first.inputs, [*reward, *committed])
    return assemble(network, bytes(32), 1, [first, *others])


def of(*transactions: Transaction) -> bytes:
    """The same of just these, whatever they are."""
    return assemble(REGTEST, bytes(32), 1, transactions)


def litecoin_block(last: bytes, *others: Transaction) -> bytes:
    """A block that `last` closes, and nothing of an extension block behind it."""
    network = NETWORKS["ltc", "regtest"]
    first = coinbase(7, b"test", Output(50, b"\x51"), others)
    bare = last[:4] + last[6:-5] + last[-4:]
    root = merkle_root([*(tx.txid for tx in (first, *others)), double_sha256(bare)])
    header = mine(network, bytes(32) + root + bytes(4))
    body = b"".join(tx.raw for tx in (first, *others))
    return header + count(2 + len(others)) + body + last + b"\0"
