"""Things on their way into the database: in batches, in order, and kept while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import structlog

from indexer.model import Unavailable

BATCH: Final = 200  # things that are written at once
GATHER_SECONDS: Final = 0.003  # that a batch waits for company
FIRST_RETRY_SECONDS: Final = 0.1  # doubled with each failure
LAST_RETRY_SECONDS: Final = 5.0

T = TypeVar("T")

log = structlog.get_logger()


class Batches(Generic[T]):
    """Takes things without waiting. Whoever makes them bounds how many can be waiting here."""

    def __init__(self, name: str, write: Callable[[list[T]], Awaitable[None]]) -> None:
        """`name`: of the things, for the log. `write` raises Unavailable where it can't yet."""
        self._name = name
        self._write = write
        self._waiting: list[T] = []
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, thing: T) -> None:
        self._waiting.append(thing)
        self._some.set()
        self._none.clear()

    async def run(self) -> None:
        """Write what is added, until cancelled. Raises only what must stop the dispatcher."""
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._some.wait()
            if len(self._waiting) < BATCH:
                await asyncio.sleep(GATHER_SECONDS)
            batch = self._waiting[:BATCH]
            try:
                await self._write(batch)
            except Unavailable as problem:
                log.warning(f"{self._name} wait", waiting=len(self._waiting), error=str(problem))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LAST_RETRY_SECONDS)
                continue
            wait = FIRST_RETRY_SECONDS
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._some.clear()
                self._none.set()

    async def drained(self) -> None:
        """Return when nothing waits."""
        await self._none.wait()
