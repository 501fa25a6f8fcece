"""A node that lies or lags: a JSON-RPC proxy before an honest one, with a switch for each fault.

What a Bitcoin-like node serves by REST is asked of it by JSON-RPC: a fault strikes either way.

Faults are switched with `with lying.fault(LogDropped()) as fault:`. A test must see `fault.hits`
afterwards: a fault that never struck proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias, TypeVar

import aiohttp
import orjson
from aiohttp import web

from tests.harness.faults import Fault
from tests.harness.rpc import Rpc
from tests.harness.server import serve

Replies: TypeAlias = list[dict[str, Any]]

UPSTREAM: Final = 30.0  # seconds an honest answer may take

F = TypeVar("F", bound=Fault)


class Proxy:
    """Its `url` is the node as the engine sees it."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self._upstream = upstream
        self._faults: list[Fault] = []
        self._open = asyncio.Event()
        self._open.set()
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.node: Rpc | None = None
        self.session: aiohttp.ClientSession | None = None

    @contextmanager
    def fault(self, fault: F) -> Iterator[F]:
        """The fault is on inside; faults add up."""
        self._faults.append(fault)
        try:
            yield fault
        finally:
            self._faults.remove(fault)

    def redirect(self, upstream: str) -> None:
        """Another node answers from now on, at the same URL."""
        self._upstream = upstream

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Questions wait inside: what is done to the node there looks like one instant."""
        self._open.clear()
        try:
            await self._quiet.wait()
            yield
        finally:
            self._open.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await self._open.wait()
        self._busy += 1
        self._quiet.clear()
        try:
            if request.method == "GET":
                return await self._answer_rest(request.match_info["block"])
            return await self._answer(await request.read())
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def _answer(self, body: bytes) -> web.StreamResponse:
        question = orjson.loads(body)
        batch = isinstance(question, list)
        replies = await self._replies(question if batch else [question])
        if isinstance(replies, web.StreamResponse):
            return replies
        return web.json_response(body=orjson.dumps(replies if batch else replies[0]))

    async def _answer_rest(self, block: str) -> web.StreamResponse:
        replies = await self._replies(
            [{"method": "getblock", "params": [block, 0], "id": 0, "rest": True}]
        )
        if isinstance(replies, web.StreamResponse):
            return replies
        if replies[0].get("error") is not None:
            return web.Response(status=404, text=f"{block} not found")
        return web.Response(body=bytes.fromhex(replies[0]["result"]))

    async def _replies(self, calls: list[dict[str, Any]]) -> Replies | web.StreamResponse:
        faults = list(self._faults)
        for fault in faults:
            early = await fault.instead(calls)
            if early is not None:
                return early
        asked = [await self._bend(faults, call) for call in calls]
        replies = await self._ask(asked)
        for call, reply in zip(calls, replies, strict=True):
            await self._spoil(faults, call, reply)
        for fault in faults:
            replies = fault.batch(replies)
        return replies

    async def _bend(self, faults: list[Fault], call: dict[str, Any]) -> dict[str, Any]:
        assert self.node is not None
        for fault in faults:
            call = await fault.question(call, self.node)
        return call

    async def _spoil(
        self, faults: list[Fault], call: dict[str, Any], reply: dict[str, Any]
    ) -> None:
        assert self.node is not None
        for fault in faults:
            if reply.get("error") is None:
                changed = await fault.reply(call, reply["result"], self.node)
                if isinstance(changed, fault.Error):
                    del reply["result"]
                    reply["error"] = {"code": changed.code, "message": changed.message}
                else:
                    reply["result"] = changed

    async def _ask(self, calls: list[dict[str, Any]]) -> Replies:
        """The honest node's replies, in the order of the calls."""
        assert self.session is not None
        body = orjson.dumps(calls)
        headers = {"Content-Type": "application/json"}
        async with self.session.post(self._upstream, data=body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        by_id = {reply["id"]: reply for reply in answer}
        return [by_id[call["id"]] for call in calls]


@asynccontextmanager
async def proxy(upstream: str) -> AsyncIterator[Proxy]:
    """A running proxy on a loopback port of its own."""
    made = Proxy(upstream)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/", made.handle)
    app.router.add_get("/rest/block/{block}.bin", made.handle)
    timeout = aiohttp.ClientTimeout(total=UPSTREAM)
    async with (
        Rpc(upstream) as made.node,
        aiohttp.ClientSession(timeout=timeout) as made.session,
        serve(app) as made.url,
    ):
        yield made
