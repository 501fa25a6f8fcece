"""The same jobs for every peer, each run in a fresh database and folder, and what came of them.

A run counts only if it stored just what must be there: less from a node that leaves nothing out is
a broken measurement, and no figure. A peer whose run breaks is left out; the others go on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tqdm import tqdm

from tests.bench.blocks import CHAIN_ID, MAINNET
from tests.bench.engine import empty_database
from tests.bench.peers import contest, node
from tests.bench.peers.contest import PRINTED, SAID, Failed, Job, Peer, Score
from tests.bench.process import Served
from tests.bench.recording import Recording
from tests.bench.results import MEGABYTE
from tests.bench.suite import DENSE, SPARSE

ROUNDS: Final = 3
SPEED: Final = (
    "who",
    "into",
    "Transfers/s",
    "rounds",
    "Transfers/CPU s",
    "rows stored",
    "peak RSS MB",
)
FAULTS: Final = ("who", "left out", "rows missing", "left with")

_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Chain:
    """One that is served, and what is asked of it."""

    name: str
    url: str
    blocks: int  # the last that is asked for
    deposits: int  # ERC-20 Transfers to watched addresses, up to the head

    def read(self, peer: Peer) -> int:
        """The ERC-20 Transfers that a peer reads."""
        return (self.blocks + node.FINAL * peer.to_head) * MAINNET.transfers

    def whole(self, peer: Peer) -> int:
        """The rows that a peer must store."""
        return self.deposits if peer.to_head else self.blocks * of_a_block(peer)


def of_a_block(peer: Peer) -> int:
    """The rows that a peer stores of a block in which every Transfer is a deposit."""
    return MAINNET.transfers + MAINNET.collectibles * peer.erc721


class Runs:
    def __init__(self, cluster: str, folder: Path, tools: Path) -> None:
        """`cluster`: URL of a PostgreSQL to make databases in; `tools`: a folder for each peer."""
        self.failures: dict[str, str] = {}  # by the peer's name
        self._cluster = cluster
        self._folder = folder
        self._tools = tools
        self._last = folder  # of a run

    def install(self, peers: Iterable[Peer]) -> None:
        """What is not installed yet."""
        for peer in _bar(peers, "install"):
            tools = self._installed(peer)
            if not (tools / "installed").exists():
                tools.mkdir(parents=True, exist_ok=True)
                with self.noted(peer):
                    peer.install(tools)
                    (tools / "installed").touch()

    @contextmanager
    def serving(
        self, name: str, blocks: int, matching: float, left_out: str | None = None
    ) -> Iterator[Chain]:
        folder = self._folder / name
        node.make(folder, blocks, matching, left_out)
        with Served(node.node, folder, CHAIN_ID) as url:
            yield Chain(name, url, blocks, Recording(folder).deposits(native=False))

    def well(self, peers: Iterable[Peer]) -> list[Peer]:
        return [peer for peer in peers if peer.name not in self.failures]

    @contextmanager
    def noted(self, peer: Peer) -> Iterator[None]:
        """That a peer failed costs the others nothing."""
        try:
            yield
        except Failed as problem:
            self.failures.setdefault(peer.name, str(problem))

    def whole(self, peer: Peer, chain: Chain) -> Score:
        """A run of a node that leaves nothing out. Raises Failed unless all is there."""
        score = self.run(peer, chain, chain)
        if score.code:
            raise Failed(f"it left with {score.code}: {self._said()}")
        if score.rows != chain.whole(peer):
            raise Failed(f"{score.rows:,} rows where {chain.whole(peer):,} should be")
        return score

    def run(self, peer: Peer, chain: Chain, honest: Chain) -> Score:
        """Raises Failed if it takes too long."""
        name = f"run_{next(_numbers)}"
        self._last = folder = self._folder / name
        folder.mkdir()
        database = asyncio.run(empty_database(self._cluster, name))
        job = Job(chain.url, honest.url, chain.blocks, database, folder, self._installed(peer))
        return contest.run(job, peer.command(job), lambda: asyncio.run(peer.rows(job)))

    def _said(self) -> str:
        return (self._last / PRINTED).read_text(errors="replace")[-SAID:]

    def _installed(self, peer: Peer) -> Path:
        return self._tools / peer.name.split(" ")[0].strip(",").lower()


def speed(runs: Runs, peers: Sequence[Peer], blocks: int) -> list[list[str]]:
    """Of an honest node: who handles how many Transfers a second."""
    rows: list[list[str]] = []
    # Whom a Transfer pays is nothing to the peers: they store all of them.
    ours = [peer for peer in peers if peer.to_head]
    for name, matching, entered in (
        ("an exchange's", SPARSE, ours),
        ("every one a row", DENSE, peers),
    ):
        with runs.serving(name, blocks, matching) as chain:
            for peer in _bar(runs.well(entered), name):
                with runs.noted(peer):
                    rows.append(_speed(runs, peer, chain))
    return rows


def _speed(runs: Runs, peer: Peer, chain: Chain) -> list[str]:
    transfers = chain.read(peer)
    scores = [runs.whole(peer, chain) for _ in range(ROUNDS)]
    rates = [transfers / score.wall for score in scores]
    return [
        f"{peer.name}, {chain.name}" if peer.to_head else peer.name,
        peer.stores,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{median(transfers / score.cpu for score in scores):,.0f}",
        f"{scores[-1].rows:,}",
        f"{max(score.peak_bytes for score in scores) / MEGABYTE:.0f}",
    ]


def faults(runs: Runs, peers: Sequence[Peer], blocks: int) -> list[list[str]]:
    """Of a node that leaves something out: what is missing in the end, and who noticed."""
    rows: list[list[str]] = []
    with ExitStack() as stack:
        honest = stack.enter_context(runs.serving("honest", blocks, DENSE))
        lying = [
            stack.enter_context(runs.serving(what, blocks, DENSE, what))
            for what in (node.ONE_LOG, node.ALL_LOGS)
        ]
        for peer in _bar(runs.well(peers), "faults"):
            for chain in lying:
                with runs.noted(peer):
                    rows.append(_fault(runs, peer, chain, honest))
    return rows


def _fault(runs: Runs, peer: Peer, chain: Chain, honest: Chain) -> list[str]:
    score = runs.run(peer, chain, honest)
    row = [peer.name, chain.name]
    if score.code:
        at = node.lies_at(chain.blocks)
        if score.rows > (at - 1) * of_a_block(peer):
            raise Failed(f"it left with {score.code} after it had stored what does not prove")
        return [*row, f"none: it stopped at block {at}", f"exit {score.code}"]
    missing = chain.whole(peer) - score.rows
    left_out = 1 if chain.name == node.ONE_LOG else of_a_block(peer)
    if missing not in (0, left_out):
        raise Failed(f"{missing:,} rows are missing where the node left out {left_out:,}")
    return [*row, f"{missing:,}", "exit 0" + ", not a word" * bool(missing)]


def _bar(peers: Iterable[Peer], what: str) -> Iterable[Peer]:
    bar: Iterable[Peer] = tqdm(list(peers), desc=what, leave=False, disable=None)
    return bar
