"""An HTTP server on loopback for as long as it is entered: what every simulated node is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Self

from aiohttp import web

END_SECONDS: Final = 1.0  # for connections that are still open when it ends


class Loopback(ABC):
    """`async with node:` serves it at `url`. A subclass says its routes."""

    def __init__(self, port: int, request_bytes: int) -> None:
        """`request_bytes`: the longest body of a request. Port 0: any that is free."""
        self.url = ""
        self._request_bytes = request_bytes
        self._port = port
        self._runner: web.AppRunner | None = None

    @abstractmethod
    def _add_routes(self, router: web.UrlDispatcher) -> None: ...

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=self._request_bytes)
        self._add_routes(app.router)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=END_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
