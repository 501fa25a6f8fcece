"""Whatever a receiver says, a POST ends in an Answer, and the next one gets its own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callbacks.sender import Sender
from tests.harness.raw import answer, receiving
from tests.wire.sending import BODY, RULES, came_of

ERRORS = {None, "status", "protocol", "reset", "timeout"}
FRAGMENTS = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 No\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"HTTP/1.0 500 Oh\r\n",
    b"HTTP/1.1 101 S\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"content-length: 0\r\n",
    b"content-length: 5\r\n",
    b"Content-Length: 0x5\r\n",
    b"transfer-encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"connection: close\r\n",
    b"connection: keep-alive\r\n",
    b"upgrade: h2c\r\n",
    b"retry-after: 1\r\n",
    b" folded\r\n",
    b"hello",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0;x=y\r\n",
    b"fffffffffffffffff\r\n",
    b"\x00",
)
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
)
nonsense = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=6).map(b"".join)
whole_and_more = st.builds(bytes.__add__, st.sampled_from(WHOLE), nonsense)


@pytest.mark.case(9)
@given(said=whole_and_more | whole_and_more | nonsense)
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_answer_is_taken_for_another_requests(said: bytes) -> None:
    answers = iter([said, b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n"])

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(next(answers))(reader, writer)

    async with receiving(behave) as raw, Sender(RULES, 0.3) as sender:
        first = await sender.post(raw.url, {}, BODY)
        assert first.error in ERRORS
        assert (first.status is None) == (first.error in ("protocol", "reset", "timeout"))
        assert came_of(await sender.post(raw.url, {}, BODY)) == (202, None)
        assert len(raw.requests) == 2
