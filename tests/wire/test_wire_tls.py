"""TLS: whoever can't prove to be the host in the URL is sent nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time

import pytest
from yarl import URL

from callbacks.sender import Sender
from tests.harness.authority import Authority
from tests.harness.names import HOST, Names
from tests.harness.raw import OK, Behaviour, Raw, answer, receiving, reset_after, silent
from tests.wire.sending import BODY, RULES, came_of, send

HERE = Names(["127.0.0.1"])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def post(raw: Raw, authority: Authority, limit: float = 5.0) -> tuple[int | None, str | None]:
    """What comes of a POST to HOST by a Sender that trusts the authority."""
    return came_of(await send(raw.at(HOST), limit, names=HERE, tls=authority.trusting()))


async def test_a_receiver_that_proves_its_name_is_sent_to(authority: Authority) -> None:
    async with receiving(answer(OK), tls=authority.server(HOST)) as raw:
        assert await post(raw, authority) == (200, None)
    assert raw.requests[0].endswith(BODY)


async def test_a_connection_is_kept_over_tls_too(authority: Authority) -> None:
    async with receiving(answer(OK), tls=authority.server("127.0.0.1")) as raw:
        async with Sender(RULES, 5.0, tls=authority.trusting()) as sender:
            for _ in range(3):
                assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
        await raw.until_ended(1)
    assert raw.connections == 1


@pytest.mark.case(4)
async def test_a_kept_connection_that_was_closed_is_not_written_to(authority: Authority) -> None:
    sender = Sender(RULES, 5.0, tls=authority.trusting())
    async with receiving(answer(OK), tls=authority.server("127.0.0.1")) as raw, sender:
        for connections in (1, 2):
            assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
            raw.hang_up()
            await raw.until_ended(connections)
    assert (raw.connections, len(raw.requests)) == (2, 2)


@pytest.mark.case(21)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "wrong", ["self-signed", "expired", "not yet valid", "another host", "no intermediate", "old"]
)
async def test_a_receiver_that_proves_nothing_is_sent_nothing(
    authority: Authority, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = {
        "self-signed": lambda: Authority().server(HOST),
        "expired": lambda: authority.server(HOST, days=-1),
        "not yet valid": lambda: authority.server(HOST, days=60),
        "another host": lambda: authority.server("other.example", "*.hooks.example"),
        "no intermediate": lambda: authority.server_without_chain(HOST),
        "old": lambda: authority.server(HOST, oldest=True),
    }[wrong]()
    with caplog.at_level(logging.INFO):
        async with receiving(answer(OK), tls=server) as raw:
            assert await post(raw, authority) == (None, "tls")
            assert raw.requests == []
    assert caplog.records == []


@pytest.mark.case(21)
async def test_the_system_does_not_vouch_for_the_tests(authority: Authority) -> None:
    """What a test's authority is trusted for is that Sender's alone."""
    async with receiving(answer(OK), tls=authority.server(HOST)) as raw:
        assert came_of(await send(raw.at(HOST), names=HERE)) == (None, "tls")
    assert raw.requests == []


@pytest.mark.case(21)
async def test_an_address_is_checked_like_a_name(authority: Authority) -> None:
    async with receiving(answer(OK), tls=authority.server(HOST)) as raw:
        assert came_of(await send(raw.url, tls=authority.trusting())) == (None, "tls")
    assert raw.requests == []


@pytest.mark.case(21)
async def test_the_host_is_named_in_the_handshake(authority: Authority) -> None:
    """A server of many hosts can't choose its certificate otherwise (SNI)."""
    named: list[str | None] = []
    server = authority.server(HOST)
    server.sni_callback = lambda _, name, __: named.append(name)
    async with receiving(answer(OK), tls=server) as raw:
        assert await post(raw, authority) == (200, None)
    assert named == [HOST]


@pytest.mark.case(21)
async def test_no_client_certificate_is_offered(authority: Authority) -> None:
    server = authority.server(HOST)
    server.verify_mode = ssl.CERT_OPTIONAL
    shown: list[object] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("peercert"))
        await answer(OK)(reader, writer)

    async with receiving(behave, tls=server) as raw:
        assert await post(raw, authority) == (200, None)
    assert shown == [{}] or shown == [None]


@pytest.mark.case(21)
async def test_a_receiver_that_insists_on_a_client_certificate_is_a_failure_of_tls(
    authority: Authority,
) -> None:
    """In TLS 1.3 it can say so only after the request is under way."""
    server = authority.server(HOST)
    server.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused = asyncio.create_task(asyncio.to_thread(_refuse, listener, server))
        url = URL(f"https://{HOST}:{listener.getsockname()[1]}/")
        found = await send(url, names=HERE, tls=authority.trusting())
        await refused
    assert came_of(found) == (None, "tls")
    assert found.tls_ms is not None


def _refuse(listener: socket.socket, server: ssl.SSLContext) -> None:
    """A handshake as blocking servers do it: the alert is sent, and what came is read."""
    taken, _ = listener.accept()
    taken.settimeout(5)
    with taken, taken.dup() as kept:
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            server.wrap_socket(taken, server_side=True)
        while kept.recv(4096):
            pass


@pytest.mark.case(12)
async def test_a_port_that_accepts_and_never_speaks_tls(authority: Authority) -> None:
    async with receiving(silent, read_first=False) as raw:
        start = time.monotonic()
        url = raw.at(HOST).with_scheme("https")
        found = await send(url, 0.3, names=HERE, tls=authority.trusting())
        assert came_of(found) == (None, "timeout")
        assert 0.25 < time.monotonic() - start < 2
        assert (found.connect_ms is None, found.tls_ms) == (False, None)
        await raw.until_ended(1)


@pytest.mark.case(12)
@pytest.mark.parametrize(
    "behave", [answer(b"SSH-2.0-x\r\n"), answer(OK), answer(b"", then_close=True)], ids=range(3)
)
async def test_a_port_that_speaks_something_else(behave: Behaviour, authority: Authority) -> None:
    async with receiving(behave, read_first=False) as raw:
        url = raw.at(HOST).with_scheme("https")
        found = await send(url, names=HERE, tls=authority.trusting())
        assert came_of(found) == (None, "tls")
        await raw.until_ended(1)


@pytest.mark.case(13)
@pytest.mark.parametrize("read", [0, 20])
async def test_a_reset_in_the_handshake(read: int, authority: Authority) -> None:
    async with receiving(reset_after(read=read), read_first=False) as raw:
        url = raw.at(HOST).with_scheme("https")
        found = await send(url, names=HERE, tls=authority.trusting())
        assert came_of(found) == (None, "tls")


@pytest.mark.case(13)
async def test_a_reset_after_the_handshake(authority: Authority) -> None:
    async with receiving(reset_after(), tls=authority.server(HOST)) as raw:
        assert await post(raw, authority) == (None, "reset")
    assert raw.connections == 1
