"""The attempts under way: each endpoint's deliveries go out at its own pace and width.

Endpoints that hang must not empty the slots for all. An attempt that lingers lends its slot to
others, its endpoint gets nothing more until it ends, and a part of the slots is kept for endpoints
that have answered: however many hang together, those are served.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import structlog

from callbacks.attempts import Attempts
from callbacks.claims import Claim, Lot, Want
from callbacks.clock import Clock
from callbacks.lanes import FIRST_CLAIMS, Lane, Ready
from callbacks.metrics import IN_HAND
from callbacks.verdict import Verdict, judge

SHARE: Final = 0.25  # of the slots, that one endpoint may have
KEPT_SHARE: Final = 0.5  # of the slots, that only endpoints get which answered last
LINGER_SECONDS: Final = 1.0  # an attempt that takes longer lends its slot
MAX_LENT: Final = 1024  # slots; fewer where the process may not open four times as many files

log = structlog.get_logger()


class Traffic:
    """What this process has in hand: claimed and not settled yet."""

    def __init__(
        self,
        attempts: Attempts,
        clock: Clock,
        rng: Random,
        slots: int,
        attempt_seconds: float,
        *,
        on_verdict: Callable[[Verdict], None],
        on_room: Callable[[str], None],
        on_unsent: Callable[[list[Claim]], None],
    ) -> None:
        """`on_room` is told of endpoints that could take more than was claimed for them,
        `on_unsent` of claims that are not to be sent by this process after all.
        """
        self._attempts = attempts
        self._clock = clock
        self._rng = rng
        self._attempt_seconds = attempt_seconds
        self._on_verdict = on_verdict
        self._on_room = on_room
        self._on_unsent = on_unsent
        self._most = max(1, int(slots * SHARE))
        self._kept = int(slots * KEPT_SHARE)
        self._lendable = _most_lent()
        self._lingering: dict[int, bool] = {}  # deliveries; whether their slots were lent
        self._lanes: dict[str, Lane] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.free = slots
        IN_HAND.set_function(lambda: slots - self.free + sum(self._lingering.values()))

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Attempts are tasks of this group, so that its end is theirs."""
        self._tasks = tasks

    def want(self, endpoint: str) -> Want | None:
        """What could be claimed for an endpoint; None: nothing, until more slots are free."""
        lane = self._lanes.get(endpoint)
        if self.free <= self._kept and (lane is None or not lane.proven):
            return None
        return Want(0, FIRST_CLAIMS) if lane is None else lane.want(self._most, time.monotonic())

    def waiting(self) -> list[str]:
        """The endpoints for which something waits for its turn."""
        return [name for name, lane in self._lanes.items() if lane.waiting]

    def hunger(self, endpoint: str, hungry: bool) -> None:
        """Whether there is more to claim for it once it has room."""
        if lane := self._lanes.get(endpoint):
            lane.hungry = hungry

    def take(self, lots: Iterable[Lot], lease_ends: float) -> None:
        """Send what was claimed. `lease_ends`: on time.monotonic()."""
        now = time.monotonic()
        for lot in lots:
            lane = self._lanes.get(lot.endpoint)
            if lane is None:
                lane = self._lanes[lot.endpoint] = Lane(lot, now)
            lane.add(lot, lease_ends)
            self.free -= len(lot.claims)
            self._start(lane)

    def settled(self, count: int) -> None:
        self.free += count

    def give_back(self, endpoint: str) -> None:
        """What waits for an endpoint that is sent nothing now is not in hand any more."""
        if lane := self._lanes.get(endpoint):
            lane.begin_anew()
            self._on_unsent(self._drop(lane))

    def give_back_all(self) -> list[Claim]:
        return [claim for lane in self._lanes.values() for claim in self._drop(lane)]

    def go_on(self, endpoint: str) -> None:
        """More may be sent to it."""
        if lane := self._lanes.get(endpoint):
            lane.held = False
            self._start(lane)

    def tidy(self) -> None:
        """Forget endpoints that nothing was sent to for a while."""
        now = time.monotonic()
        for endpoint in [name for name, lane in self._lanes.items() if lane.stale(now)]:
            del self._lanes[endpoint]

    def _drop(self, lane: Lane) -> list[Claim]:
        claims = lane.give_back()
        self.free += len(claims)
        return claims

    def _start(self, lane: Lane) -> None:
        assert self._tasks is not None
        now = time.monotonic()
        while (ready := lane.next(now)) is not None:
            self._tasks.create_task(self._work(lane, ready))
        if lane.timer is None and (pause := lane.pause(now)) > 0:
            loop = asyncio.get_running_loop()
            lane.timer = loop.call_later(pause, self._resume, lane)

    def _resume(self, lane: Lane) -> None:
        lane.timer = None
        self._start(lane)

    async def _work(self, lane: Lane, first: Ready) -> None:
        """One attempt after the other, as long as there are any."""
        ready: Ready | None = first
        while ready is not None:
            await self._attempt(lane, ready)
            if lane.hungry and lane.low:
                self._on_room(ready.claim.message.endpoint)
            ready = lane.next(time.monotonic())
        self._start(lane)

    async def _attempt(self, lane: Lane, ready: Ready) -> None:
        claim, began = ready.claim, time.monotonic()
        timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._linger, lane, claim)
        lingered = False
        try:
            # Not the event loop's time: that stands still while this process is stopped.
            if began + self._attempt_seconds > ready.lease_ends:
                # The delivery may be somebody else's by now.
                endpoint = claim.message.endpoint
                log.warning("lease too old to send", delivery=claim.id, endpoint=endpoint)
                self.free += 1
                return
            answer = await self._attempts.send(claim.message)
        finally:
            timer.cancel()
            lane.under_way -= 1
            lingered = self._ended(lane, claim)
        verdict = judge(claim, answer, began, self._clock(), self._rng, lane.mostly_faults)
        lane.note(verdict.report.end, time.monotonic(), lingered=lingered)
        self._on_verdict(verdict)

    def _linger(self, lane: Lane, claim: Claim) -> None:
        lent = sum(self._lingering.values()) < self._lendable
        self._lingering[claim.id] = lent
        self.free += lent
        lane.lingering += 1
        lane.hungry = True
        self._on_unsent(self._drop(lane))

    def _ended(self, lane: Lane, claim: Claim) -> bool:
        """Whether an attempt that has ended had lingered; its slot is its own again."""
        if claim.id not in self._lingering:
            return False
        self.free -= self._lingering.pop(claim.id)
        lane.lingering -= 1
        return True


def _most_lent() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_LENT, files // 4) if files > 0 else MAX_LENT
