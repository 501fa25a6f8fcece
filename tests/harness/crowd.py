"""Receivers of thousands of endpoints, some of which fail, and when each callback came."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Final

from aiohttp import web

from tests.harness.server import serve

SLOW: Final = 1.0  # seconds until a slow receiver answers


class Conduct(Enum):
    WELL = "well"  # 204 at once
    SLOW = "slow"  # 204 in a second
    FAILING = "failing"  # 500 at once
    DEAD = "dead"  # no answer until it is `over`


class Crowd:
    """An endpoint's URL ends in its account, and each account's receiver has its own conduct."""

    def __init__(self) -> None:
        self.base = ""
        self.conduct: dict[str, Conduct] = {}  # WELL where nothing is said
        self.arrived: dict[str, float] = {}  # time.monotonic() of an event's first request
        self.requests: Counter[str] = Counter()  # by account
        self.over = asyncio.Event()
        self._awaited: set[str] = set()
        self._all_here = asyncio.Event()

    def urls(self, accounts: Iterable[str]) -> dict[str, str]:
        return {account: f"{self.base}/{account}" for account in accounts}

    def behave(self, accounts: Iterable[str], conduct: Conduct) -> None:
        self.conduct.update(dict.fromkeys(accounts, conduct))

    async def handle(self, request: web.Request) -> web.Response:
        account, event = request.path[1:], request.headers["webhook-id"]
        self.requests[account] += 1
        self.arrived.setdefault(event, time.monotonic())
        self._awaited.discard(event)
        if not self._awaited:
            self._all_here.set()
        match self.conduct.get(account, Conduct.WELL):
            case Conduct.FAILING:
                return web.Response(status=500)
            case Conduct.DEAD:
                await self.over.wait()
            case Conduct.SLOW:
                await asyncio.sleep(SLOW)
        return web.Response(status=204)

    async def wait_for(self, events: Iterable[str], seconds: float) -> None:
        """Until each event has come once."""
        self._awaited = {event for event in events if event not in self.arrived}
        self._all_here.clear()
        if self._awaited:
            async with asyncio.timeout(seconds):
                await self._all_here.wait()


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    made = Crowd()
    app = web.Application()
    app.router.add_post("/{account}", made.handle)
    async with serve(app) as made.base:
        yield made
