"""Claims due deliveries, sends them signed, hands their outcomes on: one process's share.

Any number of dispatchers work on one outbox: leases keep them apart, the fence settles disputes,
and nothing here survives or need survive the process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import asyncpg
import structlog

from callbacks import checkups, claims, outcomes
from callbacks.attempts import ATTEMPT_SECONDS, Attempts
from callbacks.batches import Batches
from callbacks.claimer import Claimer
from callbacks.claims import Claim
from callbacks.clock import Clock
from callbacks.health import End, Report
from callbacks.members import BEAT_SECONDS, LOST_SECONDS, Members
from callbacks.metrics import ATTEMPTS, FINISHED, LATENCY_SECONDS, REFUSED, TOOK_SECONDS
from callbacks.outcomes import Outcome, Settled
from callbacks.traffic import Traffic
from callbacks.verdict import Verdict
from indexer import bell
from indexer.config import Callbacks
from indexer.secret import Vault

SLOTS: Final = 256  # deliveries in hand in this process: claimed and not settled yet
LEASE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25
LAST_OUTCOMES_SECONDS: Final = 15.0  # after a stop, for outcomes that the database is slow to take

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Numbers and seconds as their constants say them; tests make them small."""

    slots: int = SLOTS
    attempt_seconds: float = ATTEMPT_SECONDS
    lease_seconds: float = LEASE_SECONDS
    poll_seconds: float = POLL_SECONDS
    beat_seconds: float = BEAT_SECONDS
    lost_seconds: float = LOST_SECONDS


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
        """`now`: Unix seconds by this machine. Waiting goes by the event loop's own clock."""
        self._pool = pool
        clock = Clock(now)
        self._attempts = Attempts(vault, rules, limits.attempt_seconds, now=clock)
        self._traffic = Traffic(
            self._attempts,
            clock,
            rng or Random(),
            limits.slots,
            limits.attempt_seconds,
            on_verdict=self._judged,
            on_room=self._ask,
            on_unsent=self._give_back,
        )
        self._claimer = Claimer(
            pool,
            Members(pool, limits.lost_seconds),
            clock,
            self._traffic,
            lease_seconds=limits.lease_seconds,
            poll_seconds=limits.poll_seconds,
            beat_seconds=limits.beat_seconds,
        )
        self._verdicts: Batches[Verdict] = Batches("outcomes", self._settle)
        self._reports: Batches[Report] = Batches("reports", self._record)
        self._unsent: Batches[Claim] = Batches("leases", partial(claims.release, pool))
        self._ailing: set[str] = set()  # endpoints whose success is news, too

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then finish the attempts under way and settle them.

        The time limit of an attempt bounds the first, LAST_OUTCOMES_SECONDS the second.
        """
        async with self._attempts, asyncio.TaskGroup() as helpers:
            running = [
                helpers.create_task(self._verdicts.run()),
                helpers.create_task(self._reports.run()),
                helpers.create_task(self._unsent.run()),
                helpers.create_task(bell.listen(self._pool, self._claimer.hear)),
                helpers.create_task(self._wake_at(stop)),
            ]
            async with asyncio.TaskGroup() as attempts:
                self._traffic.begin(attempts)
                await self._claimer.run(stop)
            try:
                async with asyncio.timeout(LAST_OUTCOMES_SECONDS):
                    await self._verdicts.drained()
                    await self._reports.drained()
                    await self._unsent.drained()
            except TimeoutError:
                # Nothing is lost: their leases end, and they are sent again.
                log.error("outcomes given up")
            for task in running:
                task.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._claimer.wake()

    def _ask(self, endpoint: str) -> None:
        self._claimer.ask(endpoint)

    def _give_back(self, unsent: list[Claim]) -> None:
        for claim in unsent:
            self._unsent.add(claim)
        self._claimer.wake()

    def _judged(self, verdict: Verdict) -> None:
        self._verdicts.add(verdict)

    async def _settle(self, verdicts: list[Verdict]) -> None:
        settled = await outcomes.settle(self._pool, [each.outcome for each in verdicts])
        _count(verdicts, settled)
        for verdict in verdicts:
            delivery = verdict.outcome.claim.id
            if delivery in settled:
                self._settled(verdict, settled[delivery])
            else:
                log.warning("outcome refused", delivery=delivery, reason="the lease ran out")
                self._traffic.go_on(verdict.report.endpoint)  # its word on that is not heard
        self._traffic.settled(len(verdicts))
        self._claimer.wake()

    def _settled(self, verdict: Verdict, settled: Settled) -> None:
        outcome, report = verdict
        if settled.followed and settled.state is not None:
            self._claimer.ask(report.endpoint)
        ailing = outcome.claim.ailing or report.endpoint in self._ailing
        if ailing or report.end is not End.DELIVERED:
            self._reports.add(report)
        if outcome.answer.error is not None:
            _log_failure(outcome, settled)

    async def _record(self, reports: list[Report]) -> None:
        found = await checkups.record(self._pool, reports)
        going = {each.endpoint for each in found if not each.stopped}
        for endpoint in {each.endpoint for each in reports}:
            if endpoint in going:
                self._traffic.go_on(endpoint)
                self._claimer.ask(endpoint)
            else:  # its breaker opened, or it was paused, disabled or deleted
                self._traffic.give_back(endpoint)
        self._ailing.difference_update(each.endpoint for each in reports)
        self._ailing.update(each.endpoint for each in found if not each.health.well)


def _count(verdicts: Sequence[Verdict], settled: Mapping[int, Settled]) -> None:
    results = Counter(each.outcome.answer.error or "delivered" for each in verdicts)
    for result, count in results.items():
        ATTEMPTS.labels(result).inc(count)
    for each in verdicts:
        TOOK_SECONDS.observe(each.outcome.answer.total_ms / 1000)
        claim = each.outcome.claim
        if each.outcome.answer.error is None and claim.happened is not None:
            LATENCY_SECONDS.observe(time.monotonic() - claim.happened)
    ends = Counter((each.state, each.reason or "") for each in settled.values() if each.state)
    for (state, reason), count in ends.items():
        FINISHED.labels(state, reason).inc(count)
    REFUSED.inc(len(verdicts) - len(settled))


def _log_failure(outcome: Outcome, settled: Settled) -> None:
    """Nothing of the URL, which may hold a secret."""
    claim, answer = outcome.claim, outcome.answer
    fields = {
        "delivery": claim.id,
        "event_id": claim.message.event,
        "endpoint": claim.message.endpoint,
        "attempt": claim.message.number,
        "charged": outcome.charged,
        "error": answer.error,
        "status": answer.status,
        "ms": round(answer.total_ms, 1),
    }
    if settled.state is None:
        log.info("attempt failed", **fields, next_in=round(outcome.wait or 0.0, 1))
    else:
        log.warning("delivery exhausted", **fields, reason=settled.reason)
