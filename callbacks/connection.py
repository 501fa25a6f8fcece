"""One connection to a receiver: a request out, an answer in, and whether another may follow.

The answer is parsed by llhttp as strictly as it can. Everything that a receiver may drag out or
blow up is bounded: bytes before the final head, headers, 1xx answers, body. A connection is used
again only after an answer that was complete, alone and short; in doubt it is closed.
"""

from __future__ import annotations

import asyncio
import re
import select
import ssl
import time
from dataclasses import dataclass
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD_BYTES: Final = 64 * 1024  # before the end of the final head, 1xx answers included
MAX_HEADER_BYTES: Final = 16 * 1024  # of one head
MAX_HEADERS: Final = 100  # of one head
MAX_INTERIM: Final = 16  # 1xx answers
MAX_BODY_BYTES: Final = 4096  # read, so that the connection can be used again
BODY_SECONDS: Final = 0.5  # in which the body must be complete for that
MAX_KEPT_BYTES: Final = 4096  # of an answer's beginning
KEEP_ALIVE_SECONDS: Final = 60.0  # between two requests
KEEP_ALIVE_MARGIN_SECONDS: Final = 1.0  # less than the receiver says: it may close while we write
MAX_AGE_SECONDS: Final = 300.0  # so that a change of DNS is seen

_VERSION: Final = b"HTTP/1."  # llhttp takes others too
_TIMEOUT: Final = re.compile(r"timeout=(\d{1,6})\b")  # of a Keep-Alive header, seconds


class _Malformed(Exception):
    """An answer breaks a limit of ours; raised for llhttp, which stops there."""


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int | None = None  # of the final head, once that is complete
    error: str | None = None  # as in Answer, `status` aside
    retry_after: str | None = None
    directive: str | None = None
    first_byte: float | None = None  # time.perf_counter() of its arrival
    beginning: bytes = b""  # of all that came


class Connection(asyncio.Protocol):
    """Made by the event loop; `post` one request at a time. Times are the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._born = loop.time()
        self._parser = HttpResponseParser(self)
        self._reply: Reply | None = None  # under way
        self.reusable = True  # whether another request may follow, by what is known
        self._idle_until = 0.0

    async def post(self, request: bytes, deadline: float) -> Reply:
        """Send a whole request, once; return when its answer is decided and its body is over.

        Never raises but for being cancelled, which closes the connection.
        """
        reply = Reply()
        if self._transport.is_closing():
            reply.error = "reset"
            return reply
        self._reply = reply
        self._complete = False
        self._interim = self._headers = self._header_bytes = self._body_bytes = 0
        self._left = MAX_HEAD_BYTES
        self._keep_alive = KEEP_ALIVE_SECONDS
        self._deadline = deadline
        self._timer = self._loop.call_at(deadline, self._expire)
        self._over = self._loop.create_future()
        self._transport.write(request)
        try:
            await self._over
        finally:
            self._end(None, good=False)
        return reply

    def usable(self) -> bool:
        """Whether another request can be sent: still open, not too old, and nothing came unasked.

        What the kernel holds is looked at too: the loop may not have seen the other side's end yet.
        """
        return (
            self.reusable
            and self._loop.time() < self._idle_until
            and not self._transport.is_closing()
            and not self._arrivals.poll(0)
        )

    def close(self) -> None:
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address: str | None = peer and peer[0]
        self._arrivals = select.poll()
        self._arrivals.register(transport.get_extra_info("socket"), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._end("tls" if isinstance(exc, ssl.SSLError) else "reset", good=False)
        del self._parser  # which holds this object too

    def eof_received(self) -> None:
        self.reusable = False  # over TLS the end itself may take its time

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # nobody asked: it would be taken for the next answer
            self.close()
            return
        if reply.first_byte is None:
            reply.first_byte = time.perf_counter()
        if len(reply.beginning) < MAX_KEPT_BYTES:
            reply.beginning += data[: MAX_KEPT_BYTES - len(reply.beginning)]
        in_head = reply.status is None
        whole = len(data) <= self._left
        try:
            self._parser.feed_data(data if whole else data[: self._left])
        except (HttpParserError, HttpParserUpgrade):
            self._end("protocol", good=False)
            return
        self._left -= len(data)
        if self._complete:
            self._end(None, good=self.reusable and whole)
        elif self._left <= 0 or not whole:
            self._end("protocol", good=False)
        elif in_head and reply.status is not None:
            self._await_body()

    def on_message_begin(self) -> None:
        if self._complete:
            self.reusable = False  # more than one answer came

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        self._header_bytes += len(name) + len(value)
        if self._headers > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            raise _Malformed
        if self._reply is None or self._complete:
            return
        match name.lower():
            case b"retry-after":
                self._reply.retry_after = value.decode("latin-1")
            case b"webhook-delivery":
                self._reply.directive = value.decode("latin-1")
            case b"keep-alive" if said := _TIMEOUT.search(value.decode("latin-1")):
                seconds = int(said[1]) - KEEP_ALIVE_MARGIN_SECONDS
                self._keep_alive = min(seconds, KEEP_ALIVE_SECONDS)

    def on_headers_complete(self) -> None:
        reply = self._reply
        if reply is None or self._complete:
            return
        status = self._parser.get_status_code()
        if not reply.beginning.startswith(_VERSION) or status < 100:
            raise _Malformed
        if status >= 200 or status == 101:
            reply.status = status
            return
        self._headers = self._header_bytes = 0
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise _Malformed

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > MAX_BODY_BYTES:
            raise _Malformed

    def on_message_complete(self) -> None:
        if self._reply is not None and self._reply.status is not None:
            self._complete = True
            self.reusable = self.reusable and self._parser.should_keep_alive()

    def _await_body(self) -> None:
        """The answer is decided: what is left only says whether the connection can be kept."""
        self._left = MAX_BODY_BYTES
        self._timer.cancel()
        end = min(self._deadline, self._loop.time() + BODY_SECONDS)
        self._timer = self._loop.call_at(end, self._expire)

    def _expire(self) -> None:
        self._end("timeout", good=False)

    def _end(self, error: str | None, *, good: bool) -> None:
        """The exchange is over. `error` counts only where no final head was complete."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._timer.cancel()
        if reply.status is None:
            reply.error = error
        if good:
            now = self._loop.time()
            self._idle_until = min(now + self._keep_alive, self._born + MAX_AGE_SECONDS)
        else:
            self.close()
        if not self._over.done():
            self._over.set_result(None)
