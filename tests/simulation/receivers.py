"""Receivers of callbacks: each with a mood, and a memory of all that came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from random import Random
from types import TracebackType
from typing import Any, Final, Self

import orjson
from yarl import URL

from callbacks.answer import Answer
from callbacks.verification import verify
from indexer.model import Refused

FAR_SECONDS: Final = 0.2  # that a request, or its answer, travels at most
NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Mood(Enum):
    """What a receiver does with a request."""

    WELL = "well"
    FORGETFUL = "takes it and breaks off"  # before it has answered
    BROKEN = "answers 500"
    DEAF = "lets nobody in"
    HANGING = "hangs"
    BUSY = "asks to come later"
    STRICT = "answers 400"
    GONE = "answers 410"


STATUSES: Final = {Mood.BROKEN: 500, Mood.BUSY: 429, Mood.STRICT: 400, Mood.GONE: 410}


class Disorder(Exception):
    """What a receiver must never see; the message says what."""


@dataclass(slots=True)
class Receiver:
    """One endpoint's other side."""

    secrets: list[bytes]
    endpoint: str = ""  # its id, once it has one
    since: datetime = NEVER  # when everybody could know of it
    mood: Mood = Mood.WELL
    requests: int = 0
    bodies: dict[str, bytes] = field(default_factory=dict)  # by webhook-id
    accepted: set[str] = field(default_factory=set)  # webhook-ids
    newest: dict[str, int] = field(default_factory=dict)  # sequence, by deposit

    def take(self, headers: Mapping[str, str], body: bytes, now: float) -> None:
        """Look at a request. Raises Disorder."""
        self.requests += 1
        name = headers["webhook-id"]
        try:
            verify(self.secrets, headers, body, now)
        except Refused as problem:
            raise Disorder(f"{name} does not verify: {problem}") from None
        if self.bodies.setdefault(name, body) != body:
            raise Disorder(f"{name} came with other bytes")
        data = orjson.loads(body)["data"]
        deposit, sequence = data["id"], data["sequence"]
        if sequence < self.newest.get(deposit, 0):
            raise Disorder(f"{deposit}: {sequence} came after {self.newest[deposit]}")
        self.newest[deposit] = sequence
        if self.mood is Mood.WELL:
            self.accepted.add(name)


class Post:
    """What the program's `Sender` is to its dispatcher: it carries requests to the receivers."""

    def __init__(
        self,
        receivers: Mapping[str, Receiver],
        choices: Random,
        true_time: Callable[[], float],
        sending: Callable[[], None],
        complain: Callable[[str], None],
        limit_seconds: float,
    ) -> None:
        """`true_time`: Unix seconds. `sending` raises CancelledError where the sender is dead.

        `complain` is told what a receiver must never see.
        """
        self._receivers = receivers
        self._choices = choices
        self._true_time = true_time
        self._sending = sending
        self._complain = complain
        self._limit = limit_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        """Once it is sent it arrives, whatever becomes of the process that waits for the answer."""
        self._sending()
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Mood] = loop.create_future()

        def arrive() -> None:
            mood = self._arrive(self._receivers[str(url)], headers, body)
            if not arrived.done():
                arrived.set_result(mood)

        loop.call_later(self._choices.random() * FAR_SECONDS, arrive, context=Context())
        mood = await arrived
        if mood is Mood.HANGING:
            await asyncio.sleep(self._limit)
            return Answer(None, "timeout", total_ms=1000 * self._limit)
        await asyncio.sleep(self._choices.random() * FAR_SECONDS)
        return _answer(mood)

    def _arrive(self, receiver: Receiver, headers: Mapping[str, str], body: bytes) -> Mood:
        if receiver.mood is not Mood.DEAF:
            try:
                receiver.take(headers, body, self._true_time())
            except Disorder as problem:
                self._complain(str(problem))
        return receiver.mood


def _answer(mood: Mood) -> Answer:
    if mood is Mood.DEAF:
        return Answer(None, "connect")
    if mood is Mood.FORGETFUL:
        return Answer(None, "reset")
    if mood in STATUSES:
        later = "7" if mood is Mood.BUSY else None
        return Answer(STATUSES[mood], "status", retry_after=later)
    return Answer(200, None)


def sender(**more: Any) -> Callable[..., Post]:
    """As `Sender(rules, limit_seconds)` is called."""
    return lambda rules, limit_seconds: Post(limit_seconds=limit_seconds, **more)
