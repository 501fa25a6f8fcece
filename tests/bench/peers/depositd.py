"""depositd as a peer: a process that follows the node to its tip and ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import asyncpg
import uvloop

from indexer import log
from indexer.chains.failover import FAILURES
from indexer.chains.families import open_chain
from indexer.chains.provers import Provers
from indexer.database import migrate
from indexer.follower import Follower
from indexer.model import Unavailable
from tests.bench import engine
from tests.bench.peers.contest import Command, Job, count
from tests.bench.peers.node import WATCHED


class Depositd:
    stores = "PostgreSQL"
    to_head = True
    erc721 = False

    def __init__(self, verify: str, *, second: bool = False) -> None:
        """`second`: it has an honest node as well, after the one that all have."""
        self.name = f'depositd, verify = "{verify}"' + (", two nodes" if second else "")
        self.verify = verify
        self.second = second

    def install(self, tools: Path) -> None:
        """It is installed."""

    def command(self, job: Job) -> Command:
        urls = dict.fromkeys([job.url, job.honest] if self.second else [job.url])
        arguments = [job.database, self.verify, *urls]
        return Command([sys.executable, "-m", __name__, *arguments], {"PYTHONPATH": _root()})

    async def rows(self, job: Job) -> int:
        # Blocks that are proved whole show native payments as well.
        return await count(job.database, "deposit")


def _root() -> str:
    return str(Path(__file__).parents[3])


async def main(arguments: Sequence[str]) -> None:
    database, verify, *urls = arguments
    connection = await asyncpg.connect(database)
    await migrate(connection, engine.vault())
    await connection.close()
    network = engine.settings(*urls, verify=verify, native="off")
    provers = Provers()
    chain = open_chain(engine.NETWORK, network, provers=provers)
    try:
        async with engine.following(database, network, chain, WATCHED) as follower:
            await _follow(follower)
    except Unavailable as problem:
        sys.exit(f"{network.id} is not read any further: {problem}")
    finally:
        await provers.close()


async def _follow(follower: Follower) -> None:
    """To the head. `depositd run` would never give up; here another node is followed by then."""
    for _ in range(FAILURES):
        with suppress(Unavailable):
            return await engine.follow(follower)
    await engine.follow(follower)


if __name__ == "__main__":
    log.configure(quiet=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1:]))
