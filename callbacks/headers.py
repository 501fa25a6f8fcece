"""Static headers that an endpoint's owner adds to every request, a password for his proxy say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from indexer.model import Refused

MAX_HEADERS: Final = 10  # of one endpoint
MAX_NAME: Final = 64  # characters
MAX_VALUE: Final = 1024  # characters

# What the request itself consists of: one that says it twice is read in two ways.
RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
RESERVED_PREFIXES: Final = ("webhook-", "content-", "proxy-")

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, 5.6.2
_VALUE = re.compile(r"[!-~]([ \t!-~]*[!-~])?")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refused with a sentence unless every request of an endpoint may carry these headers."""
    if len(headers) > MAX_HEADERS:
        raise Refused(f"an endpoint has at most {MAX_HEADERS} headers, not {len(headers)}")
    seen = set()
    for name, value in headers.items():
        lower = name.lower()
        if len(name) > MAX_NAME or _NAME.fullmatch(name) is None:
            raise Refused(f"a header's name is a token of at most {MAX_NAME} characters")
        if lower in RESERVED or lower.startswith(RESERVED_PREFIXES):
            raise Refused(f"the header {name} is not an endpoint's to set")
        if lower in seen:
            raise Refused(f"the header {name} is given twice")
        seen.add(lower)
        # Its value may be a password: it is not repeated here.
        if len(value) > MAX_VALUE or _VALUE.fullmatch(value) is None:
            raise Refused(
                f"the header {name} needs a value of 1 to {MAX_VALUE} printable ASCII characters"
            )
