"""The attempts under way: each endpoint's deliveries go out at its own pace and width."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

import structlog

from callbacks.attempts import Attempts
from callbacks.claims import Claim, Lot, Want
from callbacks.clock import Clock
from callbacks.lanes import Lane, Ready
from callbacks.metrics import IN_HAND
from callbacks.verdict import Verdict, judge

SHARE: Final = 0.25  # of the slots, that one endpoint may have

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
    ) -> None:
        """`on_room` is told of endpoints that could take more than was claimed for them."""
        self._attempts = attempts
        self._clock = clock
        self._rng = rng
        self._attempt_seconds = attempt_seconds
        self._on_verdict = on_verdict
        self._on_room = on_room
        self._most = max(1, int(slots * SHARE))
        self._lanes: dict[str, Lane] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self.free = slots
        IN_HAND.set_function(lambda: slots - self.free)

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Attempts are tasks of this group, so that its end is theirs."""
        self._tasks = tasks

    def want(self, endpoint: str) -> Want:
        """What could be claimed for an endpoint."""
        lane = self._lanes.get(endpoint)
        return Want(0, self._most) if lane is None else lane.want(self._most, time.monotonic())

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

    def give_back(self, endpoint: str) -> list[Claim]:
        """What waits for an endpoint that is sent nothing now: it is not in hand any more."""
        lane = self._lanes.get(endpoint)
        return [] if lane is None else self._drop(lane)

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
            lane.under_way -= 1
        verdict = judge(claim, answer, began, self._clock(), self._rng, lane.mostly_faults)
        lane.note(verdict.report.end, time.monotonic())
        self._on_verdict(verdict)
