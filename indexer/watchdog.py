"""Looks every few seconds whether heads still rise and deliveries still leave, and is loud if not.

It runs in every process, beside what it watches and apart from it: of a follower that died
another process tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Final, Protocol

import asyncpg
import structlog

from indexer import census, metrics
from indexer.census import Census, NetworkCensus
from indexer.database import unavailable_database
from indexer.lease import wait
from indexer.model import Unavailable

LOOK_SECONDS: Final = 5.0
TIP_SECONDS: Final = 120.0  # without a new head, at least, before the alarm
# Blocks come as they come: of 12 mean intervals without one there is one in 160,000.
TIP_INTERVALS: Final = 12.0
DUE_SECONDS: Final = 60.0  # that a delivery may be due and not sent
REMIND_SECONDS: Final = 60.0  # between two alarms of the same

DELIVERIES: Final = "deliveries"

log = structlog.get_logger()


class Settings(Protocol):
    """Of a network."""

    @property
    def tip_alarm(self) -> float | None: ...  # seconds without a new head; 0: never; None: learnt


class Watchdog:
    """`late`: by network, and by DELIVERIES, a sentence on what is late now."""

    def __init__(self, pool: asyncpg.Pool, networks: Mapping[str, Settings]) -> None:
        self.late: dict[str, str] = {}
        self._pool = pool
        self._networks = networks
        self._said: dict[str, float] = {}

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.look()
            await wait(stop, LOOK_SECONDS)

    async def look(self) -> None:
        """Once: tell Prometheus how things stand, and sound the alarm where they stand ill."""
        self._count_connections()
        try:
            with unavailable_database():
                found = await census.take(self._pool)
        except Unavailable as problem:
            census.withdraw()
            log.warning("watchdog sees nothing", reason=str(problem))
            return
        census.tell(found)
        self._judge(found)

    def reasons(self, watched: Collection[str] | None = None) -> list[str]:
        """What is late of these networks, and DELIVERIES; None: of all."""
        return [said for what, said in self.late.items() if watched is None or what in watched]

    def _judge(self, found: Census) -> None:
        late = {n.id: said for n in found.networks if (said := self._tip_is_late(n)) is not None}
        if found.oldest_due > DUE_SECONDS:
            late[DELIVERIES] = (
                f"the oldest callback, of endpoint {found.oldest_endpoint}, has been due for "
                f"{found.oldest_due:.0f} s"
            )
        for name in self._networks:
            metrics.LATE.labels(name).set(name in late)
        metrics.LATE.labels(DELIVERIES).set(DELIVERIES in late)
        for what in self.late.keys() - late.keys():
            log.warning("on time again", what=what)
            self._said.pop(what, None)
        for what, sentence in late.items():
            if monotonic() - self._said.get(what, float("-inf")) >= REMIND_SECONDS:
                self._said[what] = monotonic()
                log.critical("late", what=what, reason=sentence)
        self.late = late

    def _tip_is_late(self, network: NetworkCensus) -> str | None:
        settings = self._networks.get(network.id)
        if settings is None or network.head_age is None:
            return None
        limit = settings.tip_alarm
        if limit is None:
            limit = max(TIP_SECONDS, TIP_INTERVALS * (network.interval or 0.0))
        if limit == 0 or network.head_age <= limit:
            return None
        return (
            f"network {network.id}: no new head for {network.head_age:.0f} s "
            f"(the alarm is at {limit:.0f} s)"
        )

    def _count_connections(self) -> None:
        for state, count in (
            ("open", self._pool.get_size()),
            ("idle", self._pool.get_idle_size()),
            ("most", self._pool.get_max_size()),
        ):
            metrics.CONNECTIONS.labels(state).set(count)
