"""A receiver of callbacks on loopback that believes nothing it can't verify.

For the demo, which holds every callback to account, and for `depositd listen`.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from aiohttp import web

from callbacks.verification import verify
from indexer.model import Refused

HOST: Final = "127.0.0.1"
MAX_PORT: Final = 65535
MAX_BODY: Final = 1 << 20  # bytes; an event has 64 KiB at most
REMEMBERED: Final = 10_000  # webhook-ids, and deposits; those longest unseen are forgotten
CLOSE_SECONDS: Final = 0.5  # that requests in hand get at the end

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, judged. What follows `problem` is said of those without one."""

    id: str | None  # the `webhook-id` header
    attempt: str | None  # the `webhook-attempt` header, which nobody signs
    problem: str | None = None  # why it does not verify, or is no event
    event: Mapping[str, Any] | None = None
    secret: int = 0  # which one signed it, from 0
    repeated: bool = False  # its id came before
    changed: bool = False  # its id came before with other bytes
    newest: int | None = None  # the highest sequence of its deposit, where this one is below it


class Inbox:
    """What came to one endpoint. `secrets` may be added to at any time."""

    def __init__(self, secrets: Sequence[bytes] = ()) -> None:
        self.secrets = list(secrets)
        self._digests: OrderedDict[str, bytes] = OrderedDict()  # of first bodies, by webhook-id
        self._sequences: OrderedDict[str, int] = OrderedDict()  # the highest, by deposit

    def judge(self, headers: Mapping[str, str], body: bytes, now: float) -> Arrival:
        """`now`: Unix seconds."""
        name, attempt = headers.get("webhook-id", ""), headers.get("webhook-attempt")
        try:
            secret = verify(self.secrets, headers, body, now)
            event = _event(body)
        except Refused as refused:
            return Arrival(name or None, attempt, str(refused))
        digest = hashlib.sha256(body).digest()
        first = self._digests.get(name)
        _remember(self._digests, name, first or digest)
        return Arrival(
            name,
            attempt,
            event=event,
            secret=secret,
            repeated=first is not None,
            changed=first not in (None, digest),
            newest=self._beyond(event),
        )

    def _beyond(self, event: Mapping[str, Any]) -> int | None:
        match event:
            case {"data": {"id": str(deposit), "sequence": int(sequence)}}:
                newest = max(sequence, self._sequences.get(deposit, sequence))
                _remember(self._sequences, deposit, newest)
                return newest if newest > sequence else None
            case _:  # news of an endpoint has no sequence
                return None


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"it verifies, but its body is no JSON: {error}") from None
    if not isinstance(event, dict):
        raise Refused("it verifies, but its body is no JSON object")
    return event


def _remember(known: OrderedDict[str, T], name: str, value: T) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > REMEMBERED:
        known.popitem(last=False)


@asynccontextmanager
async def receiving(
    inbox: Inbox,
    answer: Callable[[Arrival], Awaitable[int | None]],
    now: Callable[[], float],
    port: int = 0,
) -> AsyncIterator[str]:
    """Take every POST on loopback, whatever its path; yields the URL. Port 0: any that is free.

    `answer` says the status to answer an arrival with; None: hang up without one. Raises Refused
    where the port can't be had.
    """
    if not 0 <= port <= MAX_PORT:
        raise Refused(f"a port is a number from 0 to {MAX_PORT}, not {port}")

    async def take(request: web.Request) -> web.Response:
        arrival = inbox.judge(request.headers, await request.read(), now())
        status = await answer(arrival)
        if status is None and request.transport is not None:
            request.transport.abort()
        return web.Response(status=status or 204)

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise Refused(
                f"can't listen on {HOST}:{port}: {os.strerror(error.errno or 0)}"
            ) from None
        yield f"http://{HOST}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
