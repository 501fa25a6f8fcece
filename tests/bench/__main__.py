"""`make bench`: measure, print one table, write it to RESULTS.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from indexer import log
from indexer.embedded import Embedded
from tests.bench import (
    addresses,
    callbacks,
    catch_up,
    deposits,
    latency,
    parse,
    scans,
    tron,
    utxo,
    watchset,
)
from tests.bench.results import DELAY_HEADINGS, Delay, Figure, aligned, machine
from tests.bench.suite import FULL, QUICK, SPARSE, Sizes, Suite

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
MEASUREMENTS: Final[Mapping[str, Callable[[Suite], Iterator[Figure | Delay]]]] = {
    "catch_up": catch_up.figures,
    "tron": tron.figures,
    "utxo": utxo.figures,
    "parse": parse.figures,
    "deposits": deposits.figures,
    "callbacks": callbacks.figures,
    "latency": latency.figures,
    "addresses": addresses.figures,
    "scans": scans.figures,
    "watchset": watchset.figures,
}


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="smaller sizes, one round")
    arguments.add_argument("--only", choices=MEASUREMENTS, help="one of the measurements")
    chosen = arguments.parse_args()
    log.configure(quiet=True)
    started, load = time.monotonic(), os.getloadavg()[0]
    names = [chosen.only] if chosen.only else MEASUREMENTS.keys()
    found = asyncio.run(measured(QUICK if chosen.quick else FULL, names))
    conditions = machine(load, os.getloadavg()[0])
    _say(f"\n{tables(found)}\n\n{conditions}; {time.monotonic() - started:.0f} s")
    if "parse" in names and not parse.recorded():
        _say(parse.LEFT_OUT)
    if not (chosen.quick or chosen.only):
        RESULTS.write_text(page(found, conditions, FULL), encoding="utf-8")


async def measured(sizes: Sizes, names: Collection[str]) -> list[Figure | Delay]:
    """The figures of some measurements, on an embedded PostgreSQL as durable as in earnest."""
    found: list[Figure | Delay] = []
    with tempfile.TemporaryDirectory(prefix="depositd-bench-") as folder:
        async with Embedded(Path(folder) / "cluster") as cluster:
            suite = Suite(cluster, Path(folder), sizes)
            for measure in [MEASUREMENTS[name] for name in names]:
                found += await asyncio.to_thread(_all, measure(suite))
    return found


def tables(found: Collection[Figure | Delay], *, markdown: bool = False) -> str:
    """One of rates beside their floors, and one of delays."""
    figures = [each.row() for each in found if isinstance(each, Figure)]
    delays = [each.row() for each in found if isinstance(each, Delay)]
    shown = [aligned(figures, markdown=markdown)] if figures else []
    if delays:
        shown.append(aligned(delays, DELAY_HEADINGS, text=(0,), markdown=markdown))
    return "\n\n".join(shown)


def page(found: Collection[Figure | Delay], conditions: str, sizes: Sizes) -> str:
    """RESULTS.md."""
    shape = sizes.shape
    return f"""\
# What `make bench` found

{tables(found, markdown=True)}

{conditions}.

Read the ratios: absolute figures move by a third between runs and machines. The engine and what
stands beside it take turns, {sizes.rounds} rounds, each time in a fresh process on a core of its
own and in a fresh database of an embedded PostgreSQL with its durable settings. Node and receiver
are processes on another core. CPU and memory are the measured process's, without PostgreSQL.

- **catch-up**: {sizes.blocks} blocks of the size of a busy mainnet block
  ({shape.transactions} transactions, {shape.logs} logs, {shape.transfers} ERC-20 Transfers),
  from the follower's first step until it is at the tip. {SPARSE:.1%} of the transfers pay one of
  {sizes.watched:,} watched addresses. Beside it the same bytes come over a bare aiohttp session
  into the adapter's own types.
- **{catch_up.SPREAD}**: twice as many blocks, and nothing but the node is pinned: blocks are proved
  in processes, one a core, on which node and PostgreSQL run too. Its CPU time is all of theirs,
  their start included; its peak of memory is the follower's alone.
- **catch-up, TRON**: as many blocks of {tron.PAYMENTS} payments and {tron.CALLS} token calls, with
  their infos; ids, transaction ids and roots proved.
- **catch-up, UTXO**: {sizes.utxo_blocks} blocks of {sizes.utxo_transactions:,} transactions, 1.3 MB
  each, as on mainnet; hash, work, ids, merkle root and witness commitment proved. Beside it the
  blocks come over a bare session and are read once, ids included.
{_recorded()}
- **deposits committed**: {sizes.dense_blocks} blocks in which every transfer is a deposit, fetched
  and proved before the clock starts; the peak of memory is theirs. With each deposit go its events,
  and a delivery for each; the bare insert writes neither.
- **callbacks delivered**: {sizes.callbacks:,} due deliveries, claimed, signed, sent to one
  keep-alive receiver and recorded by one dispatcher with everything on. Beside it an aiohttp
  session signs and posts the same bodies with as many requests under way ({_in_flight(sizes)})
  and records nothing; **callbacks sent** is our own client doing just that.
- **commit to first byte**: from before an event's commit until its request is at the receiver,
  {callbacks.OFFERED:,} events a second committed {callbacks.OFFERED_TOGETHER} at a time for
  {sizes.offered_seconds:g} s, however the dispatcher beside fares. Aims: p50 50 ms, p99 500 ms.
- **block to first byte**: from when the node can serve a block until the request of its
  `deposit.detected` is at the receiver: {sizes.grown} blocks of {latency.BLOCK.transfers} ERC-20
  Transfers, {latency.MATCHING:.0%} of them to watched addresses, one every {latency.EVERY:g} s;
  `depositd run`, node and receiver are processes, and the node tells of blocks over WebSocket.
  Aims: p50 100 ms, p99 500 ms.
- **registered**: {sizes.registered:,} addresses with references through the API, every one checked;
  server and caller are one process. The COPY checks nothing.
- **watch set**: {sizes.loaded:,} addresses of one network, loaded over one connection, then
  asked for the {watchset.RECIPIENTS} recipients of a block, none of them watched, block after
  block. Once, and memory is what the process has more than before: at its peak while it loads,
  resident when it is asked. Aims: 60 s, 300 MB; 150 MB, 1 µs each. Beside it the same COPY goes
  into a plain Python set.
"""


def _in_flight(sizes: Sizes) -> str:
    return " and ".join(str(callbacks.in_flight(endpoints)) for endpoints in sizes.endpoints)


def _recorded() -> str:
    if not parse.recorded():
        return f"- {parse.LEFT_OUT}"
    return f"""\
- **block …**: a recorded mainnet block, read again and again, MB a second of one core:
  the ids of all transactions and the merkle root ("{parse.IDS}"), or all that the
  follower has proved, witness commitment included ("{parse.PROVED}"). The floor hashes the same
  bytes, cut out before. ElectrumX's deserializer makes the ids with and without witness, and no
  root. Aims for the dense block 702,861: 60 MB/s, 25 MB/s with witnesses, three times ElectrumX."""


def _all(figures: Iterator[Figure | Delay]) -> list[Figure | Delay]:
    return list(figures)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
