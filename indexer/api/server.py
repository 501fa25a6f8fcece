"""The HTTP server: which routes, behind which middlewares, on which socket."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aiohttp import web

from indexer.api import (
    accounts,
    addresses,
    audit,
    coins,
    deposits,
    docs,
    events,
    health,
    imports,
    metrics,
    networks,
    proofs,
    spot,
    stream,
    totals,
    transactions,
    wallets,
)
from indexer.api.auth import authenticate
from indexer.api.context import CONTEXT, Context
from indexer.api.errors import answer_errors
from indexer.api.inputs import MAX_BODY
from indexer.api.limits import LIMITS, Limits
from indexer.api.operation import Operation, Routes
from indexer.api.protocol import Protocol
from indexer.model import Refused

SHUTDOWN_SECONDS: Final = 15.0  # in which requests in hand may finish
BACKLOG: Final = 512  # connections that wait to be accepted


RESOURCES: Final = (
    accounts,
    networks,
    coins,
    addresses,
    imports,
    wallets,
    deposits,
    proofs,
    transactions,
    totals,
    spot,
    events,
    stream,
    audit,
    health,
    metrics,
)


def build(
    context: Context, added: Iterable[Routes | web.RouteTableDef] = (), limits: Limits | None = None
) -> web.Application:
    """The application: this package's resources and the `added` routes."""
    app = web.Application(middlewares=[answer_errors, authenticate], client_max_size=MAX_BODY)
    app[CONTEXT] = context
    app[LIMITS] = limits or Limits()
    stream.add_streams(app, context.pool)
    operations: list[Operation] = []
    for routes in (*(resource.routes for resource in RESOURCES), *added):
        if isinstance(routes, Routes):
            operations += routes
        else:
            app.add_routes(routes)
    app.add_routes(web.route(op.method, op.path, op.handle) for op in operations)
    app.add_routes(docs.routes(operations))
    return app


def tls_context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What `api.tls_cert` and `api.tls_key` make; Refused if they are no pair."""
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # No passphrase is ever asked for at the terminal: an encrypted key is refused.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise Refused(f"api.tls_cert and api.tls_key can't be used: {reason}") from None
    return context


class Server:
    """The API on its socket, from `start` to `stop`."""

    def __init__(
        self,
        context: Context,
        added: Iterable[Routes | web.RouteTableDef] = (),
        limits: Limits | None = None,
    ) -> None:
        self._settings = context.settings.api
        self._tls = tls_context(self._settings.tls_cert, self._settings.tls_key)
        app = build(context, added, limits)
        self._runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_SECONDS)
        self._socket: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the URL. Refused if the address can't be had."""
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None
        try:
            self._socket = await asyncio.get_running_loop().create_server(
                lambda: Protocol(manager),
                self._settings.host,
                self._settings.port,
                ssl=self._tls,
                backlog=BACKLOG,
            )
        except OSError as error:
            await self._runner.cleanup()
            number = error.errno or 0  # negative: the name does not resolve
            reason = os.strerror(number) if number > 0 else error.strerror
            raise Refused(f"can't listen on {self._settings.listen}: {reason}") from None
        port = self._socket.sockets[0].getsockname()[1]
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"{'https' if self._tls else 'http'}://{host}:{port}"

    async def stop(self) -> None:
        """Take no new connection, let requests in hand finish, close."""
        if self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()
