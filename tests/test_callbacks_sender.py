"""One POST against receivers that drip, flood, redirect, reset and lie, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from callbacks import sender as sender_module
from callbacks.answer import Answer
from callbacks.sender import Sender
from indexer.config import Callbacks

RULES = Callbacks(allow_private=True, allow_http=True)
BODY = b'{"type":"deposit.detected"}'
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Raw:
    """A TCP receiver that reads requests and then does as its test says."""

    def __init__(self, behave: Behaviour, read_first: bool) -> None:
        self._behave = behave
        self._read_first = read_first
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> URL:
        return URL(f"http://127.0.0.1:{self.port}/hook?key=1")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                if self._read_first:
                    self.requests.append(await self._request(reader))
                await self._behave(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head + await reader.readexactly(length)


@asynccontextmanager
async def receiver(
    behave: Behaviour, *, read_first: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Raw]:
    raw = Raw(behave, read_first)
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    tasks_before = asyncio.all_tasks()
    try:
        yield raw
    finally:
        server.close()
        for task in asyncio.all_tasks() - tasks_before:
            task.cancel()
        await asyncio.sleep(0.01)


def answer(data: bytes, *, then_close: bool = False) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            raise ConnectionResetError

    return behave


def forever(first: bytes, again: bytes, pause: float = 0.0) -> Behaviour:
    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    raise ConnectionResetError


async def send(url: URL, limit: float = 5.0, body: bytes = BODY) -> Answer:
    async with Sender(RULES, limit) as sender:
        return await sender.post(url, {"webhook-id": "evt_1"}, body)


async def test_the_request_is_what_the_specification_says() -> None:
    async with receiver(answer(OK)) as raw:
        assert await send(raw.url) == Answer(200, None)
    [request] = raw.requests
    head, body = request.split(b"\r\n\r\n", 1)
    line, *fields = head.decode().lower().split("\r\n")
    names = [field.split(":")[0] for field in fields]
    assert line == "post /hook?key=1 http/1.1"
    assert body == BODY
    assert sorted(names) == sorted(
        ["host", "content-type", "content-length", "accept-encoding", "user-agent", "webhook-id"]
    )
    assert "accept-encoding: identity" in fields
    assert "content-type: application/json" in fields


async def test_a_connection_is_used_again_after_a_short_answer() -> None:
    async with receiver(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(5):
            assert await sender.post(raw.url, {}, BODY) == Answer(200, None)
        assert raw.connections == 1


async def test_a_connection_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "MAX_CONNECTION_SECONDS", -1.0)
    async with receiver(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(3):
            await sender.post(raw.url, {}, BODY)
        assert raw.connections == 3


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nabcde", 204, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x00\xff\xfe\x80", 200, None),
        (b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\ncontent-length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n", 202, None),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, "status"),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, "status"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", 500, "status"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 101, "status"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", None, "protocol"),
        (b"hello\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n", None, "protocol"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 400_000 + b"\r\n", None, "protocol"),
    ],
    ids=range(16),
)
async def test_case_9_and_11_an_answer_is_a_status_or_a_clean_failure(
    head: bytes, status: int | None, error: str | None
) -> None:
    async with receiver(answer(head, then_close=True)) as raw:
        assert await send(raw.url) == Answer(status, error)
    assert len(raw.requests) == 1


async def test_retry_after_comes_back_as_it_came() -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\ncontent-length: 0\r\n\r\n"
    async with receiver(answer(head)) as raw:
        assert await send(raw.url) == Answer(503, "status", "120")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_case_16_a_redirect_is_not_followed(status: int) -> None:
    async with receiver(answer(OK)) as target:
        head = f"HTTP/1.1 {status} Go\r\nlocation: {target.url}\r\ncontent-length: 0\r\n\r\n"
        async with receiver(answer(head.encode())) as raw:
            assert await send(raw.url) == Answer(status, "status")
    assert target.connections == 0


async def test_case_1_a_receiver_that_never_reads_the_request() -> None:
    async with receiver(silent, read_first=False) as raw:
        start = time.monotonic()
        assert await send(raw.url, 0.3, b"x" * 1_000_000) == Answer(None, "timeout")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "behave", [silent, forever(b"HTTP/1.1 200 OK\r\n", b"a", 0.02)], ids=["silent", "drips"]
)
async def test_case_2_an_answer_without_end_of_head_ends_at_the_limit(behave: Behaviour) -> None:
    async with receiver(behave) as raw:
        start = time.monotonic()
        assert await send(raw.url, 0.3) == Answer(None, "timeout")
    assert 0.25 < time.monotonic() - start < 2


@pytest.mark.parametrize(
    "behave",
    [
        forever(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", b".", 0.05),
        answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf", then_close=True),
        answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", then_close=True),
    ],
    ids=["drips", "closes", "breaks"],
)
async def test_case_3_and_4_what_follows_a_complete_2xx_head_is_success(
    behave: Behaviour,
) -> None:
    async with receiver(behave) as raw:
        start = time.monotonic()
        assert await send(raw.url) == Answer(200, None)
    assert time.monotonic() - start < 2
    assert len(raw.requests) == 1


@pytest.mark.parametrize("read_first", [True, False])
async def test_case_4_a_reset_before_the_head_is_one_failed_post(read_first: bool) -> None:
    async with receiver(reset, read_first=read_first) as raw:
        assert await send(raw.url) == Answer(None, "reset")
    assert raw.connections == 1


async def test_case_10_an_answer_before_the_request_was_read() -> None:
    async with receiver(answer(OK, then_close=True), read_first=False) as raw:
        assert await send(raw.url) == Answer(200, None)


FLOOD = b"x" * 65536
BOMB = gzip.compress(bytes(20_000_000))


@pytest.mark.parametrize(
    "behave",
    [
        forever(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n", FLOOD),
        forever(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"10000\r\n" + FLOOD + b"\r\n"
        ),
        answer(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB)
            + BOMB
        ),
    ],
    ids=["10 MB", "endless", "bomb"],
)
async def test_case_5_6_7_a_large_body_is_neither_read_nor_unpacked(behave: Behaviour) -> None:
    async with receiver(behave) as raw, Sender(RULES, 5.0) as sender:
        await sender.post(URL(f"http://127.0.0.1:{raw.port}/warm"), {}, BODY)
        tracemalloc.start()
        try:
            start = time.monotonic()
            assert await sender.post(raw.url, {}, BODY) == Answer(200, None)
            assert time.monotonic() - start < 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000
        assert raw.connections == 2, "a connection with a body left in it is not used again"


async def test_case_8_endless_1xx_answers_end_at_once() -> None:
    behave = forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    async with receiver(behave) as raw, Sender(RULES, 5.0) as sender:
        start = time.process_time()
        assert await sender.post(raw.url, {}, BODY) == Answer(None, "protocol")
        assert time.process_time() - start < 0.5
    assert len(raw.requests) == 1


def own_certificate(folder: Path) -> ssl.SSLContext:
    """A TLS server that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


async def test_case_21_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with receiver(answer(OK), tls=own_certificate(tmp_path)) as raw:
        assert await send(URL(f"https://127.0.0.1:{raw.port}/")) == Answer(None, "tls")
    assert raw.requests == []


async def test_case_12_a_port_that_never_speaks_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(silent, read_first=False) as raw:
        url = URL(f"https://127.0.0.1:{raw.port}/")
        assert await send(url, 0.3) == Answer(None, "timeout")


async def test_nobody_listens() -> None:
    async with receiver(silent) as raw:
        url = raw.url
    assert await send(url) == Answer(None, "connect")


async def test_a_forbidden_address_is_blocked_before_a_packet() -> None:
    async with receiver(answer(OK)) as raw, Sender(Callbacks(allow_http=True), 5.0) as sender:
        assert await sender.post(raw.url, {}, BODY) == Answer(None, "blocked")
        local = URL(f"http://localhost:{raw.port}/")
        assert await sender.post(local, {}, BODY) == Answer(None, "blocked")
        metadata = URL("http://169.254.169.254/latest/meta-data")
        assert await sender.post(metadata, {}, BODY) == Answer(None, "blocked")
    assert raw.connections == 0


async def test_case_20_proxies_and_cookies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-length: 0\r\n\r\n"
    async with receiver(answer(head)) as raw, receiver(answer(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, str(proxy.url))
        async with Sender(RULES, 5.0) as sender:
            for _ in range(2):
                await sender.post(raw.url, {}, BODY)
    assert proxy.connections == 0
    assert all(b"cookie" not in request.lower() for request in raw.requests)


async def test_a_cancelled_post_leaves_no_connection_behind() -> None:
    async with receiver(silent) as raw, Sender(RULES, 5.0) as sender:
        task = asyncio.create_task(sender.post(raw.url, {}, BODY))
        while not raw.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()


async def test_a_head_that_comes_byte_by_byte_is_one_head() -> None:
    whole = b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    async def behave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for index in range(len(whole)):
            writer.write(whole[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0.001)

    async with receiver(behave) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(2):
            assert await sender.post(raw.url, {}, BODY) == Answer(200, None)
        assert raw.connections == 1


async def test_case_7_a_body_is_never_unpacked() -> None:
    """One that only claims to be packed is no trouble: the connection goes on."""
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"
    async with receiver(answer(head)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(2):
            assert await sender.post(raw.url, {}, BODY) == Answer(200, None)
        assert raw.connections == 1
