"""One POST over kept-alive connections: sent once, and only to where the guard lets it go.

Success is a complete 2xx head: what the receiver does afterwards changes nothing. aiohttp's client
takes several times the CPU for the little of HTTP that a callback needs, hence one of our own.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.metadata import version
from types import TracebackType
from typing import Final, NamedTuple, Self

import certifi
from aiohappyeyeballs import SocketFactoryType, start_connection
from yarl import URL

from callbacks.answer import Answer, excerpt
from callbacks.connection import Connection, Reply
from callbacks.guard import Blocked, GuardedSockets
from callbacks.idle import Idle, Origin
from callbacks.resolver import Resolver
from indexer.config import Callbacks

CONNECT_SECONDS: Final = 5.0  # TCP, over all addresses of a host
NEXT_ADDRESS_SECONDS: Final = 0.25  # after which the next one is tried beside it (RFC 8305)
TARGETS: Final = 8192  # URLs remembered in the form that is sent
BASE_HEADERS: Final = (
    "content-type: application/json\r\n"
    "accept-encoding: identity\r\n"
    f"user-agent: depositd/{version('depositd')}\r\n"
)


class Sender:
    """The connections to all receivers. Enter it once, in the event loop that uses it."""

    def __init__(
        self,
        rules: Callbacks,
        limit_seconds: float,
        *,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
        sockets: SocketFactoryType | None = None,
    ) -> None:
        """`limit_seconds`: wall clock of an attempt, from DNS to the end of the answer's head.

        The rest is for tests: another CA, another DNS, a guard that makes no socket.
        """
        self._rules = rules
        self._limit = limit_seconds
        self._tls = tls or _system_tls()
        self._resolver = resolver or Resolver(rules)
        self._sockets = sockets or GuardedSockets(rules)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._idle = Idle(self._loop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._idle.close()
        self._resolver.close()

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send once, and only once: nothing is followed or sent again from here.

        `headers` go beside BASE_HEADERS; that they hold no control characters is the caller's
        part (see headers.py).
        """
        start = time.perf_counter()
        deadline = self._loop.time() + self._limit
        target = _target(url)
        steps: dict[str, float] = {}
        address = None
        try:
            connection = self._idle.take(target.origin)
            if connection is None:
                async with asyncio.timeout_at(deadline):
                    connection = await self._open(target.origin, steps)
        except _Unreached as problem:
            reply = Reply(error=problem.step)
        except TimeoutError:
            reply = Reply(error="timeout")
        else:
            address = connection.address
            sent = time.perf_counter()
            if sent - start < self._limit:
                reply = await connection.post(_request(target, headers, body), deadline)
            else:  # it stood still, the loop's timers with it: somebody else may be sending this
                reply = Reply(error="timeout")
            if reply.first_byte is not None:
                steps["first_byte"] = 1000 * (reply.first_byte - sent)
            self._idle.put(target.origin, connection)
        if not self._rules.keep_answers:
            reply.beginning = b""
        return _answer(reply, address, steps, 1000 * (time.perf_counter() - start))

    async def _open(self, origin: Origin, steps: dict[str, float]) -> Connection:
        """A new connection; `steps` takes the milliseconds of each step. Raises _Unreached."""
        with _step("dns", steps):
            found = await self._resolver.resolve(origin.host, origin.port)
        with _step("connect", steps):
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await start_connection(
                    found,
                    happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                    socket_factory=self._sockets,
                )
        tls, name = (self._tls, origin.host) if origin.scheme == "https" else (None, None)
        with _step("connect" if tls is None else "tls", steps):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop), sock=socket, ssl=tls, server_hostname=name
            )
        return connection


def make_tls() -> ssl.SSLContext:
    """TLS 1.2 or newer, the host's name always checked, against the CAs that the system trusts."""
    paths = ssl.get_default_verify_paths()
    none = not (paths.cafile or paths.capath)
    context = ssl.create_default_context(cafile=certifi.where() if none else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


_system_tls = cache(make_tls)


class _Unreached(Exception):
    """No connection was made; `step` names the error as Answer does."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


@contextmanager
def _step(name: str, steps: dict[str, float]) -> Iterator[None]:
    """Add its milliseconds, or name the error after it."""
    start = time.perf_counter()
    try:
        yield
    except Blocked:
        raise _Unreached("blocked") from None
    except OSError:
        raise _Unreached(name) from None
    steps[name] = steps.get(name, 0.0) + 1000 * (time.perf_counter() - start)


class _Target(NamedTuple):
    origin: Origin
    head: str  # of every request: its line and the headers that are always the same


@lru_cache(TARGETS)
def _target(url: URL) -> _Target:
    origin = Origin(url.scheme, url.raw_host or "", url.port or 0)
    line = f"POST {url.raw_path_qs} HTTP/1.1\r\nhost: {url.host_port_subcomponent}\r\n"
    return _Target(origin, line + BASE_HEADERS)


def _request(target: _Target, headers: Mapping[str, str], body: bytes) -> bytes:
    own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{target.head}{own}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


def _answer(
    reply: Reply, address: str | None, steps: Mapping[str, float], total_ms: float
) -> Answer:
    error = reply.error
    if error is None and not 200 <= (reply.status or 0) <= 299:
        error = "status"
    return Answer(
        reply.status,
        error,
        retry_after=reply.retry_after,
        directive=reply.directive,
        address=address,
        dns_ms=steps.get("dns"),
        connect_ms=steps.get("connect"),
        tls_ms=steps.get("tls"),
        first_byte_ms=steps.get("first_byte"),
        total_ms=total_ms,
        head=excerpt(reply.beginning) if reply.beginning else None,
    )
