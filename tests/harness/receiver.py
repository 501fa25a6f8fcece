"""A receiver of callbacks: verifies with the public library, remembers all, and may misbehave."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.harness.server import serve


@dataclass(frozen=True)
class Received:
    """One request that verified, whatever was answered."""

    headers: dict[str, str]  # names in lower case
    body: bytes
    accepted: bool

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def why_not(self, secret: str) -> str | None:
        """Why a receiver that knows this secret alone refuses it; None if it does not."""
        return why_not(secret, self.headers, self.body)

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def deposit(self) -> str:
        found: str = self.event["data"]["id"]
        return found

    @property
    def sequence(self) -> int:
        found: int = self.event["data"]["sequence"]
        return found

    @property
    def type(self) -> str:
        found: str = self.event["type"]
        return found


@dataclass
class Receiver:
    """`fail` is the chance of a 500, `delay` the longest wait in seconds; both by a seeded rule."""

    fail: float = 0.0
    delay: float = 0.0
    seed: int = 0
    url: str = ""
    secrets: list[str] = field(default_factory=list)
    requests: list[Received] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why a request did not verify

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    @property
    def accepted(self) -> list[Received]:
        return [each for each in self.requests if each.accepted]

    def of(self, deposit: str) -> list[str]:
        """The types of a deposit's events in the order in which they were first accepted."""
        seen = {each.id: each.type for each in self.accepted if each.deposit == deposit}
        return list(seen.values())

    def check(self) -> None:
        """Everything verified, an id has one body, and a deposit's events came in order."""
        assert not self.refused, self.refused[:3]
        bodies: dict[str, bytes] = {}
        for each in self.requests:
            first = bodies.setdefault(each.id, each.body)
            assert first == each.body, f"{each.id} changed its bytes"
        for deposit, sequences in _sequences(self.requests).items():
            assert sequences == sorted(sequences), f"{deposit} came in the order {sequences}"

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not self._verifies(body, headers):
            return web.Response(status=401)
        accepted = self._random.random() >= self.fail
        self.requests.append(Received(headers, body, accepted))
        await asyncio.sleep(self._random.random() * self.delay)
        return web.Response(status=204 if accepted else 500)

    def _verifies(self, body: bytes, headers: dict[str, str]) -> bool:
        reasons = []
        for secret in self.secrets:
            reason = why_not(secret, headers, body)
            if reason is None:
                return True
            reasons.append(reason)
        self.refused.append("; ".join(reasons) or "no secret is known yet")
        return False


def why_not(secret: str, headers: dict[str, str], body: bytes) -> str | None:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError as error:
        return str(error)
    return None


@asynccontextmanager
async def receiver(fail: float = 0.0, delay: float = 0.0, seed: int = 0) -> AsyncIterator[Receiver]:
    """A running receiver on a loopback port of its own."""
    made = Receiver(fail, delay, seed)
    app = web.Application()
    app.router.add_post("/callback", made.handle)
    async with serve(app) as base:
        made.url = f"{base}/callback"
        yield made


def _sequences(requests: Iterable[Received]) -> dict[str, list[int]]:
    """For each deposit the sequences of its requests, in the order of arrival."""
    found: dict[str, list[int]] = {}
    for each in requests:
        found.setdefault(each.deposit, []).append(each.sequence)
    return found
