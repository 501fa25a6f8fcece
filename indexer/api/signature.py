"""Signed requests: a key made with `requireSignature` is worth nothing without its secret.

Source: the contract's "HTTP API": lower-case hex HMAC-SHA256 with the key's secret over
`TIMESTAMP\\nMETHOD\\nTARGET\\nhex(sha256(body))`, TARGET exactly as on the request line.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Final

import asyncpg
from aiohttp import web

from indexer.api.errors import Problem
from indexer.api.inputs import read_raw

TIMESTAMP_HEADER: Final = "X-Timestamp"
SIGNATURE_HEADER: Final = "X-Signature"
WINDOW_SECONDS: Final = 300  # that a timestamp may be off, to either side
_TIMESTAMP: Final = re.compile(r"\d{1,15}", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

# The window is judged by the database's clock, which all processes share. What is older than it can
# be forgotten: it would be refused for its age.
_FRESH: Final = (
    "select abs(extract(epoch from clock()) - $1::float8) <= $2 as fresh,"
    " extract(epoch from clock())::float8 as now"
)
_USE: Final = """
    insert into used_signature (signature) values ($1) on conflict do nothing returning signature
"""
_FORGET: Final = """
    delete from used_signature
     where signature in (select signature from used_signature
                          where at < clock() - make_interval(secs => $1) limit 100
                            for update skip locked)
"""


def sign(secret: str, timestamp: int, method: str, target: str, body: bytes) -> str:
    """The signature of a request at `timestamp` (Unix milliseconds)."""
    digest = hashlib.sha256(body).hexdigest()
    said = f"{timestamp}\n{method}\n{target}\n{digest}"
    return hmac.new(secret.encode(), said.encode("utf-8", "surrogateescape"), "sha256").hexdigest()


async def verify(request: web.Request, pool: asyncpg.Pool, secret: str) -> None:
    """Problem (401) unless the request is signed, in time, and not a replay of a change."""
    timestamp, signature = (request.headers.get(h) for h in (TIMESTAMP_HEADER, SIGNATURE_HEADER))
    if timestamp is None or signature is None:
        raise Problem(401, f"this key needs {TIMESTAMP_HEADER} and {SIGNATURE_HEADER}")
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise Problem(401, f"{TIMESTAMP_HEADER} is Unix time in milliseconds")
    body = await read_raw(request)
    expected = sign(secret, int(timestamp), request.method, request.raw_path, body)
    if not _SIGNATURE.fullmatch(signature) or not hmac.compare_digest(signature, expected):
        raise Problem(401, f"{SIGNATURE_HEADER} does not match this request")
    clock = await pool.fetchrow(_FRESH, int(timestamp) / 1000, float(WINDOW_SECONDS))
    if not clock["fresh"]:
        off = int(timestamp) / 1000 - clock["now"]
        raise Problem(401, f"{TIMESTAMP_HEADER} is off by {off:+.0f} s, {WINDOW_SECONDS} at most")
    if request.method != "GET":
        if await pool.fetchval(_USE, bytes.fromhex(signature)) is None:
            raise Problem(401, "a request with this signature has been carried out before")
        await pool.execute(_FORGET, 2.0 * WINDOW_SECONDS)
