"""Which connections are used again, which are not, and that no request is ever sent twice."""

from __future__ import annotations

import asyncio
import socket

import pytest

from callbacks import connection, idle
from callbacks.resolver import Resolver
from callbacks.sender import Sender
from tests.harness.names import HOST, Names
from tests.harness.raw import OK, answer, receiving
from tests.wire.sending import BODY, RULES, came_of

LINE = b"HTTP/1.1 200 OK\r\n"


async def test_a_connection_is_used_again_after_a_short_answer() -> None:
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(5):
            assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        assert raw.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        LINE + b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope",
        LINE + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        LINE + b"transfer-encoding: chunked\r\n\r\n0\r\nx-trailer: y\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        LINE + b"content-length: 4096\r\n\r\n" + b"x" * 4096,
    ],
    ids=range(7),
)
async def test_an_answer_that_is_whole_and_short_keeps_the_connection(data: bytes) -> None:
    async with receiving(answer(data)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(3):
            await sender.post(raw.url, {}, BODY)
        assert raw.connections == 1


@pytest.mark.case(9)
@pytest.mark.parametrize(
    "data",
    [
        LINE + b"connection: close\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nabcde",
        OK + b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
        OK + b"surplus",
        OK + b"HTTP/1.1 100 Continue\r\n\r\n",
        LINE + b"\r\nno end is given",
        LINE + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"SSH-2.0-x\r\n",
        LINE + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        LINE + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        LINE + b"content-length: 4097\r\n\r\n" + b"x" * 4097,
        LINE + b"content-length: 4097\r\n\r\n" + b"x" * 10,
    ],
    ids=range(14),
)
async def test_in_doubt_a_connection_is_closed_and_the_next_answer_is_its_own(data: bytes) -> None:
    """The second request must not be answered by what is left of the first answer."""
    told = iter([data, b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n"])

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(next(told))(reader, writer)

    async with receiving(behave) as raw, Sender(RULES, 5.0) as sender:
        await sender.post(raw.url, {}, BODY)
        assert came_of(await sender.post(raw.url, {}, BODY)) == (202, None)
        assert raw.connections == 2
        assert len(raw.requests) == 2


@pytest.mark.case(9)
async def test_what_comes_unasked_on_an_idle_connection_is_no_answer() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(OK, b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", pause=0.02)(
            reader, writer
        )

    async with receiving(behave) as raw, Sender(RULES, 5.0) as sender:
        assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        await raw.until_ended(1)
        assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        assert raw.connections == 2


@pytest.mark.case(4)
@pytest.mark.parametrize("seen", [True, False], ids=["seen by the loop", "still in the kernel"])
async def test_a_connection_that_was_closed_meanwhile_is_not_written_to(seen: bool) -> None:
    """The request goes out once, over a new connection."""
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        await sender.post(raw.url, {}, BODY)
        raw.hang_up()
        if seen:
            await raw.until_ended(1)
        assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        assert raw.connections == 2
    assert len(raw.requests) == 2


@pytest.mark.case(4)
async def test_a_kept_connection_that_ends_without_an_answer_is_one_failed_post() -> None:
    """It may have been handled: only the schedule may send it again."""
    served = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await answer(OK if served == 1 else b"", then_close=served > 1)(reader, writer)

    async with receiving(behave) as raw, Sender(RULES, 5.0) as sender:
        assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        assert came_of(await sender.post(raw.url, {}, BODY)) == (None, "reset")
        assert raw.connections == 1
        assert came_of(await sender.post(raw.url, {}, BODY)) == (None, "reset")
    assert len(raw.requests) == 3


@pytest.mark.case(17)
async def test_a_connection_grows_old_so_that_a_change_of_dns_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then it goes on to where it leads, which was judged when it was made."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    resolver = Resolver(RULES, names)
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0, resolver=resolver) as sender:
        monkeypatch.setattr(connection, "MAX_AGE_SECONDS", 0.2)
        for _ in range(2):
            assert came_of(await sender.post(raw.at(HOST), {}, BODY)) == (200, None)
        assert (raw.connections, names.asked) == (1, 1)
        await asyncio.sleep(0.25)
        assert came_of(await sender.post(raw.at(HOST), {}, BODY)) == (None, "blocked")
        assert (raw.connections, names.asked) == (1, 2)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"keep-alive: timeout=60\r\n", True),
        (b"keep-alive: max=100, timeout=5\r\n", True),
        (b"keep-alive: timeout=99999999\r\n", True),
        (b"keep-alive: timeout=1, max=100\r\n", False),
        (b"keep-alive: timeout=0\r\n", False),
    ],
)
async def test_a_receiver_may_say_how_long_it_keeps_a_connection(said: bytes, kept: bool) -> None:
    data = LINE + said + b"content-length: 0\r\n\r\n"
    async with receiving(answer(data)) as raw, Sender(RULES, 5.0) as sender:
        for _ in range(2):
            await sender.post(raw.url, {}, BODY)
        assert raw.connections == (1 if kept else 2)


async def test_idle_connections_are_closed_after_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(idle, "SWEEP_SECONDS", 0.05)
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        await asyncio.gather(*(sender.post(raw.url, {}, BODY) for _ in range(3)))
        await raw.until_ended(raw.connections)


async def test_no_more_connections_are_kept_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle, "MAX_IDLE", 2)
    async with receiving(answer(OK, pause=0.05)) as raw, Sender(RULES, 5.0) as sender:
        await asyncio.gather(*(sender.post(raw.url, {}, BODY) for _ in range(6)))
        await raw.until_ended(4)
        await asyncio.gather(*(sender.post(raw.url, {}, BODY) for _ in range(6)))
        assert raw.connections == 10


async def test_requests_at_once_have_a_connection_each() -> None:
    async with receiving(answer(OK, pause=0.02)) as raw, Sender(RULES, 5.0) as sender:
        found = await asyncio.gather(*(sender.post(raw.url, {}, BODY) for _ in range(50)))
        assert {came_of(each) for each in found} == {(200, None)}
        assert raw.connections == 50
    await raw.until_ended(50)


async def test_a_receiver_on_another_port_or_host_has_its_own_connections() -> None:
    resolver = Resolver(RULES, Names(["127.0.0.1"]))
    async with (
        receiving(answer(OK)) as one,
        receiving(answer(OK)) as other,
        Sender(RULES, 5.0, resolver=resolver) as sender,
    ):
        for url in (one.url, other.url, one.at(HOST), one.url):
            assert came_of(await sender.post(url, {}, BODY)) == (200, None)
        assert (one.connections, other.connections) == (2, 1)


async def test_a_host_whose_first_address_is_silent_is_reached_at_the_next() -> None:
    """A listener whose queue is full: its connects hang, as to a host that drops packets."""
    full = socket.socket()
    full.bind(("127.0.0.2", 0))
    full.listen(0)
    fillers = []
    try:
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        resolver = Resolver(RULES, Names(["127.0.0.2", "127.0.0.1"]))
        port = full.getsockname()[1]
        async with (
            receiving(answer(OK), port=port) as raw,
            Sender(RULES, 5.0, resolver=resolver) as sender,
        ):
            found = await sender.post(raw.at(HOST), {}, BODY)
        assert (came_of(found), found.address) == ((200, None), "127.0.0.1")
    finally:
        for each in (full, *fillers):
            each.close()
