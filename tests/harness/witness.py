"""A receiver of many endpoints that fails in several ways, remembers all, and judges at the end."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.harness.server import serve

# Of one event: a fifth answer against it, and the dispatcher may skip it for what comes after it.
MOST_FAILURES: Final = 4
HANG: Final = 2.0  # seconds of no answer: more than the attempts of these tests may take


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that verified. `accepted`: it was answered with success."""

    account: str
    event: str
    deposit: str
    sequence: int
    body: bytes
    accepted: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What arrivals say of a run; a pair is an account and an event of its."""

    lost: set[tuple[str, str]]  # never accepted
    changed: int  # arrivals with other bytes than the event has
    inversions: int  # arrivals of what was not accepted yet, after a later event of its deposit
    late: int  # the same of what had been accepted: a receiver that keeps ids is not misled
    repeats: Counter[tuple[str, str]]  # acceptances beyond the first

    @property
    def most_repeats(self) -> int:
        return max(self.repeats.values(), default=0)


class Witness:
    """`fail` is the chance of a failure: 500, a reset, or no answer in time."""

    def __init__(self, fail: float, seed: int) -> None:
        self.fail = fail
        self._random = random.Random(seed)
        self._failures: Counter[tuple[str, str]] = Counter()
        self._keys: dict[str, Webhook] = {}
        self.base = ""
        self.answering = asyncio.Event()  # without it requests arrive and get no answer
        self.answering.set()
        self.arrivals: list[Arrival] = []
        self.accepted: set[tuple[str, str]] = set()
        self.refused: list[str] = []  # why a request did not verify

    def url(self, account: str) -> str:
        return f"{self.base}/{account}"

    def know(self, secrets: Mapping[str, str]) -> None:
        """Signing secrets by account."""
        self._keys.update({account: Webhook(secret) for account, secret in secrets.items()})

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        account = request.match_info["account"]
        try:
            self._keys[account].verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            self.refused.append(str(error))
            return web.Response(status=401)
        data = json.loads(body)["data"]
        event = request.headers["webhook-id"]
        fails = self._fails((account, event))
        self.arrivals.append(Arrival(account, event, data["id"], data["sequence"], body, not fails))
        await self.answering.wait()
        if not fails:
            self.accepted.add((account, event))
            return web.Response(status=204)
        return await self._misbehave(request)

    def _fails(self, pair: tuple[str, str]) -> bool:
        if self._random.random() >= self.fail or self._failures[pair] >= MOST_FAILURES:
            return False
        self._failures[pair] += 1
        return True

    async def _misbehave(self, request: web.Request) -> web.Response:
        match self._random.randrange(20):
            case 0:
                await asyncio.sleep(HANG)
            case 1 | 2 | 3:
                assert request.transport is not None
                request.transport.abort()
        return web.Response(status=500)

    def judge(self, expected: Mapping[tuple[str, str], bytes]) -> Verdict:
        """`expected`: the bytes of each event that each account must have got."""
        accepted: set[tuple[str, str]] = set()
        highest: dict[tuple[str, str], int] = {}
        repeats: Counter[tuple[str, str]] = Counter()
        changed = inversions = late = 0
        for each in self.arrivals:
            pair, stream = (each.account, each.event), (each.account, each.deposit)
            changed += expected.get(pair) != each.body
            if each.sequence < highest.get(stream, 0):
                late += pair in accepted
                inversions += pair not in accepted
            highest[stream] = max(highest.get(stream, 0), each.sequence)
            if each.accepted:
                repeats[pair] += pair in accepted
                accepted.add(pair)
        return Verdict(expected.keys() - accepted, changed, inversions, late, repeats)


@asynccontextmanager
async def witness(fail: float = 0.0, seed: int = 0) -> AsyncIterator[Witness]:
    made = Witness(fail, seed)
    app = web.Application()
    app.router.add_post("/{account}", made.handle)
    async with serve(app) as made.base:
        yield made
