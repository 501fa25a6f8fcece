"""Blocks a second through the whole pipeline: node, proofs, decoding, PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from indexer.chains.families import open_chain
from indexer.chains.provers import Provers
from tests.bench import engine, floor
from tests.bench.blocks import CHAIN_ID
from tests.bench.process import ALL, ONE, Clock, Served
from tests.bench.recording import Recording
from tests.bench.replay import replay
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import SPARSE, Suite

SPREAD: Final = "the same on every core"
FAR_SECONDS: Final = 0.04  # of latency, to a node that is not next door


class Case(NamedTuple):
    """One way to catch up."""

    name: str
    verify: str
    native: str
    floor: str
    latency: float = 0.0  # seconds
    cores: str = ONE  # ALL: blocks are proved in processes
    times: int = 1  # as many blocks as the others: enough to begin processes for


CASES: Final = (
    Case('catch-up, verify = "full"', "full", "transactions", floor.BODIES),
    Case(SPREAD, "full", "transactions", floor.BODIES, cores=ALL, times=2),
    Case('catch-up, verify = "off"', "off", "transactions", floor.BODIES),
    Case('catch-up, verify, native = "off"', "off", "off", floor.LOGS),
    Case("the first, 40 ms away", "full", "transactions", floor.BODIES, FAR_SECONDS),
)


def figures(suite: Suite) -> Iterator[Figure]:
    """By how much is verified and how much is asked for."""
    for case in CASES:
        yield _figure(suite, case)


def _figure(suite: Suite, case: Case) -> Figure:
    blocks = suite.sizes.blocks * case.times
    folder = suite.recorded(blocks, SPARSE)
    expected = Recording(folder).deposits(native=case.native != "off")
    with Served(replay, folder, CHAIN_ID, latency=case.latency) as url:
        return suite.figure(
            case.name,
            "blocks",
            lambda: suite.alone(
                measure,
                *(suite.database(), url, case, suite.sizes.watched, blocks, expected),
                cores=case.cores,
            ),
            "same bytes, fetched and parsed",
            lambda: suite.alone(floor.measure, url, case.floor, blocks, cores=case.cores),
        )


async def measure(
    database: str, url: str, case: Case, watched: int, blocks: int, expected: int
) -> Run:
    """Follow a node from block 1 to its tip at `blocks`, into a fresh database.

    `expected` is how many deposits there must be then.
    """
    network = engine.settings(url, verify=case.verify, native=case.native)
    provers = Provers() if case.cores == ALL else None
    chain = open_chain(engine.NETWORK, network, provers=provers)
    async with engine.following(database, network, chain, watched) as follower:
        clock = Clock()
        await engine.follow(follower)
        wall = clock.wall
        if provers is not None:
            await provers.close()  # then what they took is known
        run = Run(blocks, wall, clock.cpu, clock.peak_bytes)
    check_count("deposits", await engine.deposits(database), expected)
    return run
