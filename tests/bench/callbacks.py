"""Callbacks a second, from due deliveries to recorded outcomes, at a receiver that is never slow.

Beside it a bare aiohttp loop signs and posts the same bodies, with as many requests under way, and
records nothing; so does our own client. And how long after its commit an event's first byte is at
the receiver, at a rate that is offered whatever comes of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from statistics import quantiles
from typing import Final

import aiohttp
import asyncpg
import orjson
from yarl import URL

from callbacks import dispatcher, signing
from callbacks.attempts import ATTEMPT_SECONDS
from callbacks.dispatcher import Dispatcher
from callbacks.sender import Sender
from indexer import config
from indexer.database import connect_pool
from tests.bench import engine
from tests.bench.http import Answer
from tests.bench.outbox import CONCURRENCY, Outbox, body
from tests.bench.process import Clock, Served
from tests.bench.results import Delay, Delays, Figure, Run, check_count
from tests.bench.suite import Suite

RULES: Final = config.Callbacks(allow_private=True, allow_http=True)
BARE: Final = "bare aiohttp loop, same bodies"
OFFERED: Final = 1000  # events a second
OFFERED_TOGETHER: Final = 25  # in one transaction
POLL_SECONDS: Final = 0.02  # between two looks whether everything is delivered
ARRIVALS: Final = "/arrivals"

Post = Callable[[dict[str, str], bytes], Awaitable[bool]]


def receiver() -> Answer:
    """Takes everything with an empty 200, for `process.Served`; tells when what came first."""
    arrivals: dict[str, float] = {}  # by webhook-id, Unix seconds

    def answer(head: bytes, _: bytes) -> list[bytes]:
        if head.startswith(b"GET"):
            return [orjson.dumps(arrivals)]
        now = time.time()
        name = head.partition(b"webhook-id: ")[2].partition(b"\r")[0]
        arrivals.setdefault(name.decode(), now)
        return []

    return answer


def figures(suite: Suite) -> Iterator[Figure | Delay]:
    sizes, alone = suite.sizes, suite.alone
    with Served(receiver) as url:
        for endpoints in sizes.endpoints:
            bare = partial(alone, measure_bare, url, endpoints, sizes.callbacks)

            def ours(endpoints: int = endpoints) -> Run:
                return alone(measure, suite.database(), url, endpoints, sizes.callbacks)

            name = f"callbacks delivered, {endpoints:,} endpoints"
            yield suite.figure(name, "callbacks", ours, BARE, bare)
            sent = partial(alone, measure_sender, url, endpoints, sizes.callbacks)
            name = f"callbacks sent, {endpoints:,} endpoints"
            yield suite.figure(name, "callbacks", sent, BARE, bare)
    for endpoints in sizes.endpoints:
        yield Delay(
            f"commit to first byte, {endpoints:,} endpoints",
            OFFERED,
            [_delays(suite, endpoints) for _ in range(sizes.rounds)],
        )


def _delays(suite: Suite, endpoints: int) -> Delays:
    with Served(receiver) as url:
        return suite.alone(
            measure_delay, suite.database(), url, endpoints, suite.sizes.offered_seconds
        )


async def measure(database: str, url: str, endpoints: int, count: int) -> Run:
    """Deliver what is due."""
    pool = await connect_pool(database)
    async with pool:
        outbox = Outbox(pool, endpoints)
        await outbox.begin(url)
        await outbox.fill(count)
        clock = Clock()
        async with _dispatching(pool):
            while await pool.fetchval("select exists (select from delivery)"):
                await asyncio.sleep(POLL_SECONDS)
            run = Run.of(clock, count)
        delivered = await pool.fetchval(
            "select count(*) from delivery_done where state = 'delivered' and requests = 1"
        )
    check_count("callbacks delivered at once", delivered, count)
    return run


async def measure_delay(database: str, url: str, endpoints: int, seconds: float) -> Delays:
    """Milliseconds from before an event's commit to its first byte at the receiver.

    Events are committed at an even pace, so many together, however the dispatcher fares.
    """
    pool = await connect_pool(database)
    async with pool:
        outbox = Outbox(pool, endpoints)
        await outbox.begin(url)
        await pool.execute("analyze")
        async with _dispatching(pool):
            committed, took = await _offer(outbox, round(seconds * OFFERED))
            while await pool.fetchval("select exists (select from delivery)"):
                await asyncio.sleep(POLL_SECONDS)
    async with aiohttp.ClientSession() as session, session.get(url + ARRIVALS) as response:
        arrived = await response.json()
    check_count("events that arrived", len(arrived), len(committed))
    delays = [1000 * (arrived[name] - at) for name, at in committed.items()]
    percent = quantiles(delays, n=100)
    return Delays(len(delays) / took, percent[49], percent[98])


async def measure_bare(url: str, endpoints: int, count: int) -> Run:
    """Sign and post as many bodies by aiohttp, and nothing else."""
    connector = aiohttp.TCPConnector(limit=in_flight(endpoints))
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(headers: dict[str, str], data: bytes) -> bool:
            headers["content-type"] = "application/json"
            async with session.post(url, data=data, headers=headers) as response:
                await response.read()
                return response.status == 200

        return await _post_all(post, in_flight(endpoints), count)


async def measure_sender(url: str, endpoints: int, count: int) -> Run:
    """Sign and post as many bodies by our own client, and nothing else."""
    target = URL(url)
    async with Sender(RULES, ATTEMPT_SECONDS) as sender:

        async def post(headers: dict[str, str], data: bytes) -> bool:
            return (await sender.post(target, headers, data)).status == 200

        return await _post_all(post, in_flight(endpoints), count)


def in_flight(endpoints: int) -> int:
    """How many requests a dispatcher has under way at most."""
    return min(dispatcher.SLOTS, endpoints * CONCURRENCY)


async def _post_all(post: Post, at_once: int, count: int) -> Run:
    secret = signing.decode_secret(signing.new_secret())
    bodies = iter([(f"evt_{number:026d}", body(number)) for number in range(count)])

    async def work() -> int:
        taken = 0
        for name, data in bodies:
            now = int(time.time())
            headers = {
                "webhook-id": name,
                "webhook-timestamp": str(now),
                "webhook-signature": signing.sign([secret], name, now, data),
            }
            taken += await post(headers, data)
        return taken

    clock = Clock()
    taken = await asyncio.gather(*(work() for _ in range(at_once)))
    run = Run.of(clock, count)
    check_count("bodies taken", sum(taken), count)
    return run


async def _offer(outbox: Outbox, count: int) -> tuple[dict[str, float], float]:
    """When each event's commit began, by its id, and how many seconds all took."""
    loop = asyncio.get_running_loop()
    committed: dict[str, float] = {}
    start = loop.time()
    for first in range(0, count, OFFERED_TOGETHER):
        await asyncio.sleep(start + first / OFFERED - loop.time())
        names, at = await outbox.append(range(first, min(first + OFFERED_TOGETHER, count)))
        committed.update(dict.fromkeys(names, at))
    return committed, loop.time() - start


@asynccontextmanager
async def _dispatching(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """A Dispatcher at work, as `depositd run` starts it."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Dispatcher(pool, engine.vault(), RULES).run(stop))
        yield
        stop.set()
