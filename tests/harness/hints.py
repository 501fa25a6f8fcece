"""A network that is followed by hints alone, and hints as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import UUID

import asyncpg

from indexer import config
from indexer.chains import Chain
from indexer.network import Network
from tests.harness.terminal import until

ME: Final = UUID(int=1)
FAR: Final = 3600.0  # seconds: a poll that never comes
SOON: Final = 5.0  # seconds: far below that, however busy the machine
LOOK: Final = 0.02  # seconds between two looks


@asynccontextmanager
async def following(
    pool: asyncpg.Pool, rules: config.Network, chain: Chain
) -> AsyncIterator[Network]:
    """A network that is followed, its first poll done."""
    network = Network("net", rules, chain, pool)
    stop = asyncio.Event()
    try:
        assert await network.open(stop)
        task = asyncio.create_task(network.follow(stop, ME))
        await until(lambda: _is(network, "following"), SOON)
        yield network
        stop.set()
        async with asyncio.timeout(SOON):
            await task
    finally:
        await chain.close()


async def _is(network: Network, state: str) -> bool:
    return network.state == state


async def reach(
    pool: asyncpg.Pool, block: bytes, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait until the cursor is at a block; what happens again and again until then."""
    async with asyncio.timeout(SOON):
        while await pool.fetchval("select hash from cursor") != block:
            meanwhile()
            await asyncio.sleep(LOOK)


class Listening:
    """Hints as they come from whoever is listened to."""

    def __init__(self) -> None:
        self.hints = 0

    def hint(self) -> None:
        self.hints += 1

    async def until_hint(self, say: Callable[[], None] = lambda: None) -> None:
        """Wait for one more; what is said again and again meanwhile."""
        before = self.hints
        async with asyncio.timeout(SOON):
            while self.hints == before:
                say()
                await asyncio.sleep(LOOK)

    async def quiet(self, read_seconds: float) -> None:
        """Wait until all that was said is read, a message each so many seconds."""
        before = -1
        while before != self.hints:
            before = self.hints
            await asyncio.sleep(3 * read_seconds)


@asynccontextmanager
async def listening(
    listen: Callable[[Callable[[], None]], Coroutine[Any, Any, None]],
) -> AsyncIterator[Listening]:
    """Listen while entered; whatever is said does not end it."""
    found = Listening()
    task = asyncio.create_task(listen(found.hint))
    try:
        yield found
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
