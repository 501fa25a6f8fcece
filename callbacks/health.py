"""How an endpoint fares: what the end of each attempt makes of its breaker, pauses and warnings.

Pure; times are the database's. Sources of the rules and numbers: the callback specification's
"Breaker", "Retry-After" and "Disable".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, NamedTuple

from callbacks.answer import Answer

FAULTS: Final = 5  # in a row, that open the breaker
OPEN_SECONDS: Final = 30  # the first time; doubled with each probe that fails
MAX_OPEN_SECONDS: Final = 300
WARNINGS: Final = (  # told once each while an endpoint does nothing but fail
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=24),
)
DISABLED_AFTER: Final = timedelta(hours=120)  # of failure without a break
DISABLED_FAILURES: Final = 20  # at least, in that time


class End(Enum):
    """What the end of an attempt says of its endpoint."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # it answers, and does not take this message
    FAULT = "fault"  # it can't be talked to, or says itself that it is unwell
    PAUSE = "pause"  # it says until when it wants nothing
    GONE = "gone"  # 410
    UNWANTED = "unwanted"  # `webhook-delivery: disable`


class Notice(Enum):
    """News for the operator."""

    FAILING = "endpoint.failing"
    DISABLED = "endpoint.disabled"
    RECOVERED = "endpoint.recovered"


class Report(NamedTuple):
    """One attempt's word about its endpoint."""

    endpoint: str
    end: End
    answer: Answer
    probe: bool = False
    pause_seconds: float = 0.0
    mostly_faults: bool = False  # were so among the last of its endpoint


@dataclass(slots=True)
class Health:
    """A row of `endpoint_health`; what none stands for is well."""

    failures: int = 0
    faults: int = 0
    failing_since: datetime | None = None
    open_until: datetime | None = None
    open_seconds: int | None = None
    probed: str | None = None
    room: int | None = None
    paused_until: datetime | None = None
    told: int = 0

    @property
    def well(self) -> bool:
        return self == Health()

    def stopped(self, now: datetime) -> bool:
        """Whether nothing, or no more than a probe, is sent to it."""
        paused = self.paused_until is not None and self.paused_until > now
        return paused or self.open_until is not None

    def take(self, report: Report, now: datetime, concurrency: int) -> Notice | None:
        """Become what it is after an attempt. `concurrency`: where half-open ends."""
        match report.end:
            case End.DELIVERED:
                self._answered(concurrency)
                return self._succeeded(now)
            case End.GONE | End.UNWANTED:
                return self._disabled()
            case End.REFUSED:
                self._answered(concurrency)
            case End.PAUSE:
                self._pause(report, now)
            case End.FAULT:
                self._fault(report, now)
        self.failures += 1
        self.failing_since = self.failing_since or now
        return self._warning(now - self.failing_since)

    def _succeeded(self, now: datetime) -> Notice | None:
        told, self.told = self.told, 0
        self.failures, self.failing_since = 0, None
        if self.paused_until is not None and self.paused_until <= now:
            self.paused_until = None
        return Notice.RECOVERED if told else None

    def _disabled(self) -> Notice:
        self.told = self.told or 1  # so that the recovery will be told, too
        return Notice.DISABLED

    def _answered(self, concurrency: int) -> None:
        """It can be talked to: from open to half-open, and from there on to well."""
        self.faults = 0
        if self.open_until is not None:
            self.open_until, self.room = None, 1
        elif self.room is not None:
            self.room *= 2
        if self.room is not None and self.room >= concurrency:
            self.room = self.open_seconds = self.probed = None

    def _fault(self, report: Report, now: datetime) -> None:
        self.faults += 1
        if self.open_until is not None:
            if not report.probe:
                return  # under way when it opened
        elif self.room is None and self.faults < FAULTS and not report.mostly_faults:
            return
        longer = OPEN_SECONDS if self.open_seconds is None else self.open_seconds * 2
        self.open_seconds = min(longer, MAX_OPEN_SECONDS)
        self.open_until, self.room = now + timedelta(seconds=self.open_seconds), None

    def _pause(self, report: Report, now: datetime) -> None:
        until = now + timedelta(seconds=report.pause_seconds)
        self.paused_until = max(until, self.paused_until or until)
        if self.open_until is not None:
            self.open_until = self.paused_until  # that was the probe: the next one follows then

    def _warning(self, lasted: timedelta) -> Notice | None:
        if lasted >= DISABLED_AFTER and self.failures >= DISABLED_FAILURES:
            return self._disabled()
        passed = sum(lasted >= each for each in WARNINGS)
        if passed <= self.told:
            return None
        self.told = passed
        return Notice.FAILING
