"""Installs the peers, gives all the same jobs, and prints how they did. See the package's doc."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from indexer import log
from indexer.embedded import Embedded
from tests.bench import parse
from tests.bench.blocks import MAINNET
from tests.bench.peers import node
from tests.bench.peers.contest import Peer
from tests.bench.peers.cryo import Cryo
from tests.bench.peers.depositd import Depositd
from tests.bench.peers.envio import Envio
from tests.bench.peers.ethereum_etl import EthereumEtl
from tests.bench.peers.ponder import Ponder
from tests.bench.peers.sqd import Sqd
from tests.bench.peers.tables import FAULTS, ROUNDS, SPEED, Runs, faults, speed
from tests.bench.results import aligned, machine
from tests.bench.suite import FULL, Suite

TOOLS: Final = Path(".peers")
BLOCKS: Final = 200
FAULT_BLOCKS: Final = 20
PEERS: Final[Sequence[Peer]] = (
    Depositd("full"),
    Depositd("off"),
    Sqd(),
    Envio(),
    Ponder(),
    EthereumEtl(),
    Cryo(),
)
WITNESSES: Final[Sequence[Peer]] = (*PEERS, Depositd("full", second=True))  # of a node that lies


class Found(NamedTuple):
    speed: list[list[str]]
    faults: list[list[str]]
    parsing: list[list[str]]
    failures: Mapping[str, str]  # why there is no figure, by the peer's name


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    arguments.add_argument("--blocks", type=int, default=BLOCKS)
    arguments.add_argument("--markdown", action="store_true", help="as PEERS.md shows it")
    chosen = arguments.parse_args()
    log.configure(quiet=True)
    load = os.getloadavg()[0]
    found = asyncio.run(_found(chosen.blocks))
    conditions = machine(load, os.getloadavg()[0])
    sys.stdout.write(page(found, chosen.blocks, conditions, markdown=chosen.markdown))
    sys.exit(bool(found.failures))


async def _found(blocks: int) -> Found:
    with tempfile.TemporaryDirectory(prefix="depositd-peers-") as name:
        async with Embedded(Path(name) / "cluster") as cluster:
            return await asyncio.to_thread(_run, cluster, Path(name), blocks)


def _run(cluster: str, folder: Path, blocks: int) -> Found:
    runs = Runs(cluster, folder, TOOLS.resolve())
    runs.install(PEERS)
    speeds, lies = speed(runs, PEERS, blocks), faults(runs, WITNESSES, FAULT_BLOCKS)
    suite = Suite(cluster, folder, FULL)
    parsing = [parse.beside_electrumx(suite, block).row() for block in parse.recorded()]
    return Found(speeds, lies, parsing, runs.failures)


def page(found: Found, blocks: int, conditions: str, *, markdown: bool) -> str:
    """The tables, and what is missing in them; in Markdown with what they mean."""
    tables = [
        aligned(found.speed, SPEED, text=(0, 1), markdown=markdown),
        aligned(found.faults, FAULTS, text=(0, 1, 2, 3), markdown=markdown),
        aligned(found.parsing, markdown=markdown) if found.parsing else parse.LEFT_OUT,
    ]
    failed = [f"{name} has no figure: {why}" for name, why in found.failures.items()]
    under = f"{blocks} blocks; {conditions}"
    if markdown:
        return _explained(tables, [*failed, under + "."])
    return "\n\n".join([*tables, *failed, under]) + "\n"


def _explained(tables: Sequence[str], under: Sequence[str]) -> str:
    speeds, lies, parsing = tables
    notes = "\n\n".join(under)
    return f"""\
# What `make bench-peers` found

{notes}

Every peer runs from its process's start to its end, {ROUNDS} times, in a fresh database of one
embedded PostgreSQL with its durable settings, and reads the same recorded blocks of the same node
over JSON-RPC. A run that does not store just what must be there gives no figure. CPU is the
peer's with all that it starts, memory its largest process's, without PostgreSQL and the node.

## Speed

{speeds}

Blocks have the size of a busy mainnet block ({MAINNET.transactions} transactions, {MAINNET.logs}
logs, {MAINNET.transfers} ERC-20 Transfers). The peers store every Transfer (ethereum-etl those of
ERC-721 as well). depositd reads {node.FINAL} more blocks, up to the head, and stores what pays
{node.WATCHED:,} watched addresses: one Transfer in a thousand, as on "an exchange's" chain, or
every one. Transfers/s counts those that were read. Where every one is a row, depositd writes three
and changes one: a deposit, detected and then confirmed, with an event of each.

## Faults

{lies}

From a block in the middle of {FAULT_BLOCKS} the node leaves out one log, or all, of receipts and
logs alike; its headers are true. With two nodes the second leaves nothing out.

## Parsing

{parsing}

ElectrumX (PyPI `e-x`; `electrumx` is a fork's) stores Bitcoin blocks into LevelDB, with a full node
behind it: what can be held against ours is how it reads a block. It makes the ids, ours prove them
by the merkle root as well. Rates are per second of CPU.
"""


if __name__ == "__main__":
    main()
