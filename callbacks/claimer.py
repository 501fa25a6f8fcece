"""For which endpoints to claim, and when: the bell names them, they have room, they are due."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import asyncpg
import structlog

from callbacks import claims
from callbacks.claims import Claim, Want
from callbacks.clock import Clock
from callbacks.members import Members
from callbacks.traffic import Traffic
from indexer.model import Unavailable

CLAIM_ENDPOINTS: Final = 64  # that one claim takes from
POLL_SHARE: Final = 0.1  # of the time, that polls may take: with many endpoints they are rarer
DATABASE_RETRY_SECONDS: Final = 1.0

log = structlog.get_logger()


class Claimer:
    def __init__(
        self,
        pool: asyncpg.Pool,
        members: Members,
        clock: Clock,
        traffic: Traffic,
        *,
        lease_seconds: float,
        poll_seconds: float,
        beat_seconds: float,
    ) -> None:
        self._pool = pool
        self._members = members
        self._clock = clock
        self._traffic = traffic
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._beat_seconds = beat_seconds
        self._wake = asyncio.Event()
        self._asked: dict[str, bool] = {}  # endpoints in the order of their turns; True: a probe
        self._next_poll = self._next_beat = float("-inf")
        self._unsent: list[Claim] = []  # claimed when it was told to stop

    def ask(self, endpoint: str) -> None:
        """There may be something to claim for it."""
        if self._members.own(endpoint):
            self._asked.setdefault(endpoint, False)
            self._wake.set()

    def hear(self, endpoints: str) -> None:
        """The bell, with what it said."""
        for endpoint in endpoints.split():
            self.ask(endpoint)
        if not endpoints:
            self._next_poll = float("-inf")
            self._wake.set()

    def wake(self) -> None:
        """There are slots again, or there is an end."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Claim until `stop`; then nothing that was not begun is this process's any more."""
        while not stop.is_set():
            self._wake.clear()
            pause = 0.0
            try:
                await self._look()
                if not await self._claim(stop):
                    pause = max(0.0, self._next_poll - time.monotonic())
            except Unavailable as problem:
                log.warning("dispatcher waits", error=str(problem))
                pause = DATABASE_RETRY_SECONDS
            if pause:
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        await self._end()

    async def _look(self) -> None:
        """Now and then: who else is at work, and what is due that nobody spoke of."""
        start = time.monotonic()
        if start >= self._next_beat:
            self._clock.hear(await self._members.beat())
            self._next_beat = start + self._beat_seconds
            self._traffic.tidy()
        if start < self._next_poll:
            return
        for endpoint in await claims.stopped(self._pool, self._traffic.waiting()):
            self._traffic.give_back(endpoint)  # by its owner, or by another dispatcher's word
        due = [each for each in await claims.due(self._pool) if self._members.own(each.endpoint)]
        self._asked.update((each.endpoint, each.probe) for each in due)
        now = time.monotonic()
        self._next_poll = now + max(self._poll_seconds, (now - start) / POLL_SHARE)

    async def _claim(self, stop: asyncio.Event) -> bool:
        """Whether there was anybody to claim for."""
        wants, probes = self._choose()
        if not wants and not probes:
            return False
        lease_ends = time.monotonic() + self._lease_seconds
        lots = await claims.probe(self._pool, probes, self._lease_seconds)
        lots += await claims.claim(self._pool, wants, self._traffic.free, self._lease_seconds)
        if stop.is_set():
            self._unsent = [claim for lot in lots for claim in lot.claims]
            return True
        self._traffic.take(lots, lease_ends)
        full = {lot.endpoint for lot in lots if lot.full}
        for endpoint in full.intersection(wants):
            self._traffic.hunger(endpoint, True)
            want = self._traffic.want(endpoint)
            if want is None or want.room:
                self._asked.setdefault(endpoint, False)  # it had to share: its turn comes again
        return True

    def _choose(self) -> tuple[dict[str, Want], list[str]]:
        """Whose turn it is, to claim and to probe; who has no room says so when it has."""
        wants: dict[str, Want] = {}
        probes: list[str] = []
        most = min(CLAIM_ENDPOINTS, self._traffic.free)
        for endpoint, probe in [*self._asked.items()]:
            if len(wants) + len(probes) >= most:
                break
            want = self._traffic.want(endpoint)
            if want is None:
                continue  # it keeps its turn
            del self._asked[endpoint]
            self._traffic.hunger(endpoint, False)  # until it is known whether there is more
            if probe:
                if not want.busy:
                    probes.append(endpoint)
            elif want.room:
                wants[endpoint] = want
            else:
                self._traffic.hunger(endpoint, True)
        return wants, probes

    async def _end(self) -> None:
        """Give back what was not sent, and the endpoints."""
        try:
            await claims.release(self._pool, [*self._unsent, *self._traffic.give_back_all()])
            await self._members.leave()
        except Unavailable as problem:
            log.warning("leases not given back", error=str(problem))
