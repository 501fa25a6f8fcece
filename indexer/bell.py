"""PostgreSQL's NOTIFY as a bell: a hint that there is news, never the only way to learn of it.

Rung for every transaction with events, for dispatchers and streams alike. For those who care it
says which endpoints have work: their ids with blanks between them, or nothing if it may be any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog

from indexer.database import unavailable_database
from indexer.model import Unavailable

CHANNEL: Final = "depositd_bell"
RETRY_SECONDS: Final = 1.0  # between attempts to listen again
# Who only listens is not told that the server, or the way to it, has gone: it asks now and then.
SILENCE_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 5.0

log = structlog.get_logger()


async def ring(connection: asyncpg.Connection, endpoints: Sequence[str]) -> None:
    """Tell all who listen, once this transaction is committed, which endpoints have work."""
    await connection.execute("select ring_bell($1)", endpoints)


async def listen(pool: asyncpg.Pool, ring: Callable[[str], None]) -> None:
    """Call `ring` with what each ring says, until cancelled. Keeps one connection of the pool."""
    while True:
        try:
            with unavailable_database():
                await _listen_once(pool, ring)
            log.warning("bell lost", error="the connection ended")
        except Unavailable as problem:
            log.warning("bell lost", error=str(problem))
        await asyncio.sleep(RETRY_SECONDS)


async def _listen_once(pool: asyncpg.Pool, ring: Callable[[str], None]) -> None:
    ended = asyncio.Event()

    def on_notify(*heard: Any) -> None:
        ring(heard[-1])

    def on_end(*_: Any) -> None:
        ended.set()

    async with pool.acquire() as connection:
        connection.add_termination_listener(on_end)
        await connection.add_listener(CHANNEL, on_notify)
        try:
            ring("")  # for what came before
            while not ended.is_set():
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await ended.wait()
                except TimeoutError:
                    await _ask(connection)
        finally:
            connection.remove_termination_listener(on_end)
            if not connection.is_closed():
                await connection.remove_listener(CHANNEL, on_notify)


async def _ask(connection: asyncpg.Connection) -> None:
    """Raises what passes, the connection ended, where nobody answers."""
    try:
        await connection.execute("select 1", timeout=ANSWER_SECONDS)
    except TimeoutError:
        connection.terminate()
        raise
