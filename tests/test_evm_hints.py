"""`newHeads` over WebSocket: a block is followed at once, and what else comes changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from time import monotonic

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from indexer import check, config
from indexer.chains import evm_hints
from indexer.chains.families import open_chain
from indexer.chains.rpc import Endpoint
from indexer.devnet.evm_chain import CHAIN_ID, SimulatedChain
from indexer.devnet.evm_node import EvmNode
from tests.harness import hints as harness
from tests.harness.anvil import anvil
from tests.harness.hints import FAR, LOOK, SOON, Listening, following, reach
from tests.harness.server import serve

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]

SUBSCRIBED = '{"jsonrpc":"2.0","id":1,"result":"0x1"}'
NEW_HEAD = '{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1"}}'


def settings(url: str, ws: str, chain_id: int = CHAIN_ID, poll: float = FAR) -> config.Network:
    table = {
        "id": "net",
        "family": "evm",
        "chain_id": chain_id,
        "coin": "eth",
        "endpoints": [{"url": url, "ws": ws, "headers": {"X-Key": "hidden-key"}}],
        "confirmations": 2,
        "finality": "depth",
        "poll_interval": poll,
    }
    return config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))


def listening(
    url: str, headers: dict[str, str] | None = None
) -> AbstractAsyncContextManager[Listening]:
    endpoint = Endpoint(url, headers or {}, evm_hints.SCHEMES)
    return harness.listening(partial(evm_hints.listen, [endpoint]))


class Talker:
    """A WebSocket that says what a test likes, once it was asked to subscribe."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.requests: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        socket = web.WebSocketResponse(max_msg_size=2**26, autoping=False)
        await socket.prepare(request)
        asked = await socket.receive_json()
        assert (asked["method"], asked["params"]) == ("eth_subscribe", ["newHeads"])
        await self.talk(socket)
        return socket


@asynccontextmanager
async def talker(talk: Talk) -> AsyncIterator[Talker]:
    made = Talker(talk)
    app = web.Application()
    app.router.add_get("/", made.handle)
    async with serve(app) as url:
        made.url = url.replace("http", "ws")
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evm_hints, "BACKOFF_SECONDS", (LOOK,))


# ------------------------------------------------------------------------------ nodes


async def test_a_block_of_which_a_node_tells_is_followed_long_before_the_poll(
    pool: asyncpg.Pool,
) -> None:
    chain = SimulatedChain(1)
    async with EvmNode(chain) as node:
        rules = settings(node.url, node.ws)
        async with following(pool, rules, open_chain("net", rules)):
            for _ in range(3):
                await reach(pool, chain.mine().hash)


@pytest.mark.node
async def test_anvil_s_word_is_understood(pool: asyncpg.Pool) -> None:
    async with anvil() as node:
        rules = settings(node.url, node.url.replace("http", "ws"), 31337)
        async with following(pool, rules, open_chain("net", rules)):
            for _ in range(3):
                await node.mine()
                await reach(pool, bytes.fromhex((await node.head())["hash"][2:]))


async def test_a_node_that_starts_again_is_heard_again() -> None:
    chain = SimulatedChain(1)
    async with EvmNode(chain) as node:
        port = int(node.url.rpartition(":")[2])
        async with listening(node.ws) as heard:
            await heard.until_hint()
            await node.__aexit__(None, None, None)
            await heard.quiet(LOOK)
            async with EvmNode(chain, port):
                await heard.until_hint()  # what was new before nobody heard
                await heard.quiet(evm_hints.READ_SECONDS)
                chain.mine()
                await heard.until_hint()


async def test_a_url_where_nobody_listens_costs_nothing_but_hints(pool: asyncpg.Pool) -> None:
    chain = SimulatedChain(1)
    async with EvmNode(chain) as node:
        rules = settings(node.url, "ws://127.0.0.1:1", poll=LOOK)
        with capture_logs() as logs:
            async with following(pool, rules, open_chain("net", rules)):
                await reach(pool, chain.mine().hash)
        told = [each["reason"] for each in logs if each["event"] == "no_hints"]
        assert told == ["ws://127.0.0.1:1 can't be reached: Connection refused"]


@pytest.mark.parametrize("refused", [False, True])
async def test_check_says_whether_it_can_be_heard(
    monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    if refused:
        monkeypatch.setattr(check, "HINT_SECONDS", 0.5)
    async with EvmNode(SimulatedChain(1)) as node:
        ws = "ws://127.0.0.1:1" if refused else node.ws
        [row] = await check.endpoints(config.Settings(networks={"net": settings(node.url, ws)}))
        assert (row.ok, row.problem) == (True, None)  # polls stand behind it
        assert row.hints is not refused


# ------------------------------------------------------------------------------ whoever answers


async def test_headers_and_credentials_go_along_and_are_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        error = '{"code":-32601,"message":"no hidden-key for you"}'
        await socket.send_str(f'{{"jsonrpc":"2.0","id":1,"error":{error}}}')

    async with talker(talk) as other:
        url = other.url.replace("ws://", "ws://user:hidden-password@")
        caplog.set_level(logging.DEBUG)
        with capture_logs() as logs:
            async with listening(url, {"X-Key": "hidden-key"}), asyncio.timeout(SOON):
                while len(other.requests) < 2:
                    await asyncio.sleep(LOOK)
        headers = other.requests[0].headers
        assert headers["X-Key"] == "hidden-key"
        assert headers["Authorization"] == aiohttp.encode_basic_auth("user", "hidden-password")
        told = [each["reason"] for each in logs]
        assert told == [f"{other.url} doesn't tell of blocks: no *** for you"]
        assert "hidden" not in caplog.text + str(logs)


async def test_it_does_not_go_where_it_is_sent() -> None:
    async def move(_: web.Request) -> web.StreamResponse:
        moved.set()
        raise web.HTTPFound(other.url.replace("ws", "http"))

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(SUBSCRIBED)

    moved = asyncio.Event()
    app = web.Application()
    app.router.add_get("/", move)
    async with talker(talk) as other, serve(app) as url, asyncio.timeout(SOON):
        async with listening(url.replace("http", "ws")) as heard:
            for _ in range(2):
                await moved.wait()
                moved.clear()
        assert (heard.hints, other.requests) == (0, [])


GARBAGE: dict[str, tuple[str | bytes, ...]] = {
    "no json": ("<html>",),
    "no object": ("[]",),
    "binary": (b"\0" * 100,),
    "a huge message": ("x" * (evm_hints.LARGEST_BYTES + 1),),
    "nested": ("[" * 100_000,),
    "no name": ('{"id":1,"result":{}}',),
    "another shape": ('{"id":1,"error":"no"}',),
}


@pytest.mark.parametrize("messages", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_no_hint_and_the_next_connection_is_heard(
    messages: tuple[str | bytes, ...],
) -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        if len(other.requests) > 1:
            await socket.send_str(SUBSCRIBED)
        for message in messages:
            if isinstance(message, str):
                await socket.send_str(message)
            else:
                await socket.send_bytes(message)
        await socket.receive()

    async with talker(talk) as other, listening(other.url) as heard:
        await heard.until_hint()
        assert len(other.requests) == 2


async def test_another_s_subscription_is_no_hint() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(NEW_HEAD)  # before there is one
        await socket.send_str(SUBSCRIBED)
        await socket.send_str(NEW_HEAD.replace("0x1", "0x2"))
        await socket.send_str('{"jsonrpc":"2.0","id":7,"result":"0x1"}')
        said.set()
        await socket.receive()

    said = asyncio.Event()
    async with talker(talk) as other, listening(other.url) as heard:
        await said.wait()
        await asyncio.sleep(6 * evm_hints.READ_SECONDS)
        assert heard.hints == 1


async def test_a_flood_is_read_no_faster_than_its_pace() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(SUBSCRIBED)
        with suppress(ConnectionError):
            while True:
                await socket.send_str(NEW_HEAD)

    async with talker(talk) as other, listening(other.url) as heard:
        await heard.until_hint()
        begun = monotonic()
        await asyncio.sleep(10 * evm_hints.READ_SECONDS)
        most = (monotonic() - begun) / evm_hints.READ_SECONDS + 2
        assert 1 < heard.hints <= most


async def test_a_flood_of_pings_ends_the_connection() -> None:
    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(SUBSCRIBED)
        with suppress(ConnectionError):
            for _ in range(2 * evm_hints.PINGS):
                await socket.ping()
        while (await socket.receive()).type is aiohttp.WSMsgType.PONG:
            answered.append(len(other.requests))

    answered: list[int] = []  # which connection it was
    async with talker(talk) as other, listening(other.url) as heard:
        for _ in range(3):
            await heard.until_hint()
    assert answered.count(1) == evm_hints.PINGS


async def test_silence_starts_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evm_hints, "SILENCE_SECONDS", 0.2)

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(SUBSCRIBED)
        await socket.receive()

    async with talker(talk) as other, listening(other.url) as heard:
        for _ in range(3):
            await heard.until_hint()


async def test_a_mute_server_does_not_hold_up_the_end() -> None:
    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()

    asked, over = asyncio.Event(), asyncio.Event()
    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with asyncio.timeout(SOON), listening(f"ws://{host}:{port}"):
            await asked.wait()
        over.set()
        await asyncio.sleep(LOOK)
