"""How long after a node can serve a block its callbacks arrive: the first byte at the receiver.

Engine, node and receiver are processes as in earnest, and the node tells of its blocks. Counted are
the callbacks of `deposit.detected`; those of confirmations go along.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import aiohttp
import asyncpg
import orjson

from indexer.chains.families import open_chain
from indexer.database import connect_pool
from tests.bench import engine
from tests.bench.blocks import CHAIN_ID, Shape, make_chain, watched_addresses
from tests.bench.callbacks import ARRIVALS, receiver
from tests.bench.growing import growing
from tests.bench.process import Served
from tests.bench.recording import Recording, record
from tests.bench.results import Delay, Delays, check_count
from tests.bench.suite import SEED, Suite

FIRST: Final = 4  # blocks that the node has at the start
EVERY: Final = 1.0  # seconds between two blocks, on average
MATCHING: Final = 0.02  # share of transfers that pay a watched address
BLOCK: Final = Shape(transfers=300)
POLL_SECONDS: Final = 1.0  # the engine's, as by default
START_SECONDS: Final = 300.0  # for the engine to be at the node's head, all addresses loaded
STOP_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.1
COLUMNS: Final = (
    *("network", "address", "account", "state"),
    *("covered_from", "active_from", "changed_version"),
)


def figures(suite: Suite) -> Iterator[Delay]:
    folder = _recorded(suite)
    rounds = [_round(suite, folder) for _ in range(suite.sizes.rounds)]
    yield Delay(f"block to first byte, {suite.sizes.many:,} watched", 1 / EVERY, rounds)


def _recorded(suite: Suite) -> Path:
    folder = suite.folder / "growing"
    folder.mkdir(exist_ok=True)
    watched = suite.sizes.watched
    chain = make_chain(
        FIRST + suite.sizes.grown, watched=watched, matching=MATCHING, seed=SEED, shape=BLOCK
    )
    record(folder, chain, watched_addresses(watched))
    return folder


def _round(suite: Suite, folder: Path) -> Delays:
    database = suite.database()
    with growing(folder, FIRST) as node, Served(receiver) as calls:
        asyncio.run(_prepare(database, node, calls, suite.sizes.watched, suite.sizes.many))
        with _running(suite.folder, database, node):
            return asyncio.run(_measure(database, node, calls, Recording(folder)))


async def _prepare(database: str, node: str, calls: str, paid: int, watched: int) -> None:
    """Register what is paid as users do, and the bulk beside it."""
    network = engine.settings(node)
    chain = open_chain(engine.NETWORK, network)
    async with engine.following(database, network, chain, paid, calls):
        connection = await asyncpg.connect(database)
        try:
            await connection.copy_records_to_table(
                "watched_address",
                columns=COLUMNS,
                records=(
                    (engine.NETWORK, key, "account-0", "active", 0, 1, 0)
                    for key in watched_addresses(watched)[paid:]
                ),
            )
            await connection.execute("analyze")
        finally:
            await connection.close()


@contextmanager
def _running(folder: Path, database: str, node: str) -> Iterator[None]:
    """`depositd run`, as an operator starts it."""
    file = folder / "depositd.toml"
    file.write_text(_configuration(database, node))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DEPOSITD_")}
    with (folder / "depositd.log").open("ab") as log:
        process = subprocess.Popen(
            (sys.executable, "-m", "indexer", "run", "-c", str(file)),
            env=environ,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def _configuration(database: str, node: str) -> str:
    network = {
        "family": "evm",
        "chain_id": CHAIN_ID,
        "confirmations": engine.CONFIRMATIONS,
        "reorg_window": engine.REORG_WINDOW,
        "start": 1,
        "poll_interval": POLL_SECONDS,
    }
    ws = node.replace("http", "ws")
    tables: dict[str, dict[str, Any]] = {
        "api": {"listen": "127.0.0.1:0"},
        "callbacks": {"allow_private": True, "allow_http": True},
        f"networks.{engine.NETWORK}": network,
    }
    lines = [f'database = "{database}"', f'secret_key = "{engine.SECRET_KEY}"']
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join([*lines, f'endpoints = [{{ url = "{node}", ws = "{ws}" }}]', ""])


def _toml(value: object) -> str:
    return orjson.dumps(value).decode()


async def _measure(database: str, node: str, calls: str, recording: Recording) -> Delays:
    pool = await connect_pool(database, size=1)
    async with pool, aiohttp.ClientSession() as session:
        await _reach(pool, FIRST)
        begun = time.monotonic()
        async with session.post(f"{node}/grow", params={"every": str(EVERY)}) as response:
            response.raise_for_status()
        await _reach(pool, recording.tip)
        took = time.monotonic() - begun
        while await pool.fetchval("select exists (select from delivery)"):
            await asyncio.sleep(LOOK_SECONDS)
        async with session.get(calls + ARRIVALS) as response:
            arrived = await response.json()
        async with session.get(f"{node}/grown") as response:
            grown = dict(await response.json())
        rows = await pool.fetch(
            """
            select e.id, d.height as height from event e join deposit d on d.id = e.deposit
             where e.type = 'deposit.detected' and d.height > $1
            """,
            FIRST,
        )
    expected = sum(e.token_deposits + e.native_deposits for e in recording.entries[FIRST + 1 :])
    check_count("deposits called", sum(row["id"] in arrived for row in rows), expected)
    delays = [1000 * (arrived[row["id"]] - grown[row["height"]]) for row in rows]
    percent = quantiles(delays, n=100)
    return Delays(len(grown) / took, percent[49], percent[98])


async def _reach(pool: asyncpg.Pool, height: int) -> None:
    """Wait until the engine is there."""
    async with asyncio.timeout(START_SECONDS + 2 * EVERY * height):
        while await pool.fetchval("select height from cursor") != height:
            await asyncio.sleep(LOOK_SECONDS)
