"""The transport and JSON-RPC against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from aiohttp import web

from indexer.chains.jsonrpc import Call, JsonRpc, NodeError, decode
from indexer.chains.rpc import (
    ATTEMPTS,
    COOL_LIMIT_SECONDS,
    Endpoint,
    EndpointFailed,
    Overloaded,
    TooLarge,
    TooSlow,
    Transport,
)
from indexer.model import Refused
from tests.rpc_server import FakeTime, Handler, RpcServer, echo, fault, reply, serving, status, then


@pytest.fixture
async def server() -> AsyncIterator[RpcServer]:
    async with serving() as running:
        yield running


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
async def transport(time: FakeTime) -> AsyncIterator[Transport]:
    opened = Transport(
        call_seconds=2.0, body_bytes=50_000, clock=time.clock, sleep=time.sleep, jitter=lambda: 0.5
    )
    yield opened
    await opened.close()


@pytest.fixture
def rpc(transport: Transport) -> JsonRpc:
    return JsonRpc(transport)


def calls(*values: Any) -> list[Call]:
    return [Call("echo", [value]) for value in values]


def plain(raws: list[msgspec.Raw]) -> list[Any]:
    return [msgspec.json.decode(raw) for raw in raws]


# ---------------------------------------------------------------- what is sent, what is shown


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://node-a:8545", "http://node-a:8545"),
        ("http://node-a", "http://node-a:80"),
        ("https://node.example/v3/0123456789abcdef", "https://node.example:443"),
        ("https://user:pass@node.example:1234/?key=abcdef", "https://node.example:1234"),
        ("http://[::1]:8545/rpc", "http://[::1]:8545"),
    ],
)
def test_an_endpoint_is_named_without_its_secrets(url: str, name: str) -> None:
    endpoint = Endpoint(url, {"Authorization": "Bearer abcdef"})
    assert endpoint.name == name
    assert repr(endpoint) == f"<Endpoint {name}>"


@pytest.mark.parametrize("url", ["", "node:8545", "ftp://node", "http://", "http://a:99999/key99"])
def test_an_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(Refused) as refused:
        Endpoint(url)
    assert "key99" not in str(refused.value)


async def test_headers_and_password_are_sent(server: RpcServer, rpc: JsonRpc) -> None:
    url = server.url.replace("http://", "http://us%65r:p%40ss@") + "/v1/key"
    await rpc.call(Endpoint(url, {"X-Key": "abc"}), "echo", [])
    sent = server.headers[0]
    assert (sent["X-Key"], sent["Authorization"]) == ("abc", "Basic dXNlcjpwQHNz")


async def test_a_nodes_words_are_shown_without_our_secrets(server: RpcServer, rpc: JsonRpc) -> None:
    async def tells(request: web.Request, body: Any) -> web.StreamResponse:
        said = "no key 0123456789abcdef for s3cretpass\x1b[31m, Bearer xyz999" + "!" * 999
        return web.json_response(fault(body, -32000, said))

    server.answer = tells
    url = server.url.replace("http://", "http://user:s3cretpass@") + "/v3/0123456789abcdef"
    with pytest.raises(NodeError) as failed:
        await rpc.call(Endpoint(url, {"Authorization": "Bearer xyz999"}), "eth_x", [])
    sentence = str(failed.value)
    assert sentence.startswith(f"{server.url} answered eth_x with error -32000: no key *** for ***")
    assert not any(secret in sentence for secret in ("0123456789", "s3cret", "xyz999", "\x1b"))
    assert len(sentence) < 300


async def test_the_environments_proxy_is_not_used(
    server: RpcServer, rpc: JsonRpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert plain([await rpc.call(Endpoint(server.url), "echo", [1])]) == [[1]]


# ---------------------------------------------------------------- batches


@pytest.mark.pitfall("P66")
async def test_replies_are_matched_by_id_in_whatever_order(server: RpcServer, rpc: JsonRpc) -> None:
    async def shuffled(request: web.Request, body: Any) -> web.StreamResponse:
        replies = [reply(call, call["params"]) for call in body]
        random.Random(7).shuffle(replies)
        return web.json_response(replies)

    server.answer = shuffled
    answers = await rpc.batch(Endpoint(server.url), calls(*range(20)))
    assert plain(answers) == [[value] for value in range(20)]


def without_first(replies: list[Any]) -> list[Any]:
    return replies[1:]


def first_twice(replies: list[Any]) -> list[Any]:
    return [replies[0], *replies]


def first_instead_of_second(replies: list[Any]) -> list[Any]:
    return [replies[0], replies[0], *replies[2:]]


def strangers(replies: list[Any]) -> list[Any]:
    return [{**each, "id": 10**9 + at} for at, each in enumerate(replies)]


def nameless(replies: list[Any]) -> list[Any]:
    return [{**replies[0], "id": None}, *replies[1:]]


@pytest.mark.parametrize(
    "spoil", [without_first, first_twice, first_instead_of_second, strangers, nameless]
)
@pytest.mark.pitfall("P66")
async def test_the_full_set_of_replies_is_required(
    server: RpcServer, rpc: JsonRpc, spoil: Callable[[list[Any]], list[Any]]
) -> None:
    async def spoilt(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(spoil([reply(call, call["params"]) for call in body]))

    server.answer = spoilt
    with pytest.raises(EndpointFailed, match=r"answered \d of 3 calls"):
        await rpc.batch(Endpoint(server.url), calls(1, 2, 3))


@pytest.mark.pitfall("P66")
async def test_only_what_an_overloaded_node_left_is_asked_again(
    server: RpcServer, rpc: JsonRpc, time: FakeTime
) -> None:
    async def limited(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(
            [
                fault(call, -32005, "limit exceeded") if at == 1 else reply(call, call["params"])
                for at, call in enumerate(body)
            ]
        )

    server.answer = then(limited, echo)
    answers = await rpc.batch(Endpoint(server.url), calls("a", "b", "c"))
    assert plain(answers) == [["a"], ["b"], ["c"]]
    assert server.requests[1]["params"] == ["b"]
    assert sum(time.slept) >= 1.0


async def test_a_node_that_stays_overloaded_is_named(server: RpcServer, rpc: JsonRpc) -> None:
    async def limited(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(fault(body, -32005, "limit exceeded"))

    server.answer = limited
    with pytest.raises(Overloaded, match=r"is overloaded \(error -32005: limit exceeded\)"):
        await rpc.call(Endpoint(server.url), "echo", [])
    assert len(server.requests) == ATTEMPTS


@pytest.mark.pitfall("P66", "P128")
async def test_another_error_of_one_call_fails_all_with_its_code(
    server: RpcServer, rpc: JsonRpc
) -> None:
    async def one_fails(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response([reply(body[0], 1), fault(body[1], -32601, "not found")])

    server.answer = one_fails
    with pytest.raises(NodeError, match="answered echo with error -32601: not found") as failed:
        await rpc.batch(Endpoint(server.url), calls(1, 2))
    assert (failed.value.code, failed.value.said) == (-32601, "not found")
    assert len(server.requests) == 1


async def test_a_node_that_takes_no_batches_is_asked_one_by_one(
    server: RpcServer, rpc: JsonRpc
) -> None:
    async def single_only(request: web.Request, body: Any) -> web.StreamResponse:
        if isinstance(body, list):
            return web.json_response({"id": None, "error": {"code": -32600, "message": "no"}})
        return await echo(request, body)

    server.answer = single_only
    endpoint = Endpoint(server.url)
    for _ in range(2):
        assert plain(await rpc.batch(endpoint, calls(1, 2, 3))) == [[1], [2], [3]]
    assert sum(isinstance(body, list) for body in server.requests) == 1


async def test_one_result_for_a_whole_batch_is_refused(server: RpcServer, rpc: JsonRpc) -> None:
    async def lumped(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(reply(body[0], []))

    server.answer = lumped
    with pytest.raises(EndpointFailed, match="answered 2 calls with one result"):
        await rpc.batch(Endpoint(server.url), calls(1, 2))


async def test_many_calls_go_in_several_requests(server: RpcServer, rpc: JsonRpc) -> None:
    answers = await rpc.batch(Endpoint(server.url), calls(*range(250)))
    assert plain(answers) == [[value] for value in range(250)]
    assert [len(body) for body in server.requests] == [100, 100, 50]


async def test_null_is_a_result_and_nothing_is_none(server: RpcServer, rpc: JsonRpc) -> None:
    async def null(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(reply(body, None))

    async def nothing(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response({"jsonrpc": "2.0", "id": body["id"]})

    server.answer = then(null, nothing)
    assert plain([await rpc.call(Endpoint(server.url), "echo", [])]) == [None]
    with pytest.raises(EndpointFailed, match="neither result nor error"):
        await rpc.call(Endpoint(server.url), "echo", [])


# ---------------------------------------------------------------- overloaded


@pytest.mark.parametrize("code", [429, 503])
async def test_an_overloaded_node_rests_as_long_as_it_says(
    server: RpcServer, rpc: JsonRpc, time: FakeTime, code: int
) -> None:
    server.answer = then(status(code, **{"Retry-After": "7"}), echo)
    started = time.now
    await rpc.call(Endpoint(server.url), "echo", [])
    assert time.now - started == pytest.approx(7, abs=1)


async def test_a_rest_may_be_given_as_a_date(
    server: RpcServer, rpc: JsonRpc, time: FakeTime
) -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    server.answer = then(status(429, **{"Retry-After": until}), echo)
    started = time.now
    await rpc.call(Endpoint(server.url), "echo", [])
    assert 5 < time.now - started < 10


@pytest.mark.parametrize("said", ["", "soon", "-5", "٣"])
async def test_a_rest_that_is_unreadable_is_a_short_one(
    server: RpcServer, rpc: JsonRpc, time: FakeTime, said: str
) -> None:
    server.answer = then(status(429, **{"Retry-After": said.encode().decode("latin-1")}), echo)
    started = time.now
    await rpc.call(Endpoint(server.url), "echo", [])
    assert 0 < time.now - started < 3


async def test_nobody_waits_for_a_long_rest(
    server: RpcServer, transport: Transport, time: FakeTime
) -> None:
    server.answer = status(429, **{"Retry-After": "99999999"})
    endpoint = Endpoint(server.url)
    for _ in range(2):
        with pytest.raises(Overloaded, match="asked us to wait; 300 s of it are left"):
            await transport.post(endpoint, b"{}")
    assert len(server.requests) == 1
    time.now += COOL_LIMIT_SECONDS
    server.answer = echo
    await transport.post(endpoint, b'{"id": 1, "params": []}')


async def test_a_rest_is_the_endpoints_own(server: RpcServer, transport: Transport) -> None:
    resting, other = Endpoint(server.url), Endpoint(server.url)
    transport.cool(resting, 100.0)
    await transport.post(other, b'{"id": 1, "params": []}')
    with pytest.raises(Overloaded):
        await transport.post(resting, b'{"id": 1, "params": []}')


# ---------------------------------------------------------------- what is no answer


@pytest.mark.parametrize("code", [200, 404, 500, 502])
async def test_html_is_no_answer(server: RpcServer, transport: Transport, code: int) -> None:
    async def page(request: web.Request, body: Any) -> web.StreamResponse:
        return web.Response(status=code, text="<html>welcome</html>", content_type="text/html")

    server.answer = page
    expected = rf"answered text/html instead of JSON \(HTTP {code}\)"
    with pytest.raises(EndpointFailed, match=expected):
        await transport.post(Endpoint(server.url), b"{}")
    assert len(server.requests) == ATTEMPTS


async def test_a_gateways_error_is_tried_again(server: RpcServer, rpc: JsonRpc) -> None:
    server.answer = then(status(502), status(502), echo)
    assert plain([await rpc.call(Endpoint(server.url), "echo", [1])]) == [[1]]


async def test_an_error_with_its_own_status_is_still_read(server: RpcServer, rpc: JsonRpc) -> None:
    async def unhappy(request: web.Request, body: Any) -> web.StreamResponse:
        return web.json_response(fault(body, -32602, "bad params"), status=400)

    server.answer = unhappy
    with pytest.raises(NodeError, match="error -32602: bad params"):
        await rpc.call(Endpoint(server.url), "echo", [])


@pytest.mark.parametrize("code", [401, 403])
async def test_wrong_credentials_are_named_as_such(
    server: RpcServer, transport: Transport, code: int
) -> None:
    server.answer = status(code)
    with pytest.raises(EndpointFailed, match=rf"refuses us \(HTTP {code}\): check its credential"):
        await transport.post(Endpoint(server.url), b"{}")


async def test_redirects_are_not_followed(server: RpcServer, transport: Transport) -> None:
    async def elsewhere(request: web.Request, body: Any) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(server.url + "/elsewhere")

    server.answer = then(elsewhere, elsewhere, elsewhere, echo)
    with pytest.raises(EndpointFailed, match=r"instead of JSON \(HTTP 307\)"):
        await transport.post(Endpoint(server.url), b"{}")


@pytest.mark.parametrize(
    "text", ["[", '{"id": 1}}', '["a"]', '{"id": 1, "error": "no"}', "[" * 100_000]
)
async def test_broken_json_is_no_answer(server: RpcServer, rpc: JsonRpc, text: str) -> None:
    async def broken(request: web.Request, body: Any) -> web.StreamResponse:
        return web.Response(text=text[:40_000])

    server.answer = broken
    with pytest.raises(EndpointFailed, match="answered no valid JSON-RPC"):
        await rpc.call(Endpoint(server.url), "echo", [])


def test_a_result_of_another_shape_is_refused() -> None:
    with pytest.raises(EndpointFailed, match="answered in an unknown shape"):
        decode(Endpoint("http://node"), msgspec.Raw(b'{"a": 1}'), msgspec.json.Decoder(int))


# ---------------------------------------------------------------- limits and breakage


async def test_a_silent_node_is_given_up_and_not_asked_again(server: RpcServer) -> None:
    async def silent(request: web.Request, body: Any) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    server.answer = silent
    impatient = Transport(call_seconds=0.2)
    try:
        with pytest.raises(TooSlow, match=r"gave no answer within 0\.2 s"):
            await impatient.post(Endpoint(server.url), b"{}")
    finally:
        await impatient.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_larger_than_the_limit_is_cut_off(
    server: RpcServer, transport: Transport, packed: bool
) -> None:
    async def large(request: web.Request, body: Any) -> web.StreamResponse:
        text = b"[" + b" " * 10_000_000
        if packed:
            return web.Response(body=gzip.compress(text), headers={"Content-Encoding": "gzip"})
        return web.Response(body=text)

    server.answer = large
    with pytest.raises(TooLarge, match="answered more than"):
        await transport.post(Endpoint(server.url), b"{}")
    assert len(server.requests) == 1


async def test_a_broken_connection_is_tried_again(server: RpcServer, rpc: JsonRpc) -> None:
    async def hangs_up(request: web.Request, body: Any) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def breaks_off(request: web.Request, body: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"[")
        assert request.transport is not None
        request.transport.close()
        return response

    server.answer = then(hangs_up, breaks_off, echo)
    assert plain([await rpc.call(Endpoint(server.url), "echo", [1])]) == [[1]]


async def test_a_node_that_is_not_there_is_tried_a_few_times(
    server: RpcServer, transport: Transport, time: FakeTime, unused_tcp_port: int
) -> None:
    absent = Endpoint(f"http://127.0.0.1:{unused_tcp_port}/key0123456")
    with pytest.raises(EndpointFailed) as failed:
        await transport.post(absent, b"{}")
    assert str(failed.value) == f"{absent.name} can't be reached: Connection refused"
    assert time.slept == pytest.approx([0.2, 0.4])


async def test_the_backoff_is_jittered(server: RpcServer, time: FakeTime) -> None:
    draws = iter([0.0, 1.0])
    shaky = Transport(clock=time.clock, sleep=time.sleep, jitter=lambda: next(draws))
    handlers: list[Handler] = [status(500), status(500), echo]
    server.answer = then(handlers[0], *handlers[1:])
    try:
        await shaky.post(Endpoint(server.url), b'{"id": 1, "params": []}')
    finally:
        await shaky.close()
    assert time.slept == pytest.approx([0.1, 0.6])
