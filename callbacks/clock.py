"""The time that attempts are signed with: this machine's, unless the database's differs too much.

Receivers refuse signatures that are five minutes off. The database's time is carried on by the
monotonic clock, so that a step of this machine's clock is noticed by the next signature.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from callbacks.metrics import CLOCK_SKEW_SECONDS

WARN_SECONDS: Final = 5.0  # of difference
DISTRUST_SECONDS: Final = 30.0  # of difference, from which on the database is believed
REMIND_SECONDS: Final = 60.0  # between two warnings

log = structlog.get_logger()


class Clock:
    """Unix seconds."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._ahead: float | None = None  # of the database's time over the monotonic clock
        self._warned = float("-inf")

    def hear(self, database: datetime) -> None:
        """What the database has just said."""
        now = self._monotonic()
        self._ahead = database.timestamp() - now
        skew = self._now() - database.timestamp()
        CLOCK_SKEW_SECONDS.set(skew)
        if abs(skew) > WARN_SECONDS and now >= self._warned + REMIND_SECONDS:
            self._warned = now
            log.warning("clock skew", seconds=round(skew, 1), limit=WARN_SECONDS)

    def __call__(self) -> float:
        now = self._now()
        if self._ahead is None:
            return now
        database = self._monotonic() + self._ahead
        return database if abs(now - database) > DISTRUST_SECONDS else now
