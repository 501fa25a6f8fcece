"""One POST over kept-alive connections, and how much of the answer is believed and read.

Success is a complete 2xx head: what the receiver does afterwards changes nothing. Everything that a
receiver may drag out or blow up is bounded: time, bytes before the final head, headers, body.

aiohttp costs about 170 us a POST, more than everything else here; a leaner client would take the
place of this module alone.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from callbacks.answer import Answer
from callbacks.guard import Blocked, GuardedResolver, GuardedSockets
from indexer.config import Callbacks

CONNECT_SECONDS: Final = 5.0  # TCP and TLS
KEEP_ALIVE_SECONDS: Final = 60.0
MAX_CONNECTION_SECONDS: Final = 300.0  # so that a change of DNS is seen
MAX_HEAD_BYTES: Final = 64 * 1024  # before the end of the final head, 1xx answers included
MAX_HEADERS: Final = 100
MAX_LINE_BYTES: Final = 8190
MAX_BODY_BYTES: Final = 4096  # read, so that the connection can be used again; then it is closed
BODY_SECONDS: Final = 0.5  # in which the body must be complete for that
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_HEAD_END_BYTES: Final = 2  # of its beginning, in what was seen before
BASE_HEADERS: Final = {
    "content-type": "application/json",
    "accept-encoding": "identity",
    "user-agent": f"depositd/{version('depositd')}",
}


class Sender:
    """The connections to all receivers. Enter it once, in the event loop that uses it."""

    def __init__(self, rules: Callbacks, limit_seconds: float) -> None:
        """`limit_seconds`: wall clock of an attempt, from DNS to the end of the answer's head."""
        self._rules = rules
        self._limit = limit_seconds

    async def __aenter__(self) -> Self:
        self._resolver = GuardedResolver(self._rules)
        self._session = aiohttp.ClientSession(
            connector=_Connector(
                resolver=self._resolver,
                socket_factory=GuardedSockets(self._rules),
                limit=0,  # the dispatcher's slots are the limit
                keepalive_timeout=KEEP_ALIVE_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=BASE_HEADERS,
            skip_auto_headers=["accept"],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=MAX_BODY_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        await self._resolver.close()

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send once, and only once: nothing is followed or sent again from here."""
        try:
            async with asyncio.timeout(self._limit):
                response = await self._session.post(
                    url, data=body, headers=headers, allow_redirects=False
                )
        except (aiohttp.ClientError, OSError) as problem:
            return Answer(None, _name(problem))
        await _finish(response)
        error = None if 200 <= response.status <= 299 else "status"
        return Answer(response.status, error, response.headers.get("retry-after"))


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read a short body to its end, so that the connection is used again; else close it."""
    left = MAX_BODY_BYTES
    try:
        with suppress(aiohttp.ClientError, OSError):
            async with asyncio.timeout(BODY_SECONDS):
                while left and not response.content.at_eof():
                    left -= len(await response.content.read(left))
    finally:
        if response.content.at_eof():
            response.release()
        else:
            response.close()


def _name(problem: Exception) -> str:
    match problem:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "tls"
        case aiohttp.ClientConnectorError(os_error=Blocked()):
            return "blocked"
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorError():
            return "connect"
        case aiohttp.ClientResponseError():
            return "protocol"
        case _:
            return "reset"


class _Connector(aiohttp.TCPConnector):
    """aiohttp's, with connections whose answers have a bounded head and that grow old."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial(_connection, loop=self._loop)


class _Connection(ResponseHandler):
    """Hands aiohttp's parser one head at a time, until a final one, and only so many bytes.

    It would read 1xx answers for ever, and forget a complete head that what follows in the same
    packet contradicts.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._born = loop.time()
        self._awaits_head = False
        self._head_left = 0  # bytes
        self._last = b""  # of the head so far: its end may come in pieces

    @property
    def should_close(self) -> bool:
        too_old = self._loop.time() - self._born > MAX_CONNECTION_SECONDS
        return too_old or super().should_close

    def set_response_params(self, **settings: Any) -> None:
        self._awaits_head, self._head_left, self._last = True, MAX_HEAD_BYTES, b""
        super().set_response_params(**settings)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if data[0].code >= 200:
            self._awaits_head = False
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        while data and self._awaits_head and self._head_left:
            end = _HEAD_END.search(self._last + data)
            cut = min(end.end() - len(self._last) if end else len(data), self._head_left)
            head, data = data[:cut], data[cut:]
            self._head_left -= cut
            self._last = b"" if end else (self._last + head)[-_HEAD_END_BYTES:]
            super().data_received(head)
        if self._awaits_head and not self._head_left:
            self._give_up()
        elif data:
            super().data_received(data)

    def _give_up(self) -> None:
        self._awaits_head = False
        problem = HttpProcessingError(message=f"no final head within {MAX_HEAD_BYTES} bytes")
        self.set_exception(problem)
        if self.transport is not None:
            self.transport.abort()


def _connection(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
    return _Connection(loop)
