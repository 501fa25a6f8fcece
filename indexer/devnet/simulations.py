"""The demo's networks, one of each family. Every run of it mines the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from indexer.chains.evm_codec import EvmCodec
from indexer.chains.tron_codec import TronCodec
from indexer.chains.utxo_codec import UtxoCodec
from indexer.devnet.chain import MemoryChain
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.forecast import Forecast
from indexer.devnet.simulation import Simulation
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_node import TronNode
from indexer.devnet.tron_traffic import TronTraffic
from indexer.devnet.utxo_chain import CHAIN, SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_traffic import UtxoTraffic
from indexer.devnet.utxo_wallet import Kind

SEED: Final = 2026  # of the first network; the others have the next ones
START: Final = 1_790_000_000  # Unix seconds of each chain's beginning; a block a second from there
CONFIRMATIONS: Final = 3
FINALITY: Final = 6  # blocks that the finalized one is behind the head; deeper than any reorg here
FIRST_BLOCKS: Final = 10  # empty ones, before anything is watched
WINDOW: Final = 32  # blocks that may be replaced where the node says what is final
ADDRESSES: Final = len(Kind)  # on each network, to be watched
POLL_SECONDS: Final = 0.1

_RULES: Final = {"confirmations": CONFIRMATIONS, "poll_interval": POLL_SECONDS}


def simulations() -> Sequence[Simulation]:
    return (_evm(), _tron(), _utxo())


def _evm() -> Simulation:
    chain = SimulatedChain(SEED, clock=_clock, finality=FINALITY)
    _begin(chain)
    addresses = [chain.wallet(f"watched {n}").address for n in range(ADDRESSES)]
    return Simulation(
        id="evm",
        rules={
            **_RULES,
            "family": "evm",
            "chain_id": chain.chain_id,
            "coin": "sim",
            "native": "traces",
            "reorg_window": WINDOW,
        },
        traffic=EvmTraffic(chain, addresses, Random(SEED)),
        node=EvmNode(chain),
        codec=EvmCodec(),
        forecast=Forecast(CONFIRMATIONS),
        finality=FINALITY,
    )


def _tron() -> Simulation:
    chain = SimulatedTron(SEED + 1, _clock, finality=FINALITY)
    _begin(chain)
    addresses = [chain.wallet(f"watched {n}").address for n in range(ADDRESSES)]
    return Simulation(
        id="tron",
        rules={**_RULES, "family": "tron", "reorg_window": WINDOW},
        traffic=TronTraffic(chain, addresses, Random(SEED + 1)),
        node=TronNode(chain),
        codec=TronCodec(),
        forecast=Forecast(CONFIRMATIONS),
        finality=FINALITY,
    )


def _utxo() -> Simulation:
    """No node says what is final here: it is what may not be replaced any more."""
    chain = SimulatedUtxoChain(SEED + 2, clock=_clock)
    _begin(chain)
    wallets = [chain.wallet(f"watched {kind}", kind) for kind in Kind]
    return Simulation(
        id="utxo",
        rules={
            **_RULES,
            "family": "utxo",
            "coin": chain.network.coin,
            "chain": CHAIN,
            "reorg_window": FINALITY,
        },
        traffic=UtxoTraffic(chain, wallets, Random(SEED + 2)),
        node=UtxoNode(chain),
        codec=UtxoCodec(chain.network),
        forecast=Forecast(CONFIRMATIONS),
        finality=FINALITY,
    )


def _clock() -> int:
    """Stands still: each block follows its parent, in whatever second it is mined."""
    return START


def _begin(chain: MemoryChain[Any, Any]) -> None:
    for _ in range(FIRST_BLOCKS):
        chain.mine()
