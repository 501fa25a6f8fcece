"""Addresses registered a second through the API: by calls of 10,000 each, and by one import.

Server and caller are one process, and it is both that is measured. Beside it the same rows go into
the same table by one COPY, which checks nothing of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import aiohttp
import asyncpg
import orjson

from indexer import config
from indexer.api import accounts
from indexer.api.addresses import MAX_ADDRESSES
from indexer.api.context import Context
from indexer.api.server import Server
from indexer.chains.evm_codec import EvmCodec
from indexer.database import connect_pool
from tests.bench import engine
from tests.bench.blocks import watched_addresses
from tests.bench.process import Clock
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import Suite

ACCOUNT: Final = "account"
BARE: Final = "bare COPY of the same rows"
HEIGHT: Final = 1_000  # of the cursor, which nobody moves
CODEC: Final = EvmCodec()
TIMEOUT: Final = aiohttp.ClientTimeout(total=100)

Send = Callable[[aiohttp.ClientSession], Awaitable[None]]


def figures(suite: Suite) -> Iterator[Figure]:
    count, alone = suite.sizes.registered, suite.alone

    def by_calls() -> Run:
        return alone(measure_calls, suite.database(), count)

    def by_import() -> Run:
        return alone(measure_import, suite.database(), count)

    def bare() -> Run:
        return alone(measure_copy, suite.database(), count)

    name = f"registered, calls of {MAX_ADDRESSES:,}"
    yield suite.figure(name, "addresses", by_calls, BARE, bare)
    yield suite.figure("registered, one import", "addresses", by_import, BARE, bare)


async def measure_calls(database: str, count: int) -> Run:
    """Register so many by `POST /v1/addresses`, one call after the other."""
    watched = [
        {"address": CODEC.format_address(key), "reference": reference}
        for key, reference in _watched(count)
    ]
    bodies = [
        orjson.dumps({"network": engine.NETWORK, "addresses": watched[at : at + MAX_ADDRESSES]})
        for at in range(0, count, MAX_ADDRESSES)
    ]

    async def send(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            headers = {"Content-Type": "application/json"}
            async with session.post("/v1/addresses", data=body, headers=headers) as response:
                response.raise_for_status()

    return await _measure(database, count, send)


async def measure_import(database: str, count: int) -> Run:
    """Register so many by one `POST /v1/addresses/import`."""
    lines = (f"{CODEC.format_address(key)},{reference}\n" for key, reference in _watched(count))
    file = "".join(lines).encode()

    async def send(session: aiohttp.ClientSession) -> None:
        path, headers = "/v1/addresses/import", {"Content-Type": "text/csv"}
        asked = {"network": engine.NETWORK}
        async with session.post(path, params=asked, data=file, headers=headers) as response:
            response.raise_for_status()

    return await _measure(database, count, send)


async def measure_copy(database: str, count: int) -> Run:
    """Write as many rows by COPY."""
    columns = ["network", "account", "address", "reference", "covered_from"]
    rows = [(engine.NETWORK, ACCOUNT, *each, HEIGHT + 1) for each in _watched(count)]
    async with _begun(database) as pool, pool.acquire() as connection:
        clock = Clock()
        await connection.copy_records_to_table("watched_address", columns=columns, records=rows)
        run = Run.of(clock, count)
        check_count("addresses", await _registered(pool), count)
    return run


def _watched(count: int) -> Iterator[tuple[bytes, str]]:
    """Keys and references."""
    return ((key, f"user-{n}") for n, key in enumerate(watched_addresses(count)))


async def _measure(database: str, count: int, send: Send) -> Run:
    """What `send` does at a server of its own."""
    async with _begun(database) as pool:
        async with pool.acquire() as connection:
            made = await accounts.create_key(connection, engine.vault(), ACCOUNT, ["write"])
        server = Server(_context(pool))
        url, headers = await server.start(), {"X-Api-Key": made.key}
        async with aiohttp.ClientSession(url, headers=headers, timeout=TIMEOUT) as session:
            clock = Clock()
            await send(session)
            run = Run.of(clock, count)
        await server.stop()
        check_count("addresses", await _registered(pool), count)
    return run


@asynccontextmanager
async def _begun(database: str) -> AsyncIterator[asyncpg.Pool]:
    """A network that has begun, and an account."""
    pool = await connect_pool(database)
    async with pool:
        await pool.execute("insert into network (id, family) values ($1, 'evm')", engine.NETWORK)
        await pool.execute(
            "insert into cursor (network, height, hash) values ($1, $2, $3)",
            engine.NETWORK,
            HEIGHT,
            bytes(32),
        )
        await pool.execute("insert into account (id, name) values ($1, $1)", ACCOUNT)
        yield pool


async def _registered(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("select count(*) from watched_address"))


def _context(pool: asyncpg.Pool) -> Context:
    settings = config.Settings(api=config.Api(listen="127.0.0.1:0"))

    async def unasked(*_: object) -> NoReturn:
        raise AssertionError("no registration asks a node")

    def unreached(network: str) -> NoReturn:
        raise AssertionError(f"no registration asks a node of {network}")

    return Context(
        pool=pool,
        settings=settings,
        vault=engine.vault(),
        codecs={engine.NETWORK: CODEC},
        tokens=unasked,
        proofs=unasked,
        reach=unreached,
        roles=("api",),
        ready=unasked,
    )
