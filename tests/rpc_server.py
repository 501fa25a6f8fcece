"""An HTTP server for tests whose every answer is scripted, and time that passes only when told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.harness.server import serve

Handler = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]


class FakeTime:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class RpcServer:
    """Answers JSON-RPC; `answer` may be replaced at any time to misbehave."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Any] = []  # JSON bodies, as they came
        self.headers: list[dict[str, str]] = []
        self.answer: Handler = echo

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        return await self.answer(request, body)


@asynccontextmanager
async def serving() -> AsyncIterator[RpcServer]:
    server = RpcServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    async with serve(app) as server.url:
        yield server


def reply(call: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call["id"], "result": result}


def fault(call: dict[str, Any], code: int, message: str = "no") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": code, "message": message}}


async def echo(request: web.Request, body: Any) -> web.StreamResponse:
    """Each call's parameters are its result."""
    if isinstance(body, list):
        return web.json_response([reply(call, call["params"]) for call in body])
    return web.json_response(reply(body, body["params"]))


def status(code: int, **headers: str) -> Handler:
    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        return web.Response(status=code, headers=headers, text="<html>busy</html>")

    return answer


def then(first: Handler, *others: Handler) -> Handler:
    """Handlers one after the other, the last for ever."""
    left = [first, *others]

    async def answer(request: web.Request, body: Any) -> web.StreamResponse:
        handler = left.pop(0) if len(left) > 1 else left[0]
        return await handler(request, body)

    return answer
