"""A receiver whose answers a test changes as it goes, and who sees how many come at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.harness.server import serve


@dataclass(frozen=True, slots=True)
class Heard:
    """A request; `at` is seconds of the event loop's time."""

    at: float
    event: str
    attempt: int
    at_once: int  # requests that were open then, itself among them
    timestamp: int
    status: int  # what it was answered with


@dataclass
class Moody:
    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # until it answers
    heard: list[Heard] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open = 0

    @property
    def events(self) -> list[str]:
        return [each.event for each in self.heard]

    async def handle(self, request: web.Request) -> web.Response:
        self._open += 1
        await request.read()
        given = request.headers
        status, headers = self.status, self.headers
        self.heard.append(
            Heard(
                asyncio.get_running_loop().time(),
                given["webhook-id"],
                int(given["webhook-attempt"]),
                self._open,
                int(given["webhook-timestamp"]),
                status,
            )
        )
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._open -= 1
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def moody() -> AsyncIterator[Moody]:
    made = Moody()
    app = web.Application()
    app.router.add_post("/callback", made.handle)
    async with serve(app) as base:
        made.url = f"{base}/callback"
        yield made
