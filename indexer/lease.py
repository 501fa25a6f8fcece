"""A lease row: keeps replicas from doing one network's work twice for nothing.

Judged by the database's clock alone. It saves work and is no fence: a holder that slept past its
lease is stopped by the cursor's compare-and-swap.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from indexer.database import PROCESS, hang_up

# Another process follows within ten seconds of its last renewal: with eight of lease, what was left
# for the next look and the first block was one, too little for a busy machine.
LEASE: Final = timedelta(seconds=6)
RENEW_SECONDS: Final = 2.0
FOLLOW: Final = "follow:"  # before a network's id: the name of what its leader holds

log = structlog.get_logger()


class Lease:
    """One name, wanted by this process until `release`."""

    def __init__(self, pool: asyncpg.Pool, name: str, holder: UUID) -> None:
        self._pool = pool
        self._name = name
        self._holder = holder
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        return monotonic() < self._until

    async def take(self) -> bool:
        """Take or renew it; False while another process holds it.

        Whoever let it lapse may hang in the middle of a transaction, with locks that its next
        holder needs: its connections are ended.
        """
        asked = monotonic()  # counted from before the question: never longer than the row says
        taken = await self._pool.fetchrow(
            """
            with last as (select process from lease where name = $1 and holder <> $2)
            insert into lease as l (name, holder, process, until)
                values ($1, $2, $4, clock() + $3)
                on conflict (name) do update set holder = $2, process = $4, until = clock() + $3
                where l.holder = $2 or l.until < clock()
            returning (select process from last) as last
            """,
            self._name,
            self._holder,
            LEASE,
            PROCESS,
        )
        self._until = asked + LEASE.total_seconds() if taken else float("-inf")
        if taken and taken["last"] not in (None, PROCESS):
            await self._hang_up(taken["last"])
        return self.held

    async def _hang_up(self, process: str) -> None:
        if ended := await hang_up(self._pool, process):
            log.warning("hung_up", lease=self._name, process=process, connections=ended)

    async def release(self) -> None:
        """Let the next one have it at once."""
        self._until = float("-inf")
        await self._pool.execute(
            "delete from lease where name = $1 and holder = $2", self._name, self._holder
        )


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, but no longer than until `stop`."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
