"""A receiver of callbacks on loopback that believes nothing it can't verify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeAlias

import orjson
from aiohttp import web

from indexer.model import Refused

# (secret, headers, body): returns if the request verifies, else Refused says why not.
Verify: TypeAlias = Callable[[str, Mapping[str, str], bytes], None]


@dataclass(slots=True)
class Inbox:
    """What one account's endpoint has received."""

    secret: str | None = None  # known once the endpoint is registered
    bodies: dict[str, bytes] = field(default_factory=dict)  # by `webhook-id`
    events: list[dict[str, Any]] = field(default_factory=list)  # each once, as they came
    problems: list[str] = field(default_factory=list)


class Receiver:
    """Serves an inbox per account at `url(account)` while it is entered.

    `arrived` is called with the account and the event, once per event.
    """

    def __init__(self, verify: Verify, arrived: Callable[[str, dict[str, Any]], None]) -> None:
        self.inboxes: dict[str, Inbox] = {}
        self._verify = verify
        self._arrived = arrived
        self._runner: web.AppRunner | None = None
        self._origin = ""

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.router.add_post("/{account}", self._serve)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self._origin = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def url(self, account: str) -> str:
        self.inboxes.setdefault(account, Inbox())
        return f"{self._origin}/{account}"

    async def _serve(self, request: web.Request) -> web.Response:
        account = request.match_info["account"]
        inbox = self.inboxes.get(account)
        if inbox is None or inbox.secret is None:
            return web.Response(status=404)
        body = await request.read()
        try:
            self._verify(inbox.secret, request.headers, body)
        except Refused as problem:
            inbox.problems.append(f"a callback to {account} does not verify: {problem}")
            return web.Response(status=401)
        self._accept(account, inbox, request.headers["webhook-id"], body)
        return web.Response(status=204)

    def _accept(self, account: str, inbox: Inbox, webhook_id: str, body: bytes) -> None:
        known = inbox.bodies.setdefault(webhook_id, body)
        if known is not body:
            if known != body:
                inbox.problems.append(f"{webhook_id} came to {account} with two bodies")
            return
        event = orjson.loads(body)
        inbox.events.append(event)
        self._arrived(account, event)
