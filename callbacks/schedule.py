"""When a delivery is attempted again: the retry schedule, its jitter, and `Retry-After`.

Pure. Attempts are charged ones; the numbers are those of the callback specification.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random
from typing import Final

_MINUTE, _HOUR = 60, 3600
# Seconds to wait before each attempt after the first: 14 attempts over 71:52:35.
WAITS: Final = (
    5,
    30,
    2 * _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    30 * _MINUTE,
    1 * _HOUR,
    2 * _HOUR,
    4 * _HOUR,
    8 * _HOUR,
    12 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
MAX_ATTEMPTS: Final = len(WAITS) + 1
JITTER: Final = 0.1  # of the wait; only ever added, so that no floor is undercut
MIN_JITTER_SECONDS: Final = 1.0  # so that short waits spread too
MAX_RETRY_AFTER_SECONDS: Final = 3600.0

_DELTA_SECONDS = re.compile(r"\d{1,18}", re.ASCII)


def next_wait(attempts: int, retry_after: float | None, rng: Random) -> float | None:
    """Seconds to wait after the failed attempt number `attempts`; None: that was the last.

    `retry_after` is what `parse_retry_after` made of the answer: it can only lengthen the wait,
    and by no more than an hour.
    """
    if attempts >= MAX_ATTEMPTS:
        return None
    asked = min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
    wait = max(float(WAITS[attempts - 1]), asked)
    return wait + rng.uniform(0.0, max(wait * JITTER, MIN_JITTER_SECONDS))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for; None where it asks for nothing.

    `value` is whole seconds or an HTTP-date (RFC 9110, 10.2.3), `now` Unix seconds. Whatever is
    neither, or lies in the past, is ignored.
    """
    if value is None:
        return None
    value = value.strip()
    if _DELTA_SECONDS.fullmatch(value):
        return float(value) or None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait = moment.timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return wait if wait > 0 else None
