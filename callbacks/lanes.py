"""What a process has in hand, an endpoint a lane, and how fast each may go.

Times are seconds of time.monotonic().
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

from callbacks.claims import Claim, Lot, Want
from callbacks.health import FAULTS, End

BURST_SECONDS: Final = 2.0  # of an endpoint's rate, that may come at once after a rest
WINDOW_SECONDS: Final = 60.0  # in which faults are counted
ROUNDS: Final = 4  # of an endpoint's attempts, that are in hand: under way, and the next
FIRST_CLAIMS: Final = 2  # in hand of an endpoint that is not known to answer
SLICES: Final = 6  # of the window, forgotten one by one
ATTEMPTS: Final = 20  # in the window, below which a share says nothing
SHARE: Final = 0.5  # of faults, from which on the breaker opens


class Ready(NamedTuple):
    """A claim that waits for its turn."""

    claim: Claim
    lease_ends: float


class Bucket:
    """Tokens that come at a rate, and of which so many are kept."""

    def __init__(self, rate: float, now: float) -> None:
        """`rate`: tokens a second."""
        self.rate = rate
        self.tokens = self._most
        self._at = now

    @property
    def _most(self) -> float:
        return max(1.0, self.rate * BURST_SECONDS)

    def fill(self, now: float) -> float:
        """How many there are now."""
        self.tokens = min(self._most, self.tokens + (now - self._at) * self.rate)
        self._at = now
        return self.tokens


class Recent:
    """How many of an endpoint's attempts within the window were faults."""

    def __init__(self, now: float) -> None:
        self._slices: deque[list[int]] = deque([[0, 0]], SLICES)
        self._since = now

    def clear(self) -> None:
        self._slices.clear()
        self._slices.append([0, 0])

    def add(self, fault: bool, now: float) -> None:
        passed = int((now - self._since) * SLICES / WINDOW_SECONDS)
        self._since += passed * WINDOW_SECONDS / SLICES
        self._slices.extend([0, 0] for _ in range(min(passed, SLICES)))
        self._slices[-1][0] += 1
        self._slices[-1][1] += fault

    @property
    def mostly_faults(self) -> bool:
        attempts = sum(each[0] for each in self._slices)
        return attempts >= ATTEMPTS and sum(each[1] for each in self._slices) >= attempts * SHARE


class Lane:
    """One endpoint's deliveries: those that wait for their turn, and how many are under way."""

    def __init__(self, lot: Lot, now: float) -> None:
        self.waiting: deque[Ready] = deque()
        self.under_way = 0
        self.proven = False  # whether it has answered since it was last seen to hang
        self.lingering = 0  # of those under way: it gets nothing more until they end
        self.hungry = False  # there may be more to claim than was taken
        self.held = False  # until the database says whether more may be sent
        self.timer: asyncio.TimerHandle | None = None  # that ends a pause
        self._recent = Recent(now)
        self._faults = 0  # in a row
        self._concurrency = lot.concurrency
        self._width = 1  # attempts at once: who answers gets more, up to the concurrency
        self._bucket = Bucket(lot.rate, now)
        self._used = now

    def add(self, lot: Lot, lease_ends: float) -> None:
        self._concurrency, self._bucket.rate = lot.concurrency, lot.rate
        self.waiting.extend(Ready(claim, lease_ends) for claim in lot.claims)

    def want(self, most: int, now: float) -> Want:
        """What to claim for it, with no more than `most` in hand."""
        busy = self.under_way + len(self.waiting)
        wanted = ROUNDS * self._at_once if self.proven else FIRST_CLAIMS
        most = 0 if self.lingering else min(most, wanted)
        soon = self._bucket.fill(now) + self._bucket.rate * BURST_SECONDS - len(self.waiting)
        return Want(busy, max(0, min(most - busy, int(soon))))

    def next(self, now: float) -> Ready | None:
        """What is to be sent now; None: nothing, or not yet."""
        if not self._could_send or self._bucket.fill(now) < 1:
            return None
        self._bucket.tokens -= 1
        self.under_way += 1
        self._used = now
        return self.waiting.popleft()

    @property
    def _at_once(self) -> int:
        return min(self._width, self._concurrency)

    @property
    def _could_send(self) -> bool:
        stopped = self.held or self.lingering
        return bool(self.waiting) and self.under_way < self._at_once and not stopped

    @property
    def mostly_faults(self) -> bool:
        return self._recent.mostly_faults

    def note(self, end: End, now: float, *, lingered: bool = False) -> None:
        """An attempt ended so. What opens a breaker or pauses stops the lane before it is known."""
        fault = end is End.FAULT
        if not fault:
            self.proven, self._width = True, min(2 * self._width, self._concurrency)
        elif lingered:
            self.proven, self._width = False, 1
        self._recent.add(fault, now)
        self._faults = self._faults + 1 if fault else 0
        opens = fault and (self._faults >= FAULTS or self.mostly_faults)
        self.held |= opens or end in (End.PAUSE, End.GONE, End.UNWANTED)

    def give_back(self) -> list[Claim]:
        """What waits: not this lane's any more."""
        claims = [ready.claim for ready in self.waiting]
        self.waiting.clear()
        return claims

    def begin_anew(self) -> None:
        """What comes next is judged by itself."""
        self._recent.clear()
        self._faults, self.held = 0, False

    @property
    def low(self) -> bool:
        """Whether it is time to claim more."""
        return len(self.waiting) <= self._at_once // 2

    def pause(self, now: float) -> float:
        """Seconds until its rate allows what waits and could be sent; 0: nothing is so held up."""
        if not self._could_send:
            return 0.0
        return max(0.0, (1 - self._bucket.fill(now)) / self._bucket.rate)

    def stale(self, now: float) -> bool:
        """Whether nothing would be lost with it."""
        return not self.waiting and not self.under_way and now > self._used + WINDOW_SECONDS
