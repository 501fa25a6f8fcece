"""A receiver below HTTP: it reads requests as bytes and then behaves as badly as its test says."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from yarl import URL

from tests.harness.server import settle

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Raw:
    """Connections as they come; on each it reads a request, behaves, and so on until one leaves."""

    def __init__(self, behave: Behaviour, read_first: bool, scheme: str) -> None:
        self._behave = behave
        self._read_first = read_first
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.ended = 0  # connections that are over
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> URL:
        return self.at("127.0.0.1")

    def at(self, host: str) -> URL:
        return URL(f"{self._scheme}://{host}:{self.port}/hook?key=1", encoded=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Known from its first moment: a task that is called off before it ran closes nothing."""

        def over(task: asyncio.Task[None]) -> None:
            self.ended += 1
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

        self.connections += 1
        self._open.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(over)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                if self._read_first:
                    self.requests.append(await read_request(reader))
                await self._behave(reader, writer)

    async def until_ended(self, connections: int) -> None:
        """Return once so many connections are over."""
        async with asyncio.timeout(5):
            while self.ended < connections:
                await asyncio.sleep(0.005)

    def hang_up(self) -> None:
        """End what is open, in the kernel: no event loop has heard of it when this returns."""
        for writer in self._open:
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0.001)


@asynccontextmanager
async def receiving(
    behave: Behaviour,
    *,
    read_first: bool = True,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> AsyncIterator[Raw]:
    """A running one. Without `read_first` it behaves before it has read anything."""
    raw = Raw(behave, read_first, "http" if tls is None else "https")
    server = await asyncio.start_server(raw.accept, "127.0.0.1", port, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        await settle()
        server.close()
        await asyncio.sleep(0)  # `raw` knows of it
        await raw.stop()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


def answer(*pieces: bytes, pause: float = 0.0, then_close: bool = False) -> Behaviour:
    """Send the pieces, `pause` seconds between them."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, piece in enumerate(pieces):
            await asyncio.sleep(pause if number else 0)
            writer.write(piece)
            await writer.drain()
        if then_close:
            writer.close()
            raise ConnectionResetError

    return behave


def forever(first: bytes, again: bytes, pause: float = 0.0) -> Behaviour:
    """Send `first`, and then `again` without end."""

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while not writer.is_closing():
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)
        raise ConnectionResetError

    return behave


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Listen, and say nothing until the other side has gone."""
    await reader.read()
    raise ConnectionResetError


async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Not even read."""
    await asyncio.sleep(3600)


def reset_after(data: bytes = b"", *, read: int = 0) -> Behaviour:
    """Read so many bytes, send `data`, and end the connection by a RST."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(read)
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.02 if data else 0)  # a RST overtakes what is on its way
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise ConnectionResetError

    return behave
