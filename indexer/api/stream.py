"""`GET /v1/stream`: an account's feed over a WebSocket, live, from a position on.

A client is sent a page of the feed, and the next is read when its socket has taken that one: what a
slow client has not taken waits in the database. `Streams` watches for all clients of a process
which accounts have news and which keys still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

import asyncpg
import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import Field

from indexer import bell
from indexer.api.auth import valid_keys
from indexer.api.errors import RETRY_AFTER_SECONDS, Problem, dump
from indexer.api.events import event_view, read_feed
from indexer.api.inputs import Query
from indexer.api.limits import too_many
from indexer.api.operation import SWITCHED, Call, Routes
from indexer.api.pages import MAX_BIGINT
from indexer.api.shapes import Event
from indexer.database import unavailable_database
from indexer.model import Unavailable

CLIENTS: Final = 500  # of one process
CLIENTS_PER_ACCOUNT: Final = 20
PAGE: Final = 50  # events that a client is sent before more are read
READS: Final = 2  # pages being read at once: the pool's connections are everybody's
POLL_SECONDS: Final = 1.0  # between two looks when the bell is silent
GATHER_SECONDS: Final = 0.02  # between two looks when it is not
KEYS_SECONDS: Final = 2.0  # between two looks at keys
PING_SECONDS: Final = 20.0  # of silence; half of it later a client that is silent still is gone
SLOW_SECONDS: Final = 10.0  # in which a client must take an event
CLOSE_SECONDS: Final = 3.0  # in which it must take its leave
MAX_MESSAGE: Final = 4096  # bytes; nothing is expected
MAX_REASON: Final = 123  # bytes that a close frame has room for
OWN_CODES: Final = 4000  # close codes of ours are this and the HTTP status of the same refusal

log = structlog.get_logger(__name__)
routes = Routes("Events")


class StreamQuery(Query):
    after: int | None = Field(default=None, ge=0, le=MAX_BIGINT)


class Ending(NamedTuple):
    """Why a stream ends: the code and text of its close frame."""

    code: int
    reason: str


LEFT: Final = Ending(WSCloseCode.OK, "")
CHATTY: Final = Ending(WSCloseCode.UNSUPPORTED_DATA, "this stream takes no messages")
STOPPED: Final = Ending(WSCloseCode.GOING_AWAY, "this server stops; go on with another")
FAULT: Final = Ending(WSCloseCode.INTERNAL_ERROR, "a fault of ours, which the log has")
SLOW: Final = Ending(
    WSCloseCode.TRY_AGAIN_LATER, f"too slow: an event was not taken within {SLOW_SECONDS:.0f} s"
)
REVOKED: Final = Ending(OWN_CODES + 401, "the key is not valid any more")


class Client:
    """One stream: whose, by which key, and the position up to which it was sent."""

    def __init__(self, account: str, key_id: str, after: int | None) -> None:
        self.account = account
        self.key_id = key_id
        self.after = after
        self.news = asyncio.Event()
        self.told: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    def tell(self, ending: Ending) -> None:
        """End it, whatever it is doing."""
        if not self.told.done():
            self.told.set_result(ending)


class Streams:
    """The streams of one process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._clients: set[Client] = set()
        self._reads = asyncio.Semaphore(READS)
        self._watch: asyncio.Task[None] | None = None
        self._stopped = False
        self._keys_looked_at = 0.0  # by the event loop's clock

    @contextmanager
    def joined(self, client: Client) -> Iterator[None]:
        """The client is told of news and endings. Problem (429, 503) where there is no room."""
        if self._stopped:
            raise _no_room(STOPPED.reason)
        if len(self._clients) >= CLIENTS:
            raise _no_room("this server has as many streams as it can serve")
        if sum(other.account == client.account for other in self._clients) >= CLIENTS_PER_ACCOUNT:
            raise too_many(f"this account has {CLIENTS_PER_ACCOUNT} streams here", POLL_SECONDS)
        if self._watch is None:
            self._watch = asyncio.create_task(self._watching())
            self._watch.add_done_callback(self._on_watch_ended)
        self._clients.add(client)
        try:
            yield
        finally:
            self._clients.discard(client)

    async def read(self, client: Client) -> list[Any]:
        """The next page of its feed; Problem (409, 410) where its position has none."""
        async with self._reads:
            client.after, rows = await read_feed(self._pool, client.account, client.after, PAGE)
        return rows

    async def stop(self, _: web.Application) -> None:
        """End every stream, and let none begin."""
        self._stopped = True
        for client in self._clients:
            client.tell(STOPPED)

    async def cleanup(self, _: web.Application) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    # ------------------------------------------------------------------ what all clients share

    async def _watching(self) -> None:
        rung = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bell.listen(self._pool, lambda _: rung.set()))
            while True:
                await asyncio.sleep(GATHER_SECONDS)
                rung.clear()
                try:
                    with unavailable_database():
                        await self._look()
                except Unavailable as problem:
                    log.warning("streams wait", error=str(problem))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await rung.wait()

    def _on_watch_ended(self, watch: asyncio.Task[None]) -> None:
        """Without it nobody would hear of anything: let them come again."""
        self._watch = None
        if not watch.cancelled() and (error := watch.exception()) is not None:
            log.critical("streams fell", exc_info=error)
        for client in self._clients:
            client.tell(FAULT)

    async def _look(self) -> None:
        """Wake whoever has news, and end whoever's key is gone."""
        clients = list(self._clients)
        if not clients:
            return
        rows = await self._pool.fetch(
            "select id, position from account where id = any ($1)",
            list({c.account for c in clients}),
        )
        newest = {row["id"]: row["position"] for row in rows}
        for client in clients:
            if client.after != newest[client.account]:
                client.news.set()
        now = asyncio.get_running_loop().time()
        if now >= self._keys_looked_at + KEYS_SECONDS:
            self._keys_looked_at = now
            valid = await valid_keys(self._pool, {c.key_id for c in clients})
            for client in clients:
                if client.key_id not in valid:
                    client.tell(REVOKED)


def _no_room(why: str) -> Problem:
    return Problem(503, why, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


STREAMS: Final = web.AppKey("streams", Streams)


def add_streams(app: web.Application, pool: asyncpg.Pool) -> None:
    """What the route needs of its application."""
    app[STREAMS] = Streams(pool)
    app.on_shutdown.append(app[STREAMS].stop)
    app.on_cleanup.append(app[STREAMS].cleanup)


@routes.operation(
    "GET",
    "/v1/stream",
    needs="read",
    takes=StreamQuery,
    answer=Event,
    status=SWITCHED,
    refuses=(409, 410),
)
async def stream(call: Call, query: StreamQuery) -> Any:
    """Follow the account's events live over a WebSocket.

    Each message is one event, in the order of the feed: those behind `after` first, then new ones
    as they are committed. Without `after` it begins with the oldest that is kept. A stream that
    ends goes on, after any end, behind the last position that came.
    """
    socket = web.WebSocketResponse(
        timeout=CLOSE_SECONDS, heartbeat=PING_SECONDS, compress=False, max_msg_size=MAX_MESSAGE
    )
    if not socket.can_prepare(call.request):
        raise Problem(400, "this is a WebSocket: ask for it with `Upgrade: websocket`")
    client = Client(call.acting_account, call.principal.key_id, query.after)
    streams = call.request.app[STREAMS]
    with streams.joined(client):
        page = await streams.read(client)
        await socket.prepare(call.request)
        ending = FAULT
        try:
            ending = await _serve(streams, client, socket, page)
        finally:
            await _close(socket, call.request.transport, ending)
    return socket


async def _serve(
    streams: Streams, client: Client, socket: web.WebSocketResponse, page: list[Any]
) -> Ending:
    """Until the first of those who can end it does."""
    enders: list[asyncio.Future[Ending]] = [
        asyncio.create_task(_send(streams, client, socket, page)),
        asyncio.create_task(_receive(socket)),
        client.told,
    ]
    try:
        done, _ = await asyncio.wait(enders, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for ender in enders:
            ender.cancel()
        await asyncio.gather(*enders, return_exceptions=True)
    return done.pop().result()


async def _send(
    streams: Streams, client: Client, socket: web.WebSocketResponse, page: list[Any]
) -> Ending:
    while True:
        for row in page:
            try:
                async with asyncio.timeout(SLOW_SECONDS):
                    await socket.send_frame(dump(event_view(row)), WSMsgType.TEXT)
            except TimeoutError:
                return SLOW
            except ConnectionError:
                return LEFT
            client.after = row["position"]
        if len(page) < PAGE:
            await client.news.wait()
        client.news.clear()
        try:
            with unavailable_database():
                page = await streams.read(client)
        except Unavailable:  # `Streams` says so in the log, and wakes us when it is back
            page = []
        except Problem as problem:
            return Ending(OWN_CODES + problem.status, f"{problem.code}: {problem.message}")


async def _receive(socket: web.WebSocketResponse) -> Ending:
    """Pings and pongs are answered and minded below; anything else is an end."""
    message = await socket.receive()
    return CHATTY if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) else LEFT


async def _close(
    socket: web.WebSocketResponse, transport: asyncio.Transport | None, ending: Ending
) -> None:
    """Say why, and wait no longer for a client that does not listen."""
    reason = ending.reason.encode()[:MAX_REASON]
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS + GATHER_SECONDS):
            await socket.close(code=ending.code, message=reason, drain=False)
    if transport is not None:
        transport.abort()
