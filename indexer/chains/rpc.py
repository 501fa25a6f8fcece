"""The one way in which nodes are asked over HTTP, whatever they speak.

An `Endpoint` is a node's address with its secrets; a `Transport` sends it a request and brings back
the body, within limits of time and size, and again where that may help: a broken connection after a
moment, an overloaded node when it says. Everything that goes wrong is an `EndpointFailed` whose
sentence names the endpoint as `scheme://host:port` and nothing secret.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

import aiohttp
import yarl

from indexer.chains.metrics import FETCH_SECONDS, RETRIES, kind
from indexer.model import Refused, Unavailable

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 20.0  # between two pieces of an answer
CALL_SECONDS: Final = 60.0  # one request, to its last byte
BODY_BYTES: Final = 256 * 2**20  # of one answer, after decompression
READ_BUFFER_BYTES: Final = 2**20
ATTEMPTS: Final = 3  # of one request, where asking again may help
BACKOFF_SECONDS: Final = 0.2  # doubled with each attempt, and jittered
COOL_SECONDS: Final = 1.0  # rest of a node that is overloaded and doesn't say for how long
COOL_LIMIT_SECONDS: Final = 300.0  # the longest rest that a node may ask for
PATIENCE_SECONDS: Final = 10.0  # the longest rest that a request waits out
MESSAGE_CHARS: Final = 200  # of a node's own words in a sentence of ours
SECRET_CHARS: Final = 6  # path parts shorter than it are words like `rpc`, not keys

RECORDED: Final = "recording"  # scheme of what answers out of a file: there is nothing to check

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})


class EndpointFailed(Unavailable):
    """A request to one endpoint failed; the sentence names it."""


class Overloaded(EndpointFailed):
    """The node asks for a rest (HTTP 429 or 503, JSON-RPC -32005)."""


class TooSlow(EndpointFailed):
    """No answer in time: a smaller question may get one."""


class TooLarge(EndpointFailed):
    """The answer is larger than we take: a smaller question may fit."""


class NotServed(EndpointFailed):
    """The endpoint has nothing at a path."""


class Endpoint:
    """One node's URL and headers.

    `name` is `scheme://host:port`. User, password, path, query and headers may hold keys: they are
    used for requests and shown nowhere. `network`: whose node it is, a label of metrics.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] = _NO_HEADERS,
        schemes: Sequence[str] = ("http", "https"),
        *,
        network: str = "",
    ) -> None:
        try:
            parsed = yarl.URL(url)
            port = parsed.port
        except ValueError:
            raise Refused("an endpoint's URL can't be read") from None
        if parsed.scheme not in (*schemes, RECORDED) or not parsed.host:
            begin = " or ".join(f"{scheme}://" for scheme in schemes)
            raise Refused(f"an endpoint's URL must start with {begin} and name a host")
        host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
        self.recorded = parsed.scheme == RECORDED
        self.name = "the recording" if self.recorded else f"{parsed.scheme}://{host}:{port}"
        self.network = network
        self.batches = True  # until it refuses one
        self.cool_until = 0.0  # by the transport's clock
        self._url = parsed.with_user(None)
        self._headers = {"Content-Type": "application/json", **headers}
        if parsed.user is not None:
            basic = b64encode(f"{parsed.user}:{parsed.password or ''}".encode())
            self._headers["Authorization"] = f"Basic {basic.decode()}"
        parts = [part for part in parsed.parts if len(part) >= SECRET_CHARS]
        known = [parsed.user, parsed.password, *parts, *parsed.query.values(), *headers.values()]
        self._secrets = sorted({text for text in known if text}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<Endpoint {self.name}>"

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request to it carries. They hold secrets: for requests only."""
        return self._headers

    def at(self, path: str) -> yarl.URL:
        """The URL of a path below the endpoint's own. It holds secrets: for requests only."""
        return (self._url / path).with_query(self._url.query) if path else self._url

    def clean(self, text: str) -> str:
        """A node's own words, fit to be shown: no secret of ours, no control characters, short."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        printable = "".join(char if char.isprintable() else " " for char in text)
        return printable[:MESSAGE_CHARS]


class Transport:
    """HTTP to all endpoints of a network: one session, kept-alive connections, limits."""

    def __init__(
        self,
        *,
        call_seconds: float = CALL_SECONDS,
        body_bytes: int = BODY_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.clock = clock
        self._call_seconds = call_seconds
        self._body_bytes = body_bytes
        self._sleep = sleep
        self._jitter = jitter
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(self, endpoint: Endpoint, body: bytes, path: str = "") -> bytes:
        """The JSON text that the endpoint answers to a JSON body; raises EndpointFailed.

        `path` is below the endpoint's URL, which may have a path of its own.

        Asked again after a broken connection or a short rest; not after a time-out.
        """
        return await self._ask(endpoint, "POST", path, body)

    async def get(self, endpoint: Endpoint, path: str) -> bytes:
        """The bytes that the endpoint serves at a path, by the same rules; else NotServed."""
        return await self._ask(endpoint, "GET", path, None)

    async def _ask(self, endpoint: Endpoint, method: str, path: str, body: bytes | None) -> bytes:
        attempt = 0
        while True:
            attempt += 1
            await self._rest(endpoint)
            try:
                with FETCH_SECONDS.labels(endpoint.network, endpoint.name).time():
                    return await self._send(endpoint, method, path, body)
            except (TooSlow, TooLarge, NotServed):
                raise
            except EndpointFailed as failure:
                if attempt == ATTEMPTS:
                    raise
                RETRIES.labels(endpoint.network, endpoint.name, kind(failure)).inc()
            await self._sleep(BACKOFF_SECONDS * 2 ** (attempt - 1) * (0.5 + self._jitter()))

    def cool(self, endpoint: Endpoint, seconds: float | None = None) -> None:
        """Leave an overloaded endpoint alone for a while."""
        rest = min(COOL_SECONDS if seconds is None else seconds, COOL_LIMIT_SECONDS)
        endpoint.cool_until = max(endpoint.cool_until, self.clock() + rest)

    async def _rest(self, endpoint: Endpoint) -> None:
        remaining = endpoint.cool_until - self.clock()
        if remaining > PATIENCE_SECONDS:
            raise Overloaded(f"{endpoint.name} asked us to wait; {remaining:.0f} s of it are left")
        if remaining > 0:
            await self._sleep(remaining)

    async def _send(self, endpoint: Endpoint, method: str, path: str, body: bytes | None) -> bytes:
        url = endpoint.at(path)
        try:
            async with self._open().request(
                method, url, data=body, headers=endpoint.headers, allow_redirects=False
            ) as response:
                self._judge(endpoint, response)
                answer = await self._read(endpoint, response)
        except TimeoutError as error:
            seconds = self._call_seconds
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                seconds = CONNECT_SECONDS
            elif isinstance(error, aiohttp.SocketTimeoutError):
                seconds = SILENCE_SECONDS
            raise TooSlow(f"{endpoint.name} gave no answer within {seconds:g} s") from None
        except aiohttp.ClientError as error:
            raise EndpointFailed(f"{endpoint.name} {reason(error)}") from None
        if body is None and response.status != 200:
            raise NotServed(f"{endpoint.name} does not serve {path} (HTTP {response.status})")
        if body is not None and answer.lstrip()[:1] not in (b"{", b"["):
            kind = endpoint.clean(response.content_type)
            raise EndpointFailed(
                f"{endpoint.name} answered {kind} instead of JSON (HTTP {response.status})"
            )
        return answer

    def _judge(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> None:
        """Statuses that say it all. Others may come with an answer in the node's own terms.

        What may not be got is merely not served: many a gateway lets calls alone through.
        """
        if response.status in (429, 503):
            self.cool(endpoint, _retry_after(response))
            raise Overloaded(f"{endpoint.name} is overloaded (HTTP {response.status})")
        if response.status in (401, 403) and response.method == "POST":
            raise EndpointFailed(
                f"{endpoint.name} refuses us (HTTP {response.status}): check its credentials"
            )

    async def _read(self, endpoint: Endpoint, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._body_bytes:
                raise TooLarge(
                    f"{endpoint.name} answered more than {self._body_bytes // 2**20} MiB"
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(
                    total=self._call_seconds,
                    sock_connect=CONNECT_SECONDS,
                    sock_read=SILENCE_SECONDS,
                ),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BUFFER_BYTES,
            )
        return self._session


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """Seconds that a `Retry-After` header asks for; None where it says nothing usable."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def reason(error: aiohttp.ClientError) -> str:
    """Why a connection failed, without the library's own text, which may hold the URL."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "has a TLS certificate that is not valid"
        case aiohttp.ClientConnectorDNSError():
            return "can't be found: its name does not resolve"
        case aiohttp.ClientConnectorError():
            return f"can't be reached: {os.strerror(error.os_error.errno or errno.ENOTCONN)}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "closed the connection"
        case aiohttp.WSServerHandshakeError():
            return f"opens no WebSocket (HTTP {error.status})"
        case aiohttp.ClientPayloadError():
            return "broke off in the middle of its answer"
        case _:
            return f"can't be asked ({type(error).__name__})"
