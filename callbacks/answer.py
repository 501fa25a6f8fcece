"""What came of one POST: what the attempt log keeps, and what the dispatcher decides by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_EXCERPT: Final = 4096  # bytes of UTF-8

_UNSHOWN: Final = re.compile(r"[^\t\n\r -~\u00a0-\U0010ffff]")  # controls, NUL among them


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of an attempt. Times are milliseconds; None: that step was not taken.

    `error` is None for a success, else one of: blocked, dns, connect, tls, timeout, reset,
    protocol, status.
    """

    status: int | None  # of a complete head
    error: str | None
    retry_after: str | None = None  # the header as it came
    directive: str | None = None  # the `webhook-delivery` header as it came
    address: str | None = None  # the IP address that was talked to
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float = 0.0
    head: str | None = None  # the beginning of the answer, escaped and bounded


def excerpt(data: bytes) -> str:
    """What a receiver sent as text that any database takes: the rest escaped as \\xNN."""
    text = data[:MAX_EXCERPT].decode("utf-8", "backslashreplace")
    text = _UNSHOWN.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text.encode()[:MAX_EXCERPT].decode("utf-8", "ignore")
