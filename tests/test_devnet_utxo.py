"""Traffic of the simulated Bitcoin-like chain: the adapter reads it as any chain's, and agrees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from indexer.chains import NATIVE
from indexer.chains.utxo import UtxoChain
from indexer.devnet.truth import NOBODY
from indexer.devnet.utxo_block import NO_OUTPOINT, Transaction
from indexer.devnet.utxo_chain import ANYONE, SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_traffic import CHANGE, FEE, UtxoTraffic
from indexer.devnet.utxo_wallet import Kind
from tests.evm_samples import Watching

STEPS = 80


@dataclass(frozen=True)
class OneEndpoint:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    zmq: str | None = None


@dataclass(frozen=True)
class Rules:
    endpoints: Sequence[OneEndpoint]
    coin: str = "btc"
    chain: str = "regtest"
    quorum: int = 1
    reorg_window: int = 8
    id: str = "net"


def make_traffic(seed: int = 1, steps: int = STEPS) -> UtxoTraffic:
    chain = SimulatedUtxoChain(seed, clock=lambda: 1_700_000_000)
    wallets = [chain.wallet(f"watched {kind}", kind) for kind in Kind]
    traffic = UtxoTraffic(chain, wallets, Random(seed))
    for _ in range(steps):
        traffic.step()
    return traffic


def mined(traffic: UtxoTraffic) -> list[Transaction]:
    return [tx for block in traffic.chain.branch(1) for tx in block.transactions]


@pytest.mark.pitfall("P87", "P88", "P89", "P91", "P92", "P93", "P94", "P98", "P113")
async def test_the_adapter_finds_exactly_what_is_due() -> None:
    traffic = make_traffic(11)
    async with UtxoNode(traffic.chain) as node:
        reader = UtxoChain(Rules([OneEndpoint(node.url)]))
        try:
            await reader.connect()
            watch = Watching([NATIVE], set(traffic.addresses))
            found = [
                (block.header, transfer)
                async for block in reader.blocks(1, traffic.chain.head.number)
                for transfer in reader.transfers(block, watch)
            ]
        finally:
            await reader.close()
    due = traffic.due()
    assert {i: (d.units, d.height, d.hash, d.odd, d.maturity) for i, d in due.items()} == {
        (t.tx, t.recipient, t.asset, t.ordinal): (
            t.units, header.height, header.hash, t.odd, t.maturity,
        )
        for header, t in found
    }  # fmt: skip
    for _, transfer in found:
        owed = due[transfer.tx, transfer.recipient, NATIVE, transfer.ordinal]
        assert transfer.sender in (None, owed.sender or None)
    assert {address for _, address, _, _ in due} == set(traffic.addresses)
    assert len(due) > STEPS
    assert any(owed.sender == traffic.own for owed in due.values())
    assert {(owed.odd, owed.maturity > 0) for owed in due.values()} >= {
        (False, False), (True, False), (False, True),
    }  # fmt: skip


def test_a_seed_decides_every_hash() -> None:
    def hashes(seed: int) -> list[bytes]:
        return [block.hash for block in make_traffic(seed, 25).chain.branch(1)]

    assert hashes(7) == hashes(7)
    assert set(hashes(7)).isdisjoint(hashes(8))


def test_blocks_link_and_no_coin_is_spent_twice_whatever_was_replaced() -> None:
    traffic = make_traffic(3)
    for parent, child in pairwise(traffic.chain.branch()):
        assert (child.parent, child.number) == (parent.hash, parent.number + 1)
    spent = Counter(each.outpoint for tx in mined(traffic) for each in tx.inputs)
    minted = spent.pop(NO_OUTPOINT)
    assert minted == traffic.chain.head.number
    assert set(spent.values()) == {1}


@pytest.mark.pitfall("P87", "P98")
def test_the_higher_bid_is_mined_and_the_lower_one_never() -> None:
    traffic = make_traffic(5)
    higher = [tx for tx in mined(traffic) if tx.outputs[-1].units == CHANGE - FEE]
    coins = {tx.inputs[0].outpoint for tx in higher}
    spending = [tx for tx in mined(traffic) if tx.inputs[0].outpoint in coins]
    assert spending == higher
    assert len(higher) > 3
    assert {tx.hash for tx in higher} <= {tx for tx, *_ in traffic.due()}


@pytest.mark.pitfall("P87", "P109")
def test_reorganisations_replace_payments_for_good_and_coinbases_always() -> None:
    traffic = make_traffic(9, 0)
    seen: dict[bytes, bool] = {}  # transaction of a due payment: whether it was new money
    for _ in range(STEPS):
        traffic.step()
        seen |= {tx: owed.maturity > 0 for (tx, *_), owed in traffic.due().items()}
    traffic.quiet()
    gone = seen.keys() - {tx for tx, *_ in traffic.due()}
    assert {seen[tx] for tx in gone} == {False, True}
    taken_back = [tx for tx in mined(traffic) if [o.script for o in tx.outputs] == [ANYONE]]
    assert sum(tx.inputs[0].outpoint != NO_OUTPOINT for tx in taken_back) > 0


def test_what_many_paid_has_no_sender() -> None:
    senders = Counter(owed.sender == NOBODY for owed in make_traffic(2).due().values())
    assert senders[True] > 3
    assert senders[False] > 30
