"""Installs the peers, gives all the same jobs, and prints how they did. See the package's doc."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import asyncpg
from tqdm import tqdm

from indexer.embedded import Embedded
from tests.bench.blocks import CHAIN_ID, MAINNET
from tests.bench.peers import contest, node
from tests.bench.peers.contest import Job, Peer, Score
from tests.bench.peers.cryo import Cryo
from tests.bench.peers.depositd import Depositd
from tests.bench.peers.ethereum_etl import EthereumEtl
from tests.bench.peers.ponder import Ponder
from tests.bench.peers.sqd import Sqd
from tests.bench.process import Served
from tests.bench.results import MEGABYTE, aligned, machine
from tests.bench.suite import DENSE, SPARSE

TOOLS: Final = Path(".peers")
ROUNDS: Final = 3
BLOCKS: Final = 200
FAULT_BLOCKS: Final = 20
PEERS: Final[Sequence[Peer]] = (
    Depositd("full"),
    Depositd("off"),
    Sqd(),
    Ponder(),
    EthereumEtl(),
    Cryo(),
)
WITNESSES: Final[Sequence[Peer]] = (*PEERS, Depositd("full", second=True))  # of a node that lies

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


class Contest:
    """Runs of peers, each in a fresh database and folder."""

    def __init__(self, cluster: str, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._runs = 0

    def chain(self, name: str, blocks: int, matching: float, left_out: str | None = None) -> Path:
        folder = self._folder / name
        node.make(folder, blocks, matching, left_out)
        return folder

    def run(self, peer: Peer, blocks: int, url: str, honest: str) -> Score:
        self._runs += 1
        folder = self._folder / f"run-{self._runs}"
        folder.mkdir()
        database = asyncio.run(self._database(f"run_{self._runs}"))
        tools = (TOOLS / _file_name(peer)).resolve()
        job = Job(url, honest, blocks, database, folder, tools)
        score = contest.run(job, peer.command(job), lambda: asyncio.run(peer.rows(job)))
        if score.code and url == honest:
            printed = (folder / "printed").read_text(errors="replace")
            raise RuntimeError(f"{peer.name} failed: {printed[-800:]}")
        return score

    async def _database(self, name: str) -> str:
        connection = await asyncpg.connect(self._cluster)
        try:
            await connection.execute(f"create database {name}")
        finally:
            await connection.close()
        return self._cluster.rpartition("/")[0] + "/" + name


def speed(contest: Contest, blocks: int) -> Iterator[list[str]]:
    """Of an honest node: who handles how many Transfers a second."""
    for matching, what in ((SPARSE, "an exchange's"), (DENSE, "every one a row")):
        with Served(node.node, contest.chain(what, blocks, matching), CHAIN_ID) as url:
            # Whom a Transfer pays is nothing to the peers: they store all of them.
            entered = [p for p in PEERS if isinstance(p, Depositd) or matching == DENSE]
            for peer in tqdm(entered, desc=what, leave=False, disable=None):
                read = blocks + node.FINAL if peer.to_head else blocks
                transfers = read * MAINNET.transfers
                scores = [contest.run(peer, blocks, url, url) for _ in range(ROUNDS)]
                rates = [transfers / score.wall for score in scores]
                yield [
                    f"{peer.name}, {what}" if isinstance(peer, Depositd) else peer.name,
                    peer.stores,
                    f"{median(rates):,.0f}",
                    f"{min(rates):,.0f} to {max(rates):,.0f}",
                    f"{median(transfers / score.cpu for score in scores):,.0f}",
                    f"{scores[-1].rows:,}",
                    f"{max(score.peak_bytes for score in scores) / MEGABYTE:.0f}",
                ]


def faults(contest: Contest, blocks: int) -> Iterator[list[str]]:
    """Of a node that leaves something out: what is missing in the end, and who noticed."""
    with ExitStack() as stack:
        honest = stack.enter_context(
            Served(node.node, contest.chain("honest", blocks, DENSE), CHAIN_ID)
        )
        urls = {
            what: stack.enter_context(
                Served(node.node, contest.chain(what, blocks, DENSE, what), CHAIN_ID)
            )
            for what in (node.ONE_LOG, node.ALL_LOGS)
        }
        for peer in tqdm(WITNESSES, desc="faults", leave=False, disable=None):
            whole = contest.run(peer, blocks, honest, honest)
            for what, url in urls.items():
                score = contest.run(peer, blocks, url, honest)
                missing = whole.rows - score.rows
                stopped = score.code != 0
                yield [
                    peer.name,
                    what,
                    f"none: it stopped at block {blocks // 2}" if stopped else f"{missing:,}",
                    f"exit {score.code}" + ("" if stopped else ", not a word" * bool(missing)),
                ]


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    arguments.add_argument("--blocks", type=int, default=BLOCKS)
    arguments.add_argument("--markdown", action="store_true", help="as PEERS.md shows it")
    chosen = arguments.parse_args()
    load = os.getloadavg()[0]
    for peer in tqdm(PEERS, desc="install", leave=False, disable=None):
        tools = TOOLS / _file_name(peer)
        if not (tools / "installed").exists():
            tools.mkdir(parents=True, exist_ok=True)
            peer.install(tools.resolve())
            (tools / "installed").touch()
    speeds, lies = asyncio.run(_contest(chosen.blocks))
    tables = (
        aligned(speeds, SPEED, text=(0, 1), markdown=chosen.markdown),
        aligned(lies, FAULTS, text=(0, 1, 2, 3), markdown=chosen.markdown),
        f"{chosen.blocks} blocks; {machine(load, os.getloadavg()[0])}",
    )
    sys.stdout.write("\n\n".join(tables) + "\n")


async def _contest(blocks: int) -> tuple[list[list[str]], list[list[str]]]:
    with tempfile.TemporaryDirectory(prefix="depositd-peers-") as name:
        async with Embedded(Path(name) / "cluster") as cluster:
            held = Contest(cluster, Path(name))
            return await asyncio.to_thread(
                lambda: (list(speed(held, blocks)), list(faults(held, FAULT_BLOCKS)))
            )


def _file_name(peer: Peer) -> str:
    return peer.name.split(" ")[0].strip(",").lower()


if __name__ == "__main__":
    main()
