"""What a POST looks like, what its Answer says of it, and what it never carries."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from callbacks.sender import Sender
from tests.harness.authority import Authority
from tests.harness.names import HOST, Names
from tests.harness.raw import OK, answer, receiving, silent
from tests.wire.sending import BODY, RULES, came_of, send


async def test_the_request_is_what_the_specification_says() -> None:
    async with receiving(answer(OK)) as raw:
        assert came_of(await send(raw.url)) == (200, None)
    [request] = raw.requests
    head, body = request.split(b"\r\n\r\n", 1)
    line, *fields = head.decode().lower().split("\r\n")
    assert line == "post /hook?key=1 http/1.1"
    assert body == BODY
    assert sorted(field.split(":")[0] for field in fields) == sorted(
        ["host", "content-type", "content-length", "accept-encoding", "user-agent", "webhook-id"]
    )
    assert f"host: 127.0.0.1:{raw.port}" in fields
    assert f"content-length: {len(BODY)}" in fields
    assert "accept-encoding: identity" in fields
    assert "content-type: application/json" in fields


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://hooks.example/", b"POST / HTTP/1.1", b"host: hooks.example"),
        ("http://hooks.example", b"POST / HTTP/1.1", b"host: hooks.example"),
        ("http://hooks.example/a%2Fb/%7B?x=%20&&y", b"POST /a%2Fb/%7B?x=%20&&y HTTP/1.1", None),
        ("http://hooks.example?q", b"POST /?q HTTP/1.1", None),
        ("http://hooks.example:8080/", b"POST / HTTP/1.1", b"host: hooks.example:8080"),
    ],
)
async def test_a_url_is_sent_as_its_owner_wrote_it(
    url: str, line: bytes, host: bytes | None
) -> None:
    async with receiving(answer(OK)) as raw:
        names = Names(["127.0.0.1"], port=raw.port)
        assert came_of(await send(URL(url, encoded=True), names=names)) == (200, None)
    [request] = raw.requests
    assert request.startswith(line + b"\r\n")
    assert host is None or b"\r\n" + host + b"\r\n" in request


async def test_headers_of_an_endpoint_are_sent_along() -> None:
    own = {"webhook-id": "evt_1", "Authorization": "Bearer x", "X-Tenant": "a, b\tc"}
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        await sender.post(raw.url, own, BODY)
    [request] = raw.requests
    for name, value in own.items():
        assert f"\r\n{name}: {value}\r\n".encode() in request


async def test_a_large_body_arrives_whole() -> None:
    body = bytes(range(256)) * 256
    async with receiving(answer(OK)) as raw:
        assert came_of(await send(raw.url, body=body)) == (200, None)
    assert raw.requests[0].endswith(b"\r\n\r\n" + body)


async def test_an_answer_tells_its_steps_and_address() -> None:
    authority = Authority()
    ok = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with receiving(answer(ok, pause=0.05), tls=authority.server(HOST)) as raw:
        found = await send(raw.at(HOST), names=Names(["127.0.0.1"]), tls=authority.trusting())
    assert came_of(found) == (200, None)
    assert found.address == "127.0.0.1"
    assert found.head == ok.decode()
    steps = [found.dns_ms, found.connect_ms, found.tls_ms, found.first_byte_ms]
    assert all(step is not None and step > 0 for step in steps)
    assert sum(step or 0 for step in steps) <= found.total_ms < 5000


async def test_a_kept_connection_takes_no_steps_again() -> None:
    async with receiving(answer(OK)) as raw, Sender(RULES, 5.0) as sender:
        first, second = [await sender.post(raw.url, {}, BODY) for _ in range(2)]
    assert first.dns_ms is not None
    assert first.connect_ms is not None
    assert first.tls_ms is None
    assert (second.dns_ms, second.connect_ms, second.address) == (None, None, "127.0.0.1")
    assert second.first_byte_ms is not None


async def test_a_failed_step_is_the_last_one_told() -> None:
    async with receiving(answer(OK)) as raw:
        url = raw.url
    refused = await send(url)
    assert came_of(refused) == (None, "connect")
    assert refused.dns_ms is not None
    assert (refused.connect_ms, refused.address, refused.head) == (None, None, None)


async def test_what_receivers_ask_for_comes_back_as_it_came() -> None:
    head = (
        b"HTTP/1.1 503 Busy\r\nRetry-After:  120\r\nWebhook-Delivery: abort-message\r\n"
        b"content-length: 0\r\n\r\n"
    )
    async with receiving(answer(head)) as raw:
        found = await send(raw.url)
    assert came_of(found) == (503, "status")
    assert (found.retry_after, found.directive) == ("120", "abort-message")


@pytest.mark.case(20)
async def test_proxies_netrc_and_cookies_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    head = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-length: 0\r\n\r\n"
    async with receiving(answer(head)) as raw, receiving(answer(OK)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, str(proxy.url))
        async with Sender(RULES, 5.0) as sender:
            for _ in range(2):
                assert came_of(await sender.post(raw.url, {}, BODY)) == (200, None)
    assert proxy.connections == 0
    assert len(raw.requests) == 2
    for request in raw.requests:
        assert b"cookie" not in request.lower()
        assert b"authorization" not in request.lower()


async def test_a_cancelled_post_leaves_no_connection_behind() -> None:
    async with receiving(silent) as raw, Sender(RULES, 5.0) as sender:
        task = asyncio.create_task(sender.post(raw.url, {}, BODY))
        while not raw.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await raw.until_ended(1)
