"""What comes over the API's socket that no client would send: refused or hung up on, nothing else.

After each test the server is as it was: it answers, wrote nothing and logged no fault.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

import pytest
import structlog.testing

from callbacks.api import ROUTES
from indexer.api import inputs, protocol
from indexer.api.errors import CODES
from indexer.api.inputs import MAX_BODY
from indexer.api.protocol import MAX_LINE
from indexer.api.server import Server
from tests.api.tables import rows
from tests.api.test_api_server import on
from tests.api.world import ADMIN_KEY, World, address, unlimited

SECONDS: Final = 20.0  # in which the server must have hung up
QUIET: Final = 0.3  # seconds that a test's body may take to arrive
MUTANTS: Final = 5000 if os.environ.get("DEPOSITD_SOAK") else 300


@dataclass(frozen=True)
class Said:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Of a refusal in the contract's form, the exchange-style routes' included."""
        assert self.headers["content-type"] == "application/json; charset=utf-8", self
        assert self.headers["x-request-id"]
        said = json.loads(self.body)
        if "success" in said:
            assert (said["code"], said["success"], said["data"]) == (str(self.status), False, None)
            return CODES[self.status]
        assert set(said) <= {"error", "code", "details"}
        assert said["error"].isprintable()
        return str(said["code"])


def answers(raw: bytes, method: bytes = b"GET") -> list[Said]:
    """All that came, but interim ones."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        status = int(line.split(" ")[1])
        headers = {n.lower(): v.strip() for n, _, v in (field.partition(":") for field in fields)}
        length = 0 if method == b"HEAD" else int(headers.get("content-length", "0"))
        if status >= 200:
            found.append(Said(status, headers, raw[:length]))
        raw = raw[length:]
    return found


@dataclass(frozen=True)
class Wire:
    port: int

    async def say(self, *pieces: bytes, pause: float = 0.0) -> list[Said]:
        """What is answered until the server hangs up; `pause` after each piece."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(SECONDS):
                reading = asyncio.create_task(all_of(reader))
                with suppress(ConnectionError):
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(pause)
                return answers(await reading, pieces[0].partition(b" ")[0])
        finally:
            writer.transport.abort()


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """What came until the connection ended, however it did."""
    came = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            came += piece
    return came


@pytest.fixture
async def wire(world: World) -> AsyncIterator[Wire]:
    context = on(world, listen="127.0.0.1:0", admin_key=ADMIN_KEY)
    server = Server(context, ROUTES, unlimited())
    wire = Wire(int((await server.start()).rpartition(":")[2]))
    before = await rows(world.pool)
    with structlog.testing.capture_logs() as logs:
        yield wire
        [alive] = await wire.say(request(b"GET /readyz"))
    await server.stop()
    assert alive.status == 200
    assert await rows(world.pool) == before
    assert not [entry for entry in logs if entry["log_level"] in ("error", "critical")]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits for nobody for long."""
    monkeypatch.setattr(inputs, "BODY_SECONDS", QUIET)
    hasty = {"keepalive_timeout": QUIET, "lingering_time": QUIET}
    monkeypatch.setattr(protocol, "LIMITS", {**protocol.LIMITS, **hasty})


def request(line: bytes, *fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """An admin's, the last of its connection."""
    head = [b"%s %s" % (line, version), b"Host: x", b"Connection: close"]
    key = b"X-Api-Key: " + ADMIN_KEY.encode()
    return b"\r\n".join([*head, key, *fields, b"", body])


COINS: Final = b"GET /v1/coins"
WATCH: Final = b"POST /v1/addresses?account=alice"
JSON: Final = b"Content-Type: application/json"
CHUNKED: Final = b"Transfer-Encoding: chunked"
BODY: Final = b'{"network": "nowhere", "addresses": ["%s"]}' % address(1).encode()


def length(number: int) -> bytes:
    return b"Content-Length: %d" % number


NO_HTTP: Final[dict[str, bytes]] = {
    "noise": bytes(Random(1).randbytes(4000)),
    "zeros": bytes(1000),
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": request(COINS, version=b"HTTP/3.7"),
    "an unknown method": request(b"BREW /v1/coins"),
    "a long method": request(b"A" * 5000 + b" /v1/coins"),
    "small letters": request(b"get /v1/coins"),
    "no target": request(b"GET "),
    "a target without a slash": request(b"GET v1/coins"),
    "a target that is no URL": request(b"GET http://[::1/v1/coins"),
    "a port that is none": request(b"GET http://x:y/v1/coins"),
    "raw UTF-8 in the target": request("GET /v1/cöins".encode()),
    "a raw byte in the target": request(b"GET /v1/deposits/\xff"),
    "a tab in the target": request(b"GET /v1/co\tins"),
    "a line that is too long": request(b"GET /v1/coins?a=" + b"a" * MAX_LINE),
    "no host": b"GET /v1/coins HTTP/1.1\r\n\r\n",
    "two hosts": request(COINS, b"Host: y"),
    "bare newlines": b"GET /v1/coins HTTP/1.1\nHost: x\n\n",
    "a field without a colon": request(COINS, b"Nonsense"),
    "a space before the colon": request(COINS, b"X-A : 1"),
    "a folded field": request(COINS, b"X-A: 1", b" 2"),
    "NUL in a field": request(COINS, b"X-A: 1\0"),
    "a bare return in a field": request(COINS, b"X-A: 1\rX-B: 2"),
    "a name that is none": request(COINS, b"X(A): 1"),
    "an empty name": request(COINS, b": 1"),
    "a long field": request(COINS, b"X-A: " + b"a" * 9000),
    "many fields": request(COINS, *(b"X-%d: 1" % number for number in range(500))),
    "a negative length": request(WATCH, JSON, length(-1), body=BODY),
    "a signed length": request(WATCH, JSON, b"Content-Length: +5", body=BODY),
    "a length twice": request(WATCH, JSON, b"Content-Length: 5, 5", body=BODY),
    "two lengths": request(WATCH, JSON, length(5), length(len(BODY)), body=BODY),
    "a length that is none": request(WATCH, JSON, b"Content-Length: x", body=BODY),
    "no length": request(WATCH, JSON, b"Content-Length: ", body=BODY),
    "a length of forty digits": request(WATCH, JSON, length(10**40), body=BODY),
    "a length and chunks": request(WATCH, JSON, length(5), CHUNKED, body=b"0\r\n\r\n"),
    "an unknown transfer": request(WATCH, JSON, b"Transfer-Encoding: gzip", body=BODY),
    "chunks that are not last": request(WATCH, JSON, CHUNKED + b", identity", body=b"0\r\n\r\n"),
    "chunks twice": request(WATCH, JSON, CHUNKED + b", chunked", body=b"0\r\n\r\n"),
    "a chunk of no size": request(WATCH, JSON, CHUNKED, body=b"zz\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk": request(WATCH, JSON, CHUNKED, body=b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk of any size": request(WATCH, JSON, CHUNKED, body=b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk that lies": request(WATCH, JSON, CHUNKED, body=b"2\r\n{}xxx\r\n0\r\n\r\n"),
    "a long trailer": request(WATCH, JSON, CHUNKED, body=b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"),
}


async def test_what_is_no_http_is_refused_and_hung_up_on(
    wire: Wire, subtests: pytest.Subtests
) -> None:
    for name, raw in NO_HTTP.items():
        with subtests.test(name):
            [said] = await wire.say(raw)
            assert (said.status, said.code) == (400, "BAD_REQUEST")


ODD: Final[dict[str, tuple[bytes, int]]] = {
    "HTTP/1.0": (request(COINS, version=b"HTTP/1.0"), 200),
    "HTTP/2.0 by its name": (request(COINS, version=b"HTTP/2.0"), 400),
    "another host's target": (request(b"GET http://elsewhere/v1/coins"), 200),
    "no target at all": (request(b"OPTIONS *"), 404),
    "a tunnel": (request(b"CONNECT elsewhere:443"), 404),
    "TRACE": (request(b"TRACE /v1/coins"), 405),
    "OPTIONS": (request(b"OPTIONS /v1/coins"), 405),
    "a long query": (request(b"GET /v1/coins?a=" + b"a" * (MAX_LINE // 2)), 400),
    "a half escape": (request(b"GET /v1/coins/%"), 404),
    "an escape that is none": (request(b"GET /v1/coins/%zz"), 404),
    "overlong UTF-8": (request(b"GET /v1/deposits/%c0%ae"), 404),
    "an expectation": (request(WATCH, JSON, b"Expect: a miracle", length(2), body=b"{}"), 400),
    "another upgrade": (request(COINS, b"Upgrade: h2c"), 200),
    "a WebSocket of version 99": (
        request(
            b"GET /v1/stream?account=alice", b"Upgrade: websocket", b"Sec-WebSocket-Version: 99"
        ),
        400,
    ),
    "a body with a GET": (request(COINS, length(3), body=b"abc"), 200),
    "a body with a DELETE": (request(b"DELETE /v1/endpoints/x", length(3), body=b"abc"), 404),
    "a range": (request(COINS, b"Range: bytes=9-1"), 200),
    "a length that says too little": (request(WATCH, JSON, length(5), body=BODY), 400),
    "a length of a terabyte": (request(WATCH, JSON, length(10**12), body=BODY), 413),
    "an extension of a chunk": (request(WATCH, JSON, CHUNKED, body=b"2;a\r\n{}\r\n0\r\n\r\n"), 400),
    "two keys": (request(COINS, b"X-Api-Key: x"), 401),
    "a key of any bytes": (
        b"GET /v1/coins HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: \xff\xfe\r\n\r\n",
        401,
    ),
    "an Idempotency-Key of any bytes": (
        request(WATCH, JSON, b"Idempotency-Key: \xff", length(len(BODY)), body=BODY),
        400,
    ),
    "a stranger's word of others": (request(COINS, b"X-Forwarded-For: \xff, 1.2.3.4.5"), 200),
    "cookies": (request(COINS, b"Cookie: " + b"a=b; " * 1500), 200),
}


async def test_what_is_odd_is_answered_in_the_contracts_form(
    wire: Wire, subtests: pytest.Subtests
) -> None:
    for name, (raw, status) in ODD.items():
        with subtests.test(name):
            said, *more = await wire.say(raw)
            assert said.status == status
            assert status < 400 or said.code
            assert all(each.code == "BAD_REQUEST" for each in more)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([length(len(BODY) + 1)], BODY),
        ([length(MAX_BODY)], b""),
        ([CHUNKED], b"20\r\n{}"),
        ([CHUNKED], b"2\r\n{}\r\n"),
        ([CHUNKED], b""),
    ],
)
async def test_a_body_that_does_not_end_is_given_up(
    wire: Wire, impatient: None, fields: list[bytes], body: bytes
) -> None:
    [said] = await wire.say(request(WATCH, JSON, *fields, body=body))
    assert (said.status, said.code) == (400, "BAD_REQUEST")


async def test_a_body_that_never_ends_is_hung_up_on(wire: Wire, impatient: None) -> None:
    chunk = b"%x\r\n%s\r\n" % (65536, b" " * 65536)
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(request(WATCH, JSON, CHUNKED))
    reading = asyncio.create_task(all_of(reader))
    async with asyncio.timeout(SECONDS):
        with suppress(ConnectionError):
            while not reading.done():
                writer.write(chunk)
                await writer.drain()
                await asyncio.sleep(0)
        [said] = answers(await reading)
    writer.transport.abort()
    assert (said.status, said.code) == (413, "TOO_LARGE")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"2\r\n{}xx\r\n", b"\0" * 100])
async def test_a_body_that_goes_wrong_on_its_way_is_400_and_not_logged(
    wire: Wire, impatient: None, caplog: pytest.LogCaptureFixture, rest: bytes
) -> None:
    said, *_ = await wire.say(request(WATCH, JSON, CHUNKED, body=b"2\r\n{}\r\n"), rest, pause=0.1)
    assert (said.status, said.code) == (400, "BAD_REQUEST")
    assert caplog.text == ""


async def test_requests_in_one_piece_are_answered_in_their_order(wire: Wire) -> None:
    lines = [COINS, b"GET /v1/nothing", b"GET /docs", b"PUT /docs", b"DELETE /v1/endpoints/x"] * 4
    piped = b"".join(request(line).replace(b"Connection: close\r\n", b"") for line in lines)
    said = await wire.say(piped + request(COINS))
    assert [each.status for each in said] == [200, 404, 200, 405, 404] * 4 + [200]
    first = request(COINS).replace(b"Connection: close\r\n", b"")
    said = await wire.say(first, b"\0nonsense", pause=0.1)
    assert [each.status for each in said] == [200, 400]


async def test_a_method_that_a_path_does_not_have_is_told_which_it_has(
    world: World, wire: Wire, subtests: pytest.Subtests
) -> None:
    for path, methods in world.documented.document["paths"].items():
        known = {method.upper() for method in methods}
        if "get" in methods or path == "/v1/coins/precreate-token":  # which could be a coin
            known |= {"GET", "HEAD"}
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            if method not in known:
                with subtests.test(path, method=method):
                    line = f"{method} {path.replace('{', '').replace('}', '')}".encode()
                    [said] = await wire.say(request(line))
                    assert said.status == 405
                    assert set(said.headers["allow"].split(", ")) >= known
                    assert method == "HEAD" or said.code == "METHOD_NOT_ALLOWED"


# How a path can be written so that a careless check takes it for another one.
DISGUISES: Final = (
    *("//v1/{}", "/./v1/{}", "/docs/../v1/{}", "/docs/..;/v1/{}", "/docs/%2e%2e/v1/{}"),
    *("/V1/{}", "/v1%2f{}", "/%76%31/{}", "/v1%00/{}", "/v1;/{}", "/v1/./{}", "/v1//{}"),
    *("/\\v1\\{}", "/healthz/../v1/{}", "/v1/../v1/{}", "/v1/{}/", "/v1/{}%20", "/v1/{}%00"),
    *("/v1/{}?", "/v1/{}#", "http://x/v1/{}", "http://x//v1/{}", "/docs#/../v1/{}"),
    *("/docs?/../v1/{}", "/readyz%2f..%2fv1/{}", "/v1/x/../{}", "/.%0d/v1/{}"),
    *("/api/spot/v1/../../../v1/{}", "/v1/%c0%ae%c0%ae/{}"),
)


async def test_no_way_of_writing_a_path_leads_past_the_key(
    wire: Wire, subtests: pytest.Subtests
) -> None:
    for disguise in DISGUISES:
        for name in ("coins", "deposits", "accounts", "endpoints"):
            target = disguise.format(name).encode()
            with subtests.test(target=target):
                head = [b"GET %s HTTP/1.1" % target, b"Host: x", b"Connection: close", b"", b""]
                [said] = await wire.say(b"\r\n".join(head))
                if said.status == 200:  # the page, with a fragment or a query of no meaning
                    assert said.body.startswith(b"<!doctype html>")
                else:
                    assert said.status in (400, 401, 404)
                    assert said.code


async def test_a_request_id_comes_back_only_if_it_is_one(wire: Wire) -> None:
    for given in (b"a" * 65, b"a b", b"\xff", b"<script>", b"", b"a;b", "é".encode()):
        [said] = await wire.say(request(COINS, b"X-Request-Id: " + given))
        assert len(said.headers["x-request-id"]) == 16
    [said] = await wire.say(request(COINS, b"X-Request-Id: order-42_a.b"))
    assert said.headers["x-request-id"] == "order-42_a.b"


def mutant(rng: Random, good: bytes) -> bytes:
    raw = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(raw))
        pieces = [b"", rng.randbytes(rng.randint(1, 9)), bytes(raw[:40]), b"\r\n", b"%"]
        raw[start : start + rng.randint(0, 6)] = rng.choice(pieces)
    return bytes(raw)


async def test_requests_with_bytes_gone_wrong_do_no_harm(wire: Wire, impatient: None) -> None:
    rng = Random(42)
    good = [
        request(COINS),
        request(WATCH, JSON, length(len(BODY)), body=BODY),
        request(WATCH, JSON, CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        request(b"GET /v1/deposits?limit=5&status=held&since=2026-01-01T00:00:00Z"),
        request(b"DELETE /v1/addresses/ethereum/%s?account=bob" % address(1).encode()),
    ]
    seen: set[int] = set()
    for _ in range(MUTANTS):
        raw = mutant(rng, rng.choice(good))
        said = await wire.say(raw)
        seen |= {each.status for each in said}
        assert all(each.status < 400 or each.code for each in said), raw
    assert seen <= {200, 304, 400, 401, 403, 404, 405, 413, 415, 422, 429}
    assert {200, 400, 401, 404} <= seen
