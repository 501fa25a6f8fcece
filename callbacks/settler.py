"""Outcomes on their way into the database: in batches, in order, and kept while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog

from callbacks import outcomes
from callbacks.outcomes import Outcome
from indexer.model import Unavailable

BATCH: Final = 200  # outcomes of one statement
GATHER_SECONDS: Final = 0.01  # that a batch waits for company
FIRST_RETRY_SECONDS: Final = 0.1  # doubled with each failure
LAST_RETRY_SECONDS: Final = 5.0

log = structlog.get_logger()


class Settler:
    """Takes outcomes without waiting. Whoever claims bounds how many can be waiting here."""

    def __init__(self, pool: asyncpg.Pool, on_settled: Callable[[int], None]) -> None:
        """`on_settled` is told how many outcomes were just written or refused by the fence."""
        self._pool = pool
        self._on_settled = on_settled
        self._waiting: list[Outcome] = []
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, outcome: Outcome) -> None:
        self._waiting.append(outcome)
        self._some.set()
        self._none.clear()

    async def run(self) -> None:
        """Write what is added, until cancelled. Raises only what must stop the dispatcher."""
        wait = FIRST_RETRY_SECONDS
        while True:
            await self._some.wait()
            if len(self._waiting) < BATCH:
                await asyncio.sleep(GATHER_SECONDS)
            try:
                await self._write(self._waiting[:BATCH])
                wait = FIRST_RETRY_SECONDS
            except Unavailable as problem:
                log.warning("outcomes wait", outcomes=len(self._waiting), error=str(problem))
                await asyncio.sleep(wait)
                wait = min(wait * 2, LAST_RETRY_SECONDS)

    async def drained(self) -> None:
        """Return when nothing waits."""
        await self._none.wait()

    async def _write(self, batch: list[Outcome]) -> None:
        taken = await outcomes.settle(self._pool, batch)
        for outcome in batch:
            if outcome.claim.id not in taken:
                log.warning(
                    "outcome refused", delivery=outcome.claim.id, reason="the lease ran out"
                )
        del self._waiting[: len(batch)]
        if not self._waiting:
            self._some.clear()
            self._none.set()
        self._on_settled(len(batch))
