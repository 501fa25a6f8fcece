"""An EVM node's own word of a new block: `newHeads` over WebSocket, as a hint and nothing more.

Whoever answers at a URL can say anything, so that no header is read: the follower asks the node.

Source: execution-apis' and geth's `eth_subscribe`: the answer to the call names a subscription,
each notification repeats that name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Never

import aiohttp
import msgspec
import structlog

from indexer.chains.rpc import Endpoint, EndpointFailed, reason

SCHEMES: Final = ("ws", "wss")
OPEN_SECONDS: Final = 10.0  # to connect and to agree on the protocol
READ_SECONDS: Final = 0.05  # between two messages: a flood waits at its node
LARGEST_BYTES: Final = 256 * 1024  # of a message: a header is 2 KiB; a larger one ends it
PINGS: Final = 100  # between two messages: a flood of them would be kept in memory
SILENCE_SECONDS: Final = 120.0  # before another connection is tried
CLOSE_SECONDS: Final = 0.5  # for the node's goodbye
BACKOFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # after failures in a row; then the last
LASTED_SECONDS: Final = 30.0  # a connection that held so long begins them anew

_CALL: Final = 1  # our only call's id
SUBSCRIBE: Final = msgspec.json.encode(
    {"jsonrpc": "2.0", "id": _CALL, "method": "eth_subscribe", "params": ["newHeads"]}
).decode()

log = structlog.get_logger()


class _Notice(msgspec.Struct):
    subscription: str | int


class _Fault(msgspec.Struct):
    message: str = ""


class _Said(msgspec.Struct):
    id: Any = None
    result: Any = None
    error: _Fault | None = None
    method: str | None = None
    params: _Notice | None = None


_said: Final = msgspec.json.Decoder(_Said)


class Redirected(aiohttp.ClientError):
    """The endpoint sends us elsewhere: its headers are not for there."""


async def listen(endpoints: Sequence[Endpoint], hint: Callable[[], None]) -> None:
    """Call `hint` at each new block that any of these tells of, until cancelled.

    And when one begins to tell: what was new before nobody heard.
    """
    async with _session() as session, asyncio.TaskGroup() as tasks:
        for endpoint in endpoints:
            tasks.create_task(_listen(session, endpoint, hint))


async def _listen(
    session: aiohttp.ClientSession, endpoint: Endpoint, hint: Callable[[], None]
) -> Never:
    failures, told = 0, ""
    while True:
        begun = monotonic()
        try:
            await _hear(session, endpoint, hint)
        except EndpointFailed as problem:
            if str(problem) != told:
                log.warning("no_hints", endpoint=endpoint.name, reason=str(problem))
            told = str(problem)
        if monotonic() - begun >= LASTED_SECONDS:
            failures, told = 0, ""
        await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
        failures += 1


async def _hear(
    session: aiohttp.ClientSession, endpoint: Endpoint, hint: Callable[[], None]
) -> Never:
    """One connection, until EndpointFailed says why there is nothing more to hear."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            socket = await session.ws_connect(
                endpoint.at(""),
                headers=endpoint.headers,
                autoping=False,  # it would answer without end
                max_msg_size=LARGEST_BYTES,
                timeout=aiohttp.ClientWSTimeout(SILENCE_SECONDS, CLOSE_SECONDS),
            )
        try:
            await socket.send_str(SUBSCRIBE)
            await _hear_all(socket, endpoint, hint)
        finally:
            # Its own limit is for each message that still comes: a flood has no end.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await socket.close()
    except TimeoutError:
        raise EndpointFailed(f"{endpoint.name} says nothing") from None
    except aiohttp.ClientError as error:
        raise EndpointFailed(f"{endpoint.name} {reason(error)}") from None


async def _hear_all(
    socket: aiohttp.ClientWebSocketResponse, endpoint: Endpoint, hint: Callable[[], None]
) -> Never:
    name: str | int | None = None  # of our subscription
    pings = 0  # since it said anything
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.PING:
            pings += 1
            if pings > PINGS:
                raise EndpointFailed(f"{endpoint.name} pings without end")
            await socket.pong(message.data)
            continue
        pings = 0
        said = _read(endpoint, message)
        if said.id == _CALL and isinstance(said.result, str | int):
            name = said.result
            hint()
        elif said.id == _CALL:
            why = endpoint.clean(said.error.message) if said.error else "it names no subscription"
            raise EndpointFailed(f"{endpoint.name} doesn't tell of blocks: {why}")
        elif said.params is not None and said.params.subscription == name:
            hint()
        await asyncio.sleep(READ_SECONDS)


def _read(endpoint: Endpoint, message: aiohttp.WSMessage) -> _Said:
    """What is no message of the protocol ends the connection."""
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise EndpointFailed(f"{endpoint.name} ended its WebSocket")
    try:
        return _said.decode(message.data)
    except (msgspec.DecodeError, RecursionError):
        raise EndpointFailed(f"{endpoint.name} answers no valid JSON-RPC over WebSocket") from None


def _session() -> aiohttp.ClientSession:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_refuse_redirect)
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[tracing],
    )


async def _refuse_redirect(*_: object) -> Never:
    raise Redirected
