"""A block can't ask for much less work than its parent: what a lying node would need."""

from __future__ import annotations

import bz2
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from indexer.chains.utxo_network import NETWORKS, Parameters, Retarget
from indexer.chains.utxo_proof import NotProved
from indexer.chains.utxo_retarget import prove_target
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.model import Unavailable
from tests.test_utxo_chain import Scripted, read, reading

BTC, LTC, DOGE = (NETWORKS[coin, "mainnet"] for coin in ("btc", "ltc", "doge"))
HARDER = 0x2003FFFF  # 32 times as hard as regtest asks
EASIEST = 0x207FFFFF


def follow(network: Parameters, height: int, before: int, bits: int) -> None:
    """As a header of the latter target would after one of the former."""
    header, parent = (bytes(72) + each.to_bytes(4, "little") + bytes(4) for each in (bits, before))
    prove_target(header, parent, height, network)


@pytest.mark.pitfall("P108")
@pytest.mark.parametrize(
    ("network", "height", "before", "most"),
    [
        (BTC, 32257, 0x1D00D86A, 0x1D00D86A),
        (BTC, 46368, 0x1C387F6F, 0x1D00E1FD),  # as easy as a retarget can make it
        (BTC, 46369, 0x1D00E1FD, 0x1D00E1FD),
        (NETWORKS["btc", "signet"], 2016 * 9, 0x1C387F6F, 0x1D00E1FD),
        (LTC, 2016 * 400, 0x1A01CD2D, 0x1A0734B4),
        (LTC, 2016 * 400 + 1, 0x1A01CD2D, 0x1A01CD2D),
        (DOGE, 144_960, 0x1B671062, 0x1C019C41),
        (DOGE, 144_999, 0x1B671062, 0x1B671062),
        (DOGE, 145_000, 0x1B671062, 0x1C009A98),
        (DOGE, 5_000_001, 0x1A012345, 0x1A01B4E7),
    ],
)
def test_a_target_may_grow_as_far_as_the_network_lets_it(
    network: Parameters, height: int, before: int, most: int
) -> None:
    for bits in (before, most, most - 1):
        follow(network, height, before, bits)
    for bits in (most + 1, network.easiest):
        with pytest.raises(NotProved, match="less work than may follow"):
            follow(network, height, before, bits)


def test_real_retargets_are_let_through() -> None:
    for height, before, bits in (
        (32_256, 0x1D00FFFF, 0x1D00D86A),
        (68_544, 0x1C05A3F4, 0x1C0168FD),
        (46_368, 0x1C387F6F, 0x1D00E1FD),
    ):
        follow(BTC, height, before, bits)


def test_the_first_255_blocks_keep_their_target(chain_fixtures: Path) -> None:
    stored = bz2.decompress((chain_fixtures / "bitcoin" / "mainnet_1-255.blkdat.bz2").read_bytes())
    headers, at = [], 0
    while at < len(stored):
        headers.append(stored[at + 8 : at + 88])
        at += 8 + int.from_bytes(stored[at + 4 : at + 8], "little")
    for height, (parent, header) in enumerate(pairwise(headers), start=2):
        prove_target(header, parent, height, BTC)
    assert len(headers) == 255


@pytest.mark.parametrize("coin", ["btc", "ltc", "doge"])
@pytest.mark.parametrize("chain", ["testnet", "regtest"])
def test_a_test_network_lets_any_target_follow_any(coin: str, chain: str) -> None:
    network = NETWORKS[coin, chain]
    for height in (1, 2016, 3000):
        follow(network, height, 0x1A012345, network.easiest)


@pytest.mark.pitfall("P108")
async def test_a_node_that_goes_on_with_cheap_blocks_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = replace(NETWORKS["btc", "regtest"], retargets=(Retarget(0, 4, (2, 1)),))
    monkeypatch.setattr("indexer.chains.utxo.NETWORKS", {("btc", "regtest"): strict})
    chain = SimulatedUtxoChain(108)
    for number in range(1, 7):
        chain.mine(bits=HARDER - (number >= 4))  # harder at the retarget
    async with Scripted(chain) as node, reading(node) as reader:
        await reader.connect()
        assert len(await read(reader, 0, 6)) == 7
        chain.mine(bits=EASIEST)
        for first in (5, 7):  # below its parent in one request, and on its own
            with pytest.raises(Unavailable, match="less work than may follow"):
                await read(reader, first, 7)
        chain.rewind(1)
        chain.mine(bits=HARDER - 1)
        assert len(await read(reader, 7, 7)) == 1

        def another(raw: object) -> object:
            return "00" * 80 if isinstance(raw, str) else raw

        node.twist("getblockheader", another)
        with pytest.raises(Unavailable, match="has another hash"):
            await read(reader, 6, 6)
