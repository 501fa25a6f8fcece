"""An answer is a status or a clean failure, however it comes and whatever follows it."""

from __future__ import annotations

import asyncio
import gzip
import resource
import time
import tracemalloc
import zlib

import pytest

from callbacks import connection
from callbacks.answer import MAX_EXCERPT
from callbacks.sender import Sender
from tests.harness.raw import OK, Behaviour, answer, deaf, forever, receiving, reset_after, silent
from tests.wire.sending import BODY, RULES, came_of, send

LINE = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.case(9, 11)
@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nabcde", 204, None),
        (LINE + b"content-length: 4\r\n\r\n\x00\xff\xfe\x80", 200, None),
        (LINE + b"x: \xff\xfe\r\ncontent-length: 0\r\n\r\n", 200, None),
        (LINE + b"x:\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, None),
        (b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n", 202, None),
        (LINE + b"content-length: 0\r\n\r\n" + LINE + b"content-length: 0\r\n\r\n", 200, None),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, "status"),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, "status"),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", 500, "status"),
        (b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n", 999, "status"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", 101, "status"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx", 101, "status"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", None, "protocol"),
        (b"220 mail.example ESMTP\r\n", None, "protocol"),
        (b"<html>hello, HTTP/0.9</html>", None, "protocol"),
        (b"HTTP/0.9 200 OK\r\n\r\n", None, "protocol"),
        (b"HTTP/2.0 200 OK\r\n\r\n", None, "protocol"),
        (b"RTSP/1.0 200 OK\r\n\r\n", None, "protocol"),
        (b"ICY 200 OK\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 20 OK\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 000 No\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 -200 OK\r\n\r\n", None, "protocol"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", None, "protocol"),
        (LINE + b"content-length: -1\r\n\r\n", None, "protocol"),
        (LINE + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", None, "protocol"),
        (LINE + b"content-length: 99999999999999999999\r\n\r\n", None, "protocol"),
        (
            LINE + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            None,
            "protocol",
        ),
        (
            LINE + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            None,
            "protocol",
        ),
        (LINE + b"x: \x00\r\n\r\n", None, "protocol"),
        (LINE + b"no colon\r\n\r\n", None, "protocol"),
        (LINE + b"x: a\r\n folded\r\n\r\n", None, "protocol"),
        (LINE.replace(b"\r", b"") + b"\n", None, "protocol"),
        (LINE + b"a: b\r\n" * (connection.MAX_HEADERS + 1) + b"\r\n", None, "protocol"),
        (LINE + b"a: b\r\n" * 400_000 + b"\r\n", None, "protocol"),
        (LINE + b"a: " + b"b" * connection.MAX_HEADER_BYTES + b"\r\n\r\n", None, "protocol"),
        (LINE + b"a: " + b"b" * 1_000_000 + b"\r\n\r\n", None, "protocol"),
        (LINE + b"content-len", None, "reset"),
        (b"", None, "reset"),
    ],
    ids=range(40),
)
async def test_an_answer_is_a_status_or_a_clean_failure(
    data: bytes, status: int | None, error: str | None
) -> None:
    async with receiving(answer(data, then_close=True)) as raw:
        assert came_of(await send(raw.url)) == (status, error)
    assert len(raw.requests) == 1


@pytest.mark.case(9)
async def test_a_line_without_end_is_given_up_long_before_the_limit() -> None:
    async with receiving(forever(LINE + b"a: ", b"b" * 10_000)) as raw:
        assert came_of(await send(raw.url, 30.0)) == (None, "protocol")
        await raw.until_ended(1)


@pytest.mark.case(11)
@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"caf\xc3\xa9\t\n", "café\t\n"),
        (b"\x00\x01\x1b[2J\x7f", "\\x00\\x01\\x1b[2J\\x7f"),
        (b"\xff\xfe\x80", "\\xff\\xfe\\x80"),
        ("\u009b31m".encode(), "\\x9b31m"),
        ("\u2028\U0001f600".encode(), "\u2028\U0001f600"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ],
)
async def test_what_a_receiver_said_is_kept_as_text_that_can_be_stored(
    body: bytes, shown: str
) -> None:
    head = b"HTTP/1.1 400 No\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with receiving(answer(head + body)) as raw:
        found = await send(raw.url)
    assert found.head == head.decode() + shown


@pytest.mark.case(11)
@pytest.mark.parametrize("piece", [b"x", b"\x00", "\U0001f600".encode()])
async def test_no_more_than_its_beginning_is_kept(piece: bytes) -> None:
    data = b"HTTP/1.1 500 No\r\ncontent-length: 9999\r\n\r\n" + piece * 9999
    async with receiving(answer(data[:20_000])) as raw:
        found = await send(raw.url)
    assert found.head is not None
    assert MAX_EXCERPT - 4 < len(found.head.encode()) <= MAX_EXCERPT


async def test_what_broke_the_protocol_is_kept() -> None:
    async with receiving(answer(b"SSH-2.0-OpenSSH_9.6\r\n")) as raw:
        found = await send(raw.url)
    assert found.head == "SSH-2.0-OpenSSH_9.6\r\n"


@pytest.mark.case(1)
async def test_a_receiver_that_never_reads_the_request() -> None:
    async with receiving(deaf, read_first=False) as raw:
        start = time.monotonic()
        assert came_of(await send(raw.url, 0.3, b"x" * 4_000_000)) == (None, "timeout")
        assert 0.25 < time.monotonic() - start < 2


@pytest.mark.case(2)
@pytest.mark.parametrize(
    "behave",
    [
        silent,
        forever(LINE, b"a", 0.02),
        forever(LINE, b"a: b\r\n", 0.02),
        forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    ],
    ids=["silent", "drips a header", "drips headers", "drips 1xx"],
)
async def test_an_answer_without_end_of_head_ends_at_the_limit(behave: Behaviour) -> None:
    async with receiving(behave) as raw:
        start = time.monotonic()
        assert came_of(await send(raw.url, 0.3)) == (None, "timeout")
        assert 0.25 < time.monotonic() - start < 2
        await raw.until_ended(1)


@pytest.mark.case(3, 4)
@pytest.mark.parametrize(
    "behave",
    [
        forever(LINE + b"content-length: 99\r\n\r\n", b".", 0.05),
        forever(LINE + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n.\r\n", 0.05),
        answer(LINE + b"content-length: 99\r\n\r\nhalf", then_close=True),
        answer(LINE + b"transfer-encoding: chunked\r\n\r\nzz\r\n"),
        reset_after(LINE + b"content-length: 99\r\n\r\nhalf"),
    ],
    ids=["drips", "drips chunks", "closes", "breaks", "resets"],
)
async def test_what_follows_a_complete_2xx_head_changes_nothing(behave: Behaviour) -> None:
    async with receiving(behave) as raw:
        start = time.monotonic()
        assert came_of(await send(raw.url)) == (200, None)
        assert time.monotonic() - start < connection.BODY_SECONDS + 1
        await raw.until_ended(1)
    assert len(raw.requests) == 1


@pytest.mark.case(3)
async def test_a_late_body_does_not_outlast_the_limit() -> None:
    async with receiving(answer(LINE, b"content-length: 9\r\n\r\n", b".", pause=0.25)) as raw:
        start = time.monotonic()
        assert came_of(await send(raw.url, 0.3)) == (200, None)
        assert time.monotonic() - start < 0.45


@pytest.mark.case(13)
@pytest.mark.parametrize(
    ("behave", "read_first"),
    [
        (reset_after(), False),
        (reset_after(read=20), False),
        (reset_after(), True),
        (reset_after(b"HTTP/1.1 200 "), True),
        (reset_after(LINE + b"content-length: 0\r\n"), True),
    ],
    ids=["at once", "in the request", "after it", "in the first line", "in the head"],
)
async def test_a_reset_before_the_end_of_the_head_is_one_failed_post(
    behave: Behaviour, read_first: bool
) -> None:
    async with receiving(behave, read_first=read_first) as raw:
        assert came_of(await send(raw.url)) == (None, "reset")
    assert raw.connections == 1


@pytest.mark.case(10)
async def test_an_answer_before_the_request_was_read() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await answer(OK)(reader, writer)
        await deaf(reader, writer)

    async with receiving(behave, read_first=False) as raw:
        assert came_of(await send(raw.url, body=b"x" * 4_000_000)) == (200, None)


FLOOD = b"x" * 65536
BOMB = gzip.compress(bytes(20_000_000))


@pytest.mark.case(5, 6, 7)
@pytest.mark.parametrize(
    "behave",
    [
        forever(LINE + b"content-length: 10000000\r\n\r\n", FLOOD),
        forever(LINE + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + FLOOD + b"\r\n"),
        forever(LINE + b"\r\n", FLOOD),
        *(
            answer(
                LINE + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (name, size) + data
            )
            for name, data in {
                b"gzip": BOMB,
                b"deflate": zlib.compress(bytes(20_000_000)),
                b"br": BOMB,
                b"zstd": BOMB,
            }.items()
            for size in [len(data)]
        ),
    ],
    ids=["10 MB", "chunks", "to the end", "gzip", "deflate", "br", "zstd"],
)
async def test_a_large_body_is_neither_read_nor_unpacked(behave: Behaviour) -> None:
    async with receiving(behave) as raw, Sender(RULES, 5.0) as sender:
        await sender.post(raw.url, {}, BODY)  # so that what is made once is not counted
        tracemalloc.start()
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.monotonic()
            found = await sender.post(raw.url, {}, BODY)
            took = time.monotonic() - start
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert came_of(found) == (200, None)
        assert took < connection.BODY_SECONDS + 0.5
        assert peak < 1_000_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024  # KiB
        assert found.head is not None
        assert len(found.head) <= MAX_EXCERPT
        await raw.until_ended(2)
    assert raw.connections == 2, "a connection with a body left in it is not used again"


@pytest.mark.case(8)
async def test_endless_1xx_answers_end_at_once() -> None:
    behave = forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    async with receiving(behave) as raw, Sender(RULES, 5.0) as sender:
        start = time.process_time()
        assert came_of(await sender.post(raw.url, {}, BODY)) == (None, "protocol")
        assert time.process_time() - start < 0.05  # the receiver's part among it
        await raw.until_ended(1)
    assert len(raw.requests) == 1


@pytest.mark.case(8)
@pytest.mark.parametrize(
    ("count", "came"),
    [(connection.MAX_INTERIM, (200, None)), (connection.MAX_INTERIM + 1, (None, "protocol"))],
)
async def test_a_few_1xx_answers_are_heard_out(
    count: int, came: tuple[int | None, str | None]
) -> None:
    hint = b"HTTP/1.1 103 Hint\r\n" + b"link: x\r\n" * (connection.MAX_HEADERS // 2) + b"\r\n"
    async with receiving(answer(hint * count + OK)) as raw:
        assert came_of(await send(raw.url)) == came


@pytest.mark.parametrize("piece", [1, 7])
async def test_a_head_that_comes_in_pieces_is_one_head(piece: int) -> None:
    whole = b"HTTP/1.1 103 Hint\r\nx: y\r\n\r\n" + LINE + b"content-length: 2\r\n\r\nok"
    pieces = [whole[at : at + piece] for at in range(0, len(whole), piece)]
    async with receiving(answer(*pieces, pause=0.001)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(2):
            assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        assert raw.connections == 1
