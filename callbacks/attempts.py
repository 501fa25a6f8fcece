"""One attempt: signed now, to where its endpoint may be, over the connections of this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, partial
from types import TracebackType
from typing import Final, NamedTuple, Self

import orjson

from callbacks.answer import Answer
from callbacks.guard import check_url
from callbacks.sender import Sender
from callbacks.signing import sign
from indexer.config import Callbacks
from indexer.model import Refused
from indexer.secret import Vault

ATTEMPT_SECONDS: Final = 15.0  # wall clock of one attempt
REMEMBERED: Final = 4096  # URLs in parsed form, and secrets in opened form


class Message(NamedTuple):
    """All that an attempt sends, and where."""

    endpoint: str
    event: str  # the webhook-id
    body: bytes
    number: int  # of the delivery's requests: 1, 2, 3 …
    url: str
    secrets: tuple[bytes, ...]  # encrypted, bound to the endpoint's id; newest first
    headers: bytes | None = None  # encrypted likewise: a JSON object


class Attempts:
    """Sends messages. Enter it once, in the event loop that uses it."""

    def __init__(
        self,
        vault: Vault,
        rules: Callbacks,
        seconds: float = ATTEMPT_SECONDS,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`seconds`: wall clock of an attempt. `now`: Unix seconds, for signatures."""
        self._now = now
        self._sender = Sender(rules, seconds)
        self._url = lru_cache(REMEMBERED)(partial(check_url, rules=rules))
        self._open = lru_cache(REMEMBERED)(vault.decrypt)

    async def __aenter__(self) -> Self:
        await self._sender.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._sender.__aexit__(kind, error, trace)

    async def send(self, message: Message) -> Answer:
        """Send once. Every end of an attempt is an Answer; Impossible if a secret does not open."""
        try:
            url = self._url(message.url)
        except Refused:
            return Answer(None, "blocked")  # the rules have changed since it was registered
        return await self._sender.post(url, self._headers(message), message.body)

    def _headers(self, message: Message) -> dict[str, str]:
        timestamp = int(self._now())
        secrets = [self._open(sealed, message.endpoint) for sealed in message.secrets]
        headers: dict[str, str] = {}
        if message.headers is not None:
            headers = orjson.loads(self._open(message.headers, message.endpoint))
        return headers | {
            "webhook-id": message.event,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secrets, message.event, timestamp, message.body),
            "webhook-attempt": str(message.number),
        }
