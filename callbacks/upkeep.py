"""What dispatchers do beside sending: heartbeats, resends, partitions, forgetting, giving up.

Each job is safe in any number of processes and killed at any instant: its work is in transactions
that lock what they change, and what is left over is found by the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from callbacks import heartbeats, held, partitions, resends, retention, watch
from indexer.database import unavailable_database
from indexer.model import Unavailable

RETRY_SECONDS: Final = 30.0  # after a failure, of jobs that are done less often than that

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    work: Callable[[asyncpg.Pool], Awaitable[Any]]
    seconds: float  # between two rounds


JOBS: Final = (
    Job("partitions", partitions.keep, 3600.0),
    Job("retention", retention.forget, 600.0),
    Job("heartbeats", heartbeats.beat, 1.0),
    Job("resends", resends.feed, 0.5),
    Job("giving up", held.give_up, 3600.0),
    Job("warning", held.warn, 86_400.0),
    Job("watch", watch.look, 60.0),
)


async def run(pool: asyncpg.Pool, stop: asyncio.Event, jobs: Sequence[Job] = JOBS) -> None:
    """Do the jobs, each at its pace, until `stop`; what is in hand then is rolled back."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_repeat(pool, job)) for job in jobs]
        await stop.wait()
        for task in running:
            task.cancel()


async def _repeat(pool: asyncpg.Pool, job: Job) -> None:
    while True:
        pause = job.seconds
        try:
            with unavailable_database():
                await job.work(pool)
        except Unavailable as problem:
            log.warning("upkeep waits", job=job.name, error=str(problem))
            pause = min(pause, RETRY_SECONDS)
        await asyncio.sleep(pause)
