"""The EVM adapter reads the simulated node as any: what it finds is what was truly paid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from indexer.chains import NATIVE
from indexer.chains.evm import EvmChain
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.truth import deposits_due
from indexer.model import Refused

STEPS = 40


class Watched:
    def __init__(self, keys: Collection[bytes], assets: Collection[bytes]) -> None:
        self.assets = assets
        self._keys = set(keys)

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return [key in self._keys for key in keys]


@dataclass(frozen=True)
class OneEndpoint:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ws: str | None = None


@dataclass(frozen=True)
class Rules:
    endpoints: Sequence[OneEndpoint]
    native: str
    chain_id: int
    verify: str = "full"
    quorum: int = 1
    finality: str = "network"
    reorg_window: int = 64
    id: str = "net"


def adapter(node: EvmNode, native: str, chain_id: int | None = None) -> EvmChain:
    return EvmChain(Rules([OneEndpoint(node.url)], native, chain_id or node.chain.chain_id))


@pytest.mark.parametrize("native", ["off", "transactions", "traces"])
@pytest.mark.pitfall("P1", "P3", "P5", "P6", "P9", "P11", "P20", "P21", "P24", "P25", "P26", "P38")
async def test_the_adapter_finds_exactly_what_the_contracts_paid(native: str) -> None:
    chain = SimulatedChain(11)
    addresses = [chain.wallet(f"watched {n}").address for n in range(4)]
    traffic = EvmTraffic(chain, addresses, Random(11))
    for _ in range(STEPS):
        traffic.step()
    assets = traffic.tokens if native == "off" else (NATIVE, *traffic.tokens)
    async with EvmNode(chain) as node:
        reader = adapter(node, native)
        try:
            await reader.connect()
            found = {
                (t.tx, t.recipient, t.asset, t.ordinal): (t.units, t.sender, block.header, t.odd)
                async for block in reader.blocks(1, chain.head.number)
                for t in reader.transfers(block, Watched(addresses, assets))
            }
        finally:
            await reader.close()
    due = deposits_due(chain.branch(), addresses, assets, internal=native == "traces")
    assert {i: (d.units, d.sender, d.height, d.hash, d.odd) for i, d in due.items()} == {
        i: (units, sender, header.height, header.hash, odd)
        for i, (units, sender, header, odd) in found.items()
    }
    assert len(due) > STEPS // 2


async def test_the_adapter_reads_tokens_tip_and_finalized_block() -> None:
    chain = SimulatedChain(12, finality=5)
    traffic = EvmTraffic(chain, [chain.wallet("watched").address], Random(12))
    for _ in range(8):
        traffic.quiet()
    async with EvmNode(chain) as node:
        reader = adapter(node, "traces")
        try:
            assert (await reader.connect()).startswith(f"evm:{chain.chain_id}:0x")
            token = await reader.token(traffic.tokens[0])
            assert (token.name, token.symbol, token.decimals) == ("Simulated Dollar", "SIMD", 6)
            with pytest.raises(Refused):
                await reader.token(traffic.addresses[0])
            tip, finalized = await reader.tip(), await reader.finalized()
        finally:
            await reader.close()
    assert (tip.height, tip.hash) == (8, chain.head.hash)
    assert finalized is not None
    assert finalized.height == 3


async def test_another_chain_id_is_refused() -> None:
    async with EvmNode(SimulatedChain(13)) as node:
        reader = adapter(node, "off", chain_id=99)
        try:
            with pytest.raises(Refused, match="serves chain 420042, not 99"):
                await reader.connect()
        finally:
            await reader.close()
