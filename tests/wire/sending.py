"""One POST by a Sender of its own."""

from __future__ import annotations

import ssl
from typing import Final

from yarl import URL

from callbacks.answer import Answer
from callbacks.resolver import LookUp, Resolver
from callbacks.sender import Sender
from indexer.config import Callbacks
from tests.harness.names import Tripwire

STRICT: Final = Callbacks()
RULES: Final = Callbacks(allow_private=True, allow_http=True)
BODY: Final = b'{"type":"deposit.detected"}'


async def send(
    url: URL,
    limit: float = 5.0,
    body: bytes = BODY,
    *,
    rules: Callbacks = RULES,
    names: LookUp | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """What came of it; `names` answers DNS, and no packet goes beyond loopback."""
    resolver = None if names is None else Resolver(rules, names)
    async with Sender(rules, limit, tls=tls, resolver=resolver, sockets=Tripwire(rules)) as sender:
        return await sender.post(url, {"webhook-id": "evt_1"}, body)


def came_of(answer: Answer) -> tuple[int | None, str | None]:
    return answer.status, answer.error
