"""`/v1/addresses/import`: addresses by the million, streamed; all of them show at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import asyncpg
from aiohttp import web
from typing_extensions import TypedDict

from indexer.api.concealed import IMPORT, conceal
from indexer.api.context import Context
from indexer.api.errors import Problem
from indexer.api.inputs import FilterText, Query
from indexer.api.limits import LIMITS
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page, PageQuery, Statement, page
from indexer.api.shapes import Time
from indexer.bulk import LINES, Spool, TooBad, register
from indexer.coverage import Registered
from indexer.model import Refused, Unavailable, format_time

MAX_BYTES: Final = 2 * 1024**3  # of a file
SAID_SECONDS: Final = 1.0  # between two notes of how far an import is
SLICE: Final = 8 * 1024  # bytes that are checked before other requests have their turn
WRITE: Final = 1024 * 1024  # bytes that go to the disk at once
IDLE_SECONDS: Final = 30.0  # without a byte, after which an import is given up
ABANDONED_SECONDS: Final = 120  # without a note, after which nobody works at it any more

routes = Routes("Addresses")


class ImportQuery(Query):
    network: FilterText
    callbacks: bool = True


class Imported(TypedDict):
    id: str
    created: int
    existing: int
    coveredFrom: int | None


class Import(TypedDict):
    """`rows` are read, `registered` are on their way to be watched, all at once at `done`."""

    id: str
    network: str
    state: Literal["receiving", "registering", "done", "failed"]
    rows: int
    registered: int
    error: str | None
    createdAt: Time
    updatedAt: Time


@routes.operation(
    "POST",
    "/v1/addresses/import",
    needs="write",
    takes=ImportQuery,
    streams=tuple(LINES),
    answer=Imported,
    status=201,
)
async def import_addresses(call: Call, query: ImportQuery) -> Imported:
    """Watch addresses from a file of CSV (address,reference,fromBlock,role) or JSON lines.

    One bad line refuses them all. The same file again changes nothing.
    """
    account, context = call.acting_account, call.context
    parse = LINES[call.request.content_type](context.codec(query.network).parse_address)
    with (
        call.request.config_dict[LIMITS].one_import(account),
        tempfile.TemporaryFile() as file,
    ):
        progress = await _Progress.begin(context.pool, account, query.network)
        spool = Spool(file, parse)
        try:
            await _receive(call, spool, progress)
            done = await _register(call, account, query, spool, progress)
        except (Problem, Refused, Unavailable, OSError, web.RequestPayloadError) as failure:
            await progress.say(call.context.pool, "failed", spool.rows, error=str(failure))
            raise
        # With the addresses themselves: it is done when they show.
        await progress.say(await call.begin(), "done", spool.rows, spool.rows)
    return {
        "id": conceal(context.vault, IMPORT, progress.id),
        "created": done.created,
        "existing": done.existing,
        "coveredFrom": done.covered_from if spool.rows else None,
    }


async def _receive(call: Call, spool: Spool, progress: _Progress) -> None:
    """Read and check all of the body. Problem for what is wrong with it."""
    size = 0
    try:
        async for data in _pieces(call.request):
            size += len(data)
            if size > MAX_BYTES:
                raise Problem(413, f"a file has {MAX_BYTES} bytes at most")
            for start in range(0, len(data), SLICE):
                spool.feed(data[start : start + SLICE])
                await asyncio.sleep(0)
            if spool.unwritten >= WRITE:
                await asyncio.to_thread(spool.write)
            await progress.maybe("receiving", spool.rows)
        spool.end()
        await asyncio.to_thread(spool.write)
    except TooBad as bad:
        lines = [{"line": line.number, "error": line.error} for line in bad.lines]
        raise Problem(400, str(bad), details=lines) from None


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes; whole where it was read before, to verify its signature."""
    if request.content.at_eof():
        yield await request.read()
    while not request.content.at_eof():
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                data = await request.content.readany()
        except TimeoutError:
            raise Problem(400, f"nothing came for {IDLE_SECONDS:.0f} s") from None
        yield data


async def _register(
    call: Call, account: str, query: ImportQuery, spool: Spool, progress: _Progress
) -> Registered:
    done = Registered(0, 0, 0)
    connection = await call.begin()
    parts = register(connection, query.network, account, spool, silent=not query.callbacks)
    async for done in parts:
        await progress.maybe("registering", spool.rows, done.created + done.existing)
    return done


@routes.operation(
    "GET", "/v1/addresses/imports", needs="read", takes=PageQuery, answer=Page[Import]
)
async def list_imports(call: Call, query: PageQuery) -> Page[Import]:
    """List imports and how far each is, newest first."""
    statement = Statement(_IMPORTS)
    if (account := call.account) is not None:
        statement.where("account = ?", account)
    text = statement.page(query, "created_at", "id", int)
    rows = await call.context.pool.fetch(text, *statement.arguments)
    return page(rows, query, "id", lambda row: _import(row, call.context))


_IMPORTS: Final = f"""
    select *, state in ('receiving', 'registering')
              and updated_at < clock() - make_interval(secs => {ABANDONED_SECONDS}) as abandoned
      from address_import
"""  # noqa: S608


def _import(row: Any, context: Context) -> Import:
    return {
        "id": conceal(context.vault, IMPORT, row["id"]),
        "network": row["network"],
        "state": "failed" if row["abandoned"] else row["state"],
        "rows": row["rows"],
        "registered": row["registered"],
        "error": "the process that read it ended" if row["abandoned"] else row["error"],
        "createdAt": format_time(row["created_at"]),
        "updatedAt": format_time(row["updated_at"]),
    }


class _Progress:
    """The row that says how far an import is, now and then."""

    def __init__(self, pool: asyncpg.Pool, number: int) -> None:
        self.id = number
        self._pool = pool
        self._said_at = float("-inf")

    @classmethod
    async def begin(cls, pool: asyncpg.Pool, account: str, network: str) -> _Progress:
        number = await pool.fetchval(
            "insert into address_import (account, network) values ($1, $2) returning id",
            account,
            network,
        )
        return cls(pool, number)

    async def maybe(self, state: str, rows: int, registered: int = 0) -> None:
        """Say it, unless that was just done."""
        now = asyncio.get_running_loop().time()
        if now - self._said_at >= SAID_SECONDS:
            self._said_at = now
            await self.say(self._pool, state, rows, registered)

    async def say(
        self,
        database: asyncpg.Pool | asyncpg.Connection,
        state: str,
        rows: int,
        registered: int = 0,
        error: str | None = None,
    ) -> None:
        await database.execute(
            """
            update address_import
               set state = $2::text::import_state, rows = $3, registered = $4, error = $5,
                   updated_at = clock()
             where id = $1
            """,
            self.id,
            state,
            rows,
            registered,
            error,
        )
