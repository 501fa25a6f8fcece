"""Order, at-least-once, stable ids: through kills, stops, restarts and receivers that fail."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from callbacks.dispatcher import SLOTS, Limits
from indexer.database import connect_pool, unavailable_database
from indexer.model import Unavailable
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import until
from tests.conftest import SECRET_KEY
from tests.harness.cluster import Cluster, cluster
from tests.harness.dispatcher import DispatcherProcess, dispatchers
from tests.harness.witness import witness

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
BATCHES: Final = 525 if SOAK else 25  # at least
DISRUPTIONS: Final = 50 if SOAK else 2  # of each kind, at least
ACCOUNTS: Final = tuple(f"shop{n}" for n in range(16))
STEPS: Final = 4  # events of a deposit
TOGETHER: Final = 48  # deposits of a batch, whose next event one transaction makes
WAITING: Final = 2000  # live deliveries above which no more are made
PROCESSES: Final = 3
FAILING: Final = 0.2  # chance that a receiver fails
LIMITS: Final = Limits(
    lease_seconds=3.0, attempt_seconds=1.0, poll_seconds=0.1, beat_seconds=0.3, lost_seconds=1.5
)
PATIENCE: Final = 900.0 if SOAK else 60.0  # seconds until everything must have arrived

# Backoffs and breakers end: time passes. Leases end by themselves.
HURRY: Final = """
    with shut as (update endpoint_health set open_until = clock() where open_until > clock())
    update delivery set due_at = clock() where due_at > clock() and lease_token is null
"""


class Life:
    """Deposits that take their steps, and the disruptions meanwhile, by a seeded rule."""

    def __init__(
        self, server: Cluster, pool: asyncpg.Pool, processes: Sequence[DispatcherProcess]
    ) -> None:
        self._server = server
        self._pool = pool
        self._processes = processes
        self._random = random.Random(34)
        # Held by who needs the server for a moment; a restart takes both.
        self._feeding, self._starting = asyncio.Lock(), asyncio.Lock()
        self._fed = asyncio.Event()
        self.kills = self.stands = self.restarts = 0

    async def run(self) -> None:
        """Until every event is made."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._feed())
            tasks.create_task(self._kill(self._processes[1:]))
            tasks.create_task(self._stand(self._processes[0]))
            tasks.create_task(self._restart())

    async def _feed(self) -> None:
        """Steps of many deposits at once: what waits in line keeps all slots busy."""
        for batch in count():
            if batch >= BATCHES and self._disrupted():
                break
            account = self._random.choice(ACCOUNTS)
            async with self._feeding:
                names = await bulk.deposits(self._pool, [account] * TOGETHER, batch * TOGETHER)
            for sequence in range(1, STEPS + 1):
                self._random.shuffle(names)
                async with self._feeding:
                    await bulk.events(self._pool, [(name, sequence) for name in names])
                while await self._waiting() > WAITING:
                    await asyncio.sleep(0.05)
        self._fed.set()

    def _disrupted(self) -> bool:
        return min(self.kills, self.stands, self.restarts) >= DISRUPTIONS

    async def _waiting(self) -> int:
        async with self._feeding:
            return int(await self._pool.fetchval("select count(*) from delivery"))

    async def _kill(self, processes: Sequence[DispatcherProcess]) -> None:
        while await self._pause(1.0, 2.5):
            victim = self._random.choice(processes)
            if self._random.random() < 0.8:
                await victim.kill()
                self.kills += 1
            else:
                async with self._starting:  # a stop waits for the database
                    await victim.stop()
            async with self._starting:  # so does a start
                await victim.start()

    async def _stand(self, process: DispatcherProcess) -> None:
        while await self._pause(0.5, 1.5):
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(LIMITS.lease_seconds + 0.5)
            process.signal(signal.SIGCONT)
            self.stands += 1

    async def _restart(self) -> None:
        while await self._pause(2.0, 4.0):
            async with self._feeding, self._starting:
                await (self._server.crash() if self.restarts % 2 else self._server.restart())
            self.restarts += 1

    async def _pause(self, least: float, most: float) -> bool:
        """Whether there is still something to disrupt."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._fed.wait(), self._random.uniform(least, most))
        return not self._fed.is_set()


async def hurry(pool: asyncpg.Pool) -> None:
    while True:
        with suppress(Unavailable), unavailable_database():
            await pool.execute(HURRY)
        await asyncio.sleep(0.2)


async def expected(pool: asyncpg.Pool) -> dict[tuple[str, str], bytes]:
    """The bytes of each event by account and id: each account has one endpoint."""
    rows = await pool.fetch("select account, id, body from event")
    return {(row["account"], row["id"]): row["body"] for row in rows}


@pytest.mark.case(30, 32, 34)
@pytest.mark.timeout(3600 if SOAK else 120)
async def test_order_and_every_event_survive_kills_stops_and_restarts(
    tmp_path: Path, vault: Vault
) -> None:
    async with cluster(tmp_path, vault) as server, witness(FAILING, seed=34) as shops:
        pool = await connect_pool(server.dsn)
        await bulk.world(pool, ACCOUNTS)
        urls = {account: shops.url(account) for account in ACCOUNTS}
        shops.know(await bulk.endpoints(pool, vault, urls))
        async with dispatchers(PROCESSES, tmp_path, server.dsn, SECRET_KEY, LIMITS) as processes:
            hurrying = asyncio.create_task(hurry(pool))
            life = Life(server, pool, processes)
            await life.run()
            await until(lambda: _empty(pool), PATIENCE)
            hurrying.cancel()
        events = await expected(pool)
        verdict = shops.judge(events)
        states = await pool.fetch("select state, count(*) from delivery_done group by state")
        await pool.close()
    assert not shops.refused, shops.refused[:3]
    assert (verdict.lost, verdict.changed, verdict.inversions) == (set(), 0, 0)
    assert [tuple(row) for row in states] == [("delivered", len(events))]
    # Each process that is cut off leaves at most what it had in hand to be repeated, each once.
    disruptions = life.kills + life.stands + life.restarts * PROCESSES
    assert verdict.repeats.total() <= disruptions * SLOTS
    assert verdict.most_repeats <= disruptions
    # One may be halfway into its POST when it is stopped.
    assert verdict.late <= life.stands


async def _empty(pool: asyncpg.Pool) -> bool:
    return not await pool.fetchval("select exists (select from delivery)")
