"""Claims due deliveries, sends them signed, hands their outcomes on: one process's share.

Any number of dispatchers work on one outbox: leases keep them apart, the fence settles disputes,
and nothing here survives or need survive the process. The bell wakes it, a slow poll stands behind.

What a claim passes over is `busy`, and what an answer means is `_judge`: an endpoint's breaker and
limits of its own belong to the first, the receiver's special answers to the second.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

import asyncpg
import structlog

from callbacks import claims
from callbacks.answer import Answer
from callbacks.attempts import ATTEMPT_SECONDS, Attempts
from callbacks.claims import Claim
from callbacks.outcomes import Outcome
from callbacks.schedule import next_wait, parse_retry_after
from callbacks.settler import Settler
from indexer import bell
from indexer.config import Callbacks
from indexer.model import Unavailable
from indexer.secret import Vault

SLOTS: Final = 256  # deliveries in hand in this process: claimed and not settled yet
SLOTS_PER_ENDPOINT: Final = 8  # attempts under way
LEASE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25
DATABASE_RETRY_SECONDS: Final = 1.0
LAST_OUTCOMES_SECONDS: Final = 15.0  # after a stop, for outcomes that the database is slow to take

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers and seconds as the constants of this module say them; tests make them small."""

    slots: int = SLOTS
    slots_per_endpoint: int = SLOTS_PER_ENDPOINT
    attempt_seconds: float = ATTEMPT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS


class Dispatcher:
    """Sends what is due until it is told to stop."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        rules: Callbacks,
        limits: Limits = Limits(),
        *,
        rng: Random | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now`: Unix seconds, for signatures. Waiting goes by the event loop's own clock."""
        self._pool = pool
        self._limits = limits
        self._rng = rng or Random()
        self._now = now
        self._attempts = Attempts(vault, rules, limits.attempt_seconds, now=now)
        self._settler = Settler(pool, self._on_settled)
        self._wake = asyncio.Event()
        self._in_hand = 0
        self._busy: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then finish the attempts under way and settle them.

        The time limit of an attempt bounds the first, LAST_OUTCOMES_SECONDS the second.
        """
        async with self._attempts, asyncio.TaskGroup() as helpers:
            running = [
                helpers.create_task(self._settler.run()),
                helpers.create_task(bell.listen(self._pool, self._wake.set)),
                helpers.create_task(self._wake_at(stop)),
            ]
            async with asyncio.TaskGroup() as attempts:
                await self._claim_until(stop, attempts)
            try:
                async with asyncio.timeout(LAST_OUTCOMES_SECONDS):
                    await self._settler.drained()
            except TimeoutError:
                # Nothing is lost: their leases end, and they are sent again.
                log.error("outcomes given up", outcomes=self._in_hand)
            for task in running:
                task.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _claim_until(self, stop: asyncio.Event, attempts: asyncio.TaskGroup) -> None:
        while not stop.is_set():
            self._wake.clear()
            pause = self._limits.poll_seconds
            claimed: list[Claim] = []
            lease_ends = time.monotonic() + self._limits.lease_seconds
            try:
                claimed = await self._claim()
                if stop.is_set():
                    await claims.release(self._pool, claimed)
                    return
            except Unavailable as problem:
                log.warning("dispatcher waits", error=str(problem))
                pause = DATABASE_RETRY_SECONDS
            for claim in claimed:
                self._in_hand += 1
                self._busy[claim.message.endpoint] += 1
                attempts.create_task(self._attempt(claim, lease_ends))
            if claimed and self._in_hand < self._limits.slots:
                continue  # there may be more: a claim shares its slots out
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _claim(self) -> list[Claim]:
        free = self._limits.slots - self._in_hand
        if not free:
            return []
        return await claims.claim(
            self._pool,
            free,
            self._limits.slots_per_endpoint,
            self._busy,
            self._limits.lease_seconds,
        )

    def _on_settled(self, count: int) -> None:
        self._in_hand -= count
        self._wake.set()

    async def _attempt(self, claim: Claim, lease_ends: float) -> None:
        endpoint, began = claim.message.endpoint, time.monotonic()
        try:
            if began + self._limits.attempt_seconds > lease_ends:
                # This process stood still: the delivery may be somebody else's by now.
                log.warning("lease too old to send", delivery=claim.id, endpoint=endpoint)
                self._on_settled(1)
                return
            answer = await self._attempts.send(claim.message)
        finally:
            self._busy[endpoint] -= 1
            if not self._busy[endpoint]:
                del self._busy[endpoint]
        outcome = self._judge(claim, answer, began)
        self._settler.add(outcome)
        log.info(
            "delivery attempted",
            delivery=claim.id,
            event_id=claim.message.event,
            endpoint=endpoint,
            address=answer.address,
            attempt=claim.message.number,
            status=answer.status,
            error=answer.error,
            ms=round((time.monotonic() - began) * 1000, 1),
            state=outcome.state or "pending",
            next_in=None if outcome.wait is None else round(outcome.wait, 1),
        )

    def _judge(self, claim: Claim, answer: Answer, began: float) -> Outcome:
        if answer.error is None:
            return Outcome(claim, answer, began, "delivered")
        asked = parse_retry_after(answer.retry_after, self._now())
        wait = next_wait(claim.attempts + 1, asked, self._rng)
        if wait is None:
            return Outcome(claim, answer, began, "exhausted", "attempts")
        return Outcome(claim, answer, began, wait=wait)
