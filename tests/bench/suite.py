"""What measurements share: a cluster, recorded chains, and how much is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from tests.bench import engine
from tests.bench.blocks import MAINNET, Shape, make_chain, watched_addresses
from tests.bench.process import ONE, run_alone
from tests.bench.recording import record
from tests.bench.results import Figure, Run

SPARSE: Final = 0.001  # share of transfers that pay a watched address
DENSE: Final = 1.0
SEED: Final = 20_261_121


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    blocks: int  # sparse
    dense_blocks: int
    utxo_blocks: int
    callbacks: int  # delivered, or sent
    offered_seconds: float  # that events are committed at an even pace
    registered: int  # addresses
    loaded: int  # addresses, into a watch set
    rounds: int
    watched: int = 10_000  # addresses
    many: int = 1_000_000  # addresses
    grown: int = 60  # blocks that come one by one
    shape: Shape = MAINNET
    utxo_transactions: int = 2500  # a block
    parse_seconds: float = 1.0  # that one recorded block is read again and again
    endpoints: tuple[int, ...] = (10, 5000)  # among which callbacks are dealt out


FULL: Final = Sizes(
    blocks=200,
    dense_blocks=32,
    utxo_blocks=60,
    callbacks=20_000,
    offered_seconds=10.0,
    registered=100_000,
    loaded=10_000_000,
    rounds=3,
)
QUICK: Final = Sizes(
    blocks=60,
    dense_blocks=8,
    utxo_blocks=20,
    callbacks=5_000,
    offered_seconds=3.0,
    registered=30_000,
    loaded=200_000,
    rounds=1,
    many=100_000,
    grown=15,
)

T = TypeVar("T")


class Alone(Protocol):
    """How a measurement is run: in a process of its own."""

    def __call__(
        self, measure: Callable[..., Coroutine[Any, Any, T]], *arguments: object, cores: str = ONE
    ) -> T: ...


class Suite:
    def __init__(self, cluster: str, folder: Path, sizes: Sizes, alone: Alone = run_alone) -> None:
        """`cluster`: URL of a PostgreSQL to make databases in; `folder` takes the recordings."""
        self.sizes = sizes
        self.alone = alone
        self._cluster = cluster
        self.folder = folder

    def database(self) -> str:
        """A fresh one's URL."""
        return asyncio.run(engine.fresh_database(self._cluster))

    def recorded(self, blocks: int, matching: float) -> Path:
        """A node's answers about so many blocks, made once a run."""
        folder = self.folder / f"{blocks}-blocks-{matching}"
        if not folder.exists():
            folder.mkdir()
            watched, shape = self.sizes.watched, self.sizes.shape
            chain = make_chain(blocks, watched=watched, matching=matching, seed=SEED, shape=shape)
            record(folder, chain, watched_addresses(watched))
        return folder

    def figure(
        self, name: str, unit: str, ours: Callable[[], Run], beside: str, bare: Callable[[], Run]
    ) -> Figure:
        """Both by turns, so that what else the machine does falls on both."""
        rounds = [(ours(), bare()) for _ in range(self.sizes.rounds)]
        return Figure(name, unit, [run for run, _ in rounds], beside, [run for _, run in rounds])
