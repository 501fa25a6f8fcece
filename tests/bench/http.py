"""A minimal HTTP/1.1 server: keep-alive, POST bodies in, prepared bytes out, nothing else.

It exists so that the other side of a measurement is never what is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

HEAD_BYTES: Final = 64 * 1024
HEAD_END: Final = b"\r\n\r\n"

Piece: TypeAlias = bytes | memoryview
Answer: TypeAlias = Callable[[bytes, bytes], Sequence[Piece]]  # head and body of a request


class HttpServer(asyncio.Protocol):
    """One connection. `answer` returns the pieces of a response's body."""

    def __init__(self, answer: Answer, *, latency: float = 0.0) -> None:
        """`latency`: seconds that each response is held back."""
        self._answer = answer
        self._latency = latency
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._take()) is not None:
            pieces = self._answer(*request)
            if self._latency:
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._send, pieces)
            else:
                self._send(pieces)

    def _take(self) -> tuple[bytes, bytes] | None:
        """The next whole request's head and body."""
        end = self._buffer.find(HEAD_END)
        if end < 0:
            if len(self._buffer) > HEAD_BYTES and self._transport is not None:
                self._transport.abort()
            return None
        head = bytes(self._buffer[:end])
        body_at = end + len(HEAD_END)
        body_end = body_at + content_length(head)
        if len(self._buffer) < body_end:
            return None
        body = bytes(self._buffer[body_at:body_end])
        del self._buffer[:body_end]
        return head, body

    def _send(self, pieces: Sequence[Piece]) -> None:
        if self._transport is None:  # the other side has gone
            return
        size = sum(len(piece) for piece in pieces)
        kind = "application/json" if pieces else "text/plain"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
        self._transport.writelines([head.encode(), *pieces])


def content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
