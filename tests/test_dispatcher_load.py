"""What fails costs the others nothing: their rate and delay beside a run in which nothing fails."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import asyncpg
import pytest

from callbacks.dispatcher import Limits
from indexer.database import connect_pool
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import claim_seconds
from tests.conftest import SECRET_KEY, TEMPLATE, Server
from tests.harness.crowd import Conduct, Crowd, crowd
from tests.harness.dispatcher import DispatcherProcess, dispatchers

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
ENDPOINTS: Final = 5_000 if SOAK else 1_000
BACKLOG: Final = 500_000 if SOAK else 50_000  # due deliveries of one dead endpoint
CHUNK: Final = 10_000
FAILING: Final = 0.1  # of the endpoints
DEAD: Final = 0.3  # of the endpoints, at the worst
SLOW: Final = 0.1
BURST: Final = 5_000 if SOAK else 800  # deliveries due at once, whose rate is measured
BURSTS: Final = 2  # of which the best counts
TRICKLE: Final = 1_000 if SOAK else 200  # events a second, whose delay is measured
TRICKLE_SECONDS: Final = 10.0 if SOAK else 1.5
EVERY: Final = 0.05  # seconds between two transactions of a trickle
# The aims are those of a machine that does nothing else. A short run, which shares its own, finds
# what is several times too slow, as all is where one endpoint can be in the way of another.
PROMPT: Final = 0.5 if SOAK else 3.0  # seconds from the commit to the request, p99
SLOWER: Final = 1.1 if SOAK else 3.0  # times, for what those that fail may cost the others
CLAIM_SECONDS: Final = 0.020 if SOAK else 0.2  # p50
# Two runs of the same thing differ by more than a tenth even there: medians of so many, in turns.
ROUNDS: Final = 9 if SOAK else 3
PATIENCE: Final = 120.0  # seconds

pytestmark = pytest.mark.timeout(1800 if SOAK else 300)


@dataclass(frozen=True)
class Pace:
    """How fast healthy endpoints were served: deliveries a second, and seconds after the commit."""

    rate: float
    p50: float
    p99: float


class Side:
    """An installation of its own: a database, a dispatcher, and what is sent to its endpoints."""

    def __init__(self, name: str, pool: asyncpg.Pool, process: DispatcherProcess, seen: Crowd):
        self.pool = pool
        self.accounts = [f"{name}{n}" for n in range(ENDPOINTS)]
        self.healthy = self.accounts
        self.failing: list[str] = []
        self.paces: list[Pace] = []
        self._process = process
        self._seen = seen
        self._random = Random(name)
        self._deposits = 0

    async def measure(self) -> None:
        """Let the dispatcher go on for as long as this takes."""
        self._process.signal(signal.SIGCONT)
        await self._burst(BURST // 4)  # it warms up
        rate = max([await self._burst(BURST) for _ in range(BURSTS)])
        self.paces.append(Pace(rate, *await self._trickle()))
        self._process.signal(signal.SIGSTOP)

    async def _burst(self, events: int) -> float:
        names = await self.make(events)
        committed = time.monotonic()
        await self._seen.wait_for(names, PATIENCE)
        return events / (max(self._seen.arrived[name] for name in names) - committed)

    async def _trickle(self) -> tuple[float, float]:
        """The median and the 99th percentile of the seconds from a commit to the request."""
        committed: dict[str, float] = {}
        start = time.monotonic()
        for tick in range(int(TRICKLE_SECONDS / EVERY)):
            await asyncio.sleep(max(0.0, start + tick * EVERY - time.monotonic()))
            names = await self.make(int(TRICKLE * EVERY))
            committed |= dict.fromkeys(names, time.monotonic())
        await self._seen.wait_for(committed, PATIENCE)
        delays = [self._seen.arrived[name] - at for name, at in committed.items()]
        percentiles = statistics.quantiles(delays, n=100)
        return percentiles[49], percentiles[98]

    async def make(self, events: int) -> list[str]:
        """Events of endpoints that are well; with them as many of each that fails."""
        others = events * len(self.failing) // len(self.healthy)
        accounts = [
            *self._random.choices(self.healthy, k=events),
            *(self._random.choices(self.failing, k=others) if others else ()),
        ]
        return (await self.send(accounts))[:events]

    async def send(self, accounts: Sequence[str]) -> list[str]:
        """The ids of new events, one for each of these accounts."""
        names = await bulk.deposits(self.pool, accounts, self._deposits)
        self._deposits += len(names)
        return await bulk.events(self.pool, [(name, 1) for name in names])


@asynccontextmanager
async def side(
    name: str, server: Server, vault: Vault, seen: Crowd, folder: Path
) -> AsyncIterator[Side]:
    dsn = await server.create(TEMPLATE)
    pool = await connect_pool(dsn)
    (folder / name).mkdir()
    try:
        async with dispatchers(1, folder / name, dsn, SECRET_KEY, Limits()) as [process]:
            made = Side(name, pool, process, seen)
            await bulk.world(pool, made.accounts)
            await bulk.endpoints(pool, vault, seen.urls(made.accounts))
            process.signal(signal.SIGSTOP)
            yield made
            process.signal(signal.SIGCONT)
    finally:
        await pool.close()
        await server.drop(dsn)


def let_fail(made: Side, seen: Crowd, *shares: tuple[float, Conduct]) -> None:
    """Such shares of the endpoints behave so from now on; the others stay well."""
    rest = made.accounts
    for share, conduct in shares:
        count = round(ENDPOINTS * share)
        failing, rest = rest[:count], rest[count:]
        seen.behave(failing, conduct)
        made.failing += failing
    made.healthy = rest


@pytest.mark.case(38)
async def test_a_dead_endpoints_backlog_and_a_tenth_that_fails_slow_nobody(
    server: Server, vault: Vault, tmp_path: Path
) -> None:
    async with (
        crowd() as seen,
        side("alone", server, vault, seen, tmp_path) as alone,
        side("beside", server, vault, seen, tmp_path) as beside,
    ):
        let_fail(beside, seen, (FAILING / 2, Conduct.DEAD), (FAILING / 2, Conduct.FAILING))
        for _ in range(BACKLOG // CHUNK):
            await beside.send([beside.failing[0]] * CHUNK)
        for number in range(ROUNDS):
            for each in (alone, beside) if number % 2 else (beside, alone):
                await each.measure()
        assert slowed(alone.paces, beside.paces) < SLOWER
        asked = [bulk.endpoint_of(account) for account in beside.accounts]  # the dead one first
        seconds = await claim_seconds(beside.pool, asked)
        seen.over.set()
    assert seconds < CLAIM_SECONDS


def slowed(alone: Sequence[Pace], beside: Sequence[Pace]) -> float:
    """How many times slower it is beside those that fail than alone, in the middle of all runs."""
    rate, served = (statistics.median(pace.rate for pace in paces) for paces in (alone, beside))
    delay, waited = (statistics.median(pace.p50 for pace in paces) for paces in (alone, beside))
    return max(rate / served, waited / delay)


@pytest.mark.case(39)
async def test_a_third_that_is_dead_and_a_tenth_that_is_slow_leave_the_rest_prompt(
    server: Server, vault: Vault, tmp_path: Path
) -> None:
    async with crowd() as seen, side("shop", server, vault, seen, tmp_path) as shops:
        let_fail(shops, seen, (DEAD, Conduct.DEAD), (SLOW, Conduct.SLOW))
        await shops.measure()  # when it begins, many have to be found out
        for _ in range(ROUNDS):
            await shops.measure()
            if shops.paces[-1].p99 < PROMPT:
                break
        seen.over.set()
    assert shops.paces[-1].p99 < PROMPT
