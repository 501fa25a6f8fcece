"""Callbacks a second, from due deliveries to recorded outcomes, at a receiver that is never slow.

Beside it a bare aiohttp loop posts the same bodies, signed before the clock starts, with as many
requests under way, and records nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Final

import aiohttp

from callbacks import dispatcher, signing
from callbacks.dispatcher import Dispatcher
from indexer import config
from indexer.database import connect_pool
from tests.bench import deposits, engine
from tests.bench.blocks import CHAIN_ID
from tests.bench.http import Answer
from tests.bench.process import Clock, Served
from tests.bench.recording import Recording
from tests.bench.replay import replay
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import DENSE, Suite

POLL_SECONDS: Final = 0.02  # between two looks whether everything is delivered


def receiver() -> Answer:
    """Takes everything with an empty 200, for `process.Served`."""
    return lambda _head, _body: ()


def figures(suite: Suite) -> Iterator[Figure]:
    watched = suite.sizes.watched
    folder = suite.recorded(suite.sizes.callback_blocks, DENSE)
    expected = Recording(folder).deposits(native=True)
    filled: list[str] = []  # databases, the last one by the engine's last run
    with Served(replay, folder, CHAIN_ID) as node, Served(receiver) as url:

        def ours() -> Run:
            filled.append(suite.database())
            suite.alone(deposits.measure, filled[-1], node, watched, expected, url)
            return suite.alone(measure, filled[-1])

        yield suite.figure(
            "callbacks delivered",
            "callbacks",
            ours,
            "bare aiohttp loop, same bodies",
            lambda: suite.alone(measure_bare, filled[-1]),
        )


async def measure(database: str) -> Run:
    """Deliver everything that is due in a database, by a Dispatcher as `depositd run` starts it."""
    pool = await connect_pool(database)
    async with pool:
        due = int(await pool.fetchval("select count(*) from delivery"))
        stop = asyncio.Event()
        sender = Dispatcher(
            pool, engine.vault(), config.Callbacks(allow_private=True, allow_http=True)
        )
        clock = Clock()
        task = asyncio.create_task(sender.run(stop))
        while await pool.fetchval("select exists (select from delivery)") and not task.done():
            await asyncio.sleep(POLL_SECONDS)
        run = Run.of(clock, due)
        stop.set()
        await task
        delivered = await pool.fetchval(
            "select count(*) from delivery_done where state = 'delivered' and attempts = 1"
        )
    check_count("callbacks delivered at once", delivered, due)
    return run


async def measure_bare(database: str) -> Run:
    """Post the bodies that a Dispatcher delivered, and nothing else."""
    pool = await connect_pool(database)
    async with pool:
        url = await pool.fetchval("select url from endpoint limit 1")
        rows = await pool.fetch("select id, body from event")
    secret, now = signing.decode_secret(signing.new_secret()), int(time.time())
    requests = iter([(_headers(secret, row["id"], now, row["body"]), row["body"]) for row in rows])
    in_flight = min(dispatcher.SLOTS, engine.ACCOUNTS * dispatcher.SLOTS_PER_ENDPOINT)
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:
        clock = Clock()
        taken = await asyncio.gather(*(_post(session, url, requests) for _ in range(in_flight)))
        run = Run.of(clock, len(rows))
    check_count("bodies taken", sum(taken), len(rows))
    return run


def _headers(secret: bytes, webhook_id: str, now: int, body: bytes) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now),
        "webhook-signature": signing.sign([secret], webhook_id, now, body),
    }


async def _post(
    session: aiohttp.ClientSession, url: str, requests: Iterator[tuple[dict[str, str], bytes]]
) -> int:
    """Work off requests; returns how many the receiver took."""
    taken = 0
    for headers, body in requests:
        async with session.post(url, data=body, headers=headers) as response:
            await response.read()
            taken += response.status == 200
    return taken
