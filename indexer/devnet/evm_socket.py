"""The simulated EVM node's WebSocket: the same calls, and `eth_subscribe` to `newHeads`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import orjson
from aiohttp import WSMsgType, web

from indexer.devnet.evm_block import Block
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_json import Json, text

MESSAGE_BYTES: Final = 2**20  # of one call
BODY: Final = ("transactions", "withdrawals")  # of a block: no part of its header


def handler(
    chain: SimulatedChain, answer: Callable[[object], Json]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serves connections; `answer` replies to whatever is no subscription."""

    async def serve(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES)
        await socket.prepare(request)
        connection = _Connection(answer)
        chain.listeners.add(connection.tell)
        sending = asyncio.create_task(connection.send(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    connection.hear(message.data)
        finally:
            chain.listeners.discard(connection.tell)
            sending.cancel()
        return socket

    return serve


class _Connection:
    def __init__(self, answer: Callable[[object], Json]) -> None:
        self._answer = answer
        self._subscriptions: list[str] = []
        self._out: asyncio.Queue[Json] = asyncio.Queue()

    async def send(self, socket: web.WebSocketResponse) -> None:
        with suppress(ConnectionError):  # whoever listened has gone
            while True:
                await socket.send_str(orjson.dumps(await self._out.get()).decode())

    def hear(self, data: str) -> None:
        try:
            call = orjson.loads(data)
        except orjson.JSONDecodeError:
            call = None
        known = isinstance(call, dict) and call.get("method") == "eth_subscribe"
        if known and call.get("params") == ["newHeads"]:
            self._subscriptions.append(text(len(self._subscriptions) + 1))
            reply = {"jsonrpc": "2.0", "id": call.get("id"), "result": self._subscriptions[-1]}
        else:
            reply = self._answer(call)
        self._out.put_nowait(reply)

    def tell(self, block: Block) -> None:
        header = {name: value for name, value in block.json.items() if name not in BODY}
        for name in self._subscriptions:
            params = {"subscription": name, "result": header}
            notice = {"jsonrpc": "2.0", "method": "eth_subscription", "params": params}
            self._out.put_nowait(notice)
