"""A route with all that is promised of it: who may call it, what it takes, what it answers.

One declaration makes the checks before a handler runs, the one transaction that it may write in,
and its part of the OpenAPI document (`openapi`): neither can say what another doesn't.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, overload

import asyncpg
from aiohttp import hdrs, web
from pydantic import BaseModel

from indexer.api import journal
from indexer.api.auth import PRINCIPAL, Principal, Scope, request_account
from indexer.api.context import Context, context_of
from indexer.api.errors import Problem, dump, reply_dumped
from indexer.api.idempotency import Idempotency
from indexer.api.inputs import Body, Query, check_kind, read_body, read_query
from indexer.api.pages import PageQuery, sealed, unsealed

CREATED: Final = 201
SWITCHED: Final = 101  # its handler answers on a socket; `answer` is then what a message holds
MIN_GZIP_BYTES: Final = 1024  # a smaller answer is not worth it

T = TypeVar("T", bound=BaseModel)
A = TypeVar("A")
Handle = Callable[["Call"], Awaitable[A]]
HandleWith = Callable[["Call", T], Awaitable[A]]


@dataclass
class Call:
    """One request to an operation. Its writes share one transaction, begun when they begin.

    `account`: the one whose rows it may see; None: an admin's, across all accounts.
    """

    request: web.Request
    operation: Operation
    taken: BaseModel
    account: str | None
    _exits: AsyncExitStack
    _idempotency: Idempotency | None
    connection: asyncpg.Connection | None = None

    @property
    def context(self) -> Context:
        return context_of(self.request)

    @property
    def principal(self) -> Principal:
        return self.request[PRINCIPAL]

    @property
    def path(self) -> Mapping[str, str]:
        """The variables of the route, as the caller wrote them."""
        return self.request.match_info

    @property
    def acting_account(self) -> str:
        """The account that this call acts for; an admin must name it."""
        if self.account is None:
            raise Problem(400, "an admin key must name the account it acts for: ?account=ID")
        return self.account

    async def begin(self) -> asyncpg.Connection:
        """The connection of the transaction that commits when the handler has returned.

        Everything that asks the network comes before it. What the call changes, its audit row and
        the answer kept for its `Idempotency-Key` are committed together or not at all.
        """
        if self.connection is None:
            connection = await self._exits.enter_async_context(self.context.pool.acquire())
            await self._exits.enter_async_context(connection.transaction())
            if self._idempotency is not None:
                await self._idempotency.lock(connection)
            self.connection = connection
        return self.connection


@dataclass(frozen=True)
class Operation:
    """`needs` None: no key is asked, no query string read. `answer` NoneType: a status alone.

    `creates`: a repeat under the same Idempotency-Key is answered from what was kept.
    """

    method: str
    path: str
    needs: Scope | None
    takes: type[BaseModel] | None
    answer: Any
    status: int
    tag: str
    refuses: tuple[int, ...]
    streams: tuple[str, ...]  # media types of a body that the handler reads as it comes
    creates: bool
    run: Callable[..., Awaitable[Any]] = field(compare=False)

    @property
    def changes(self) -> bool:
        return self.method != hdrs.METH_GET

    @property
    def has_body(self) -> bool:
        return self.takes is not None and issubclass(self.takes, Body)

    @property
    def needs_body(self) -> bool:
        """Whether a body must come: where every field may be left out, it may be as well."""
        fields = {} if self.takes is None else self.takes.model_fields
        return self.has_body and any(field.is_required() for field in fields.values())

    @property
    def query(self) -> type[Query]:
        """The model of its query string."""
        given = self.takes
        return given if given is not None and issubclass(given, Query) else Query

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.needs is not None and not request[PRINCIPAL].may(self.needs):
            raise Problem(403, f"this needs a key with the scope {self.needs!r}")
        query = Query() if self.needs is None else read_query(request, self.query)
        account = None if self.needs is None else await request_account(request, query.account)
        vault, of = context_of(request).vault, f"{account or ''} {request.path}"
        if isinstance(query, PageQuery):
            query = unsealed(query, vault, of)
        taken: BaseModel = query
        if self.has_body and self.takes is not None:
            given = request.body_exists or self.needs_body
            taken = await read_body(request, self.takes) if given else self.takes()
        if self.streams:
            check_kind(request, self.streams)
        idempotency = await Idempotency.of(request) if self.creates else None
        if idempotency is not None and (kept := await idempotency.kept(context_of(request).pool)):
            return kept.response()
        async with AsyncExitStack() as exits:
            call = Call(request, self, taken, account, exits, idempotency)
            answer = await (self.run(call) if self.takes is None else self.run(call, taken))
            if isinstance(answer, web.StreamResponse):
                return answer
            if isinstance(query, PageQuery):
                answer = sealed(answer, vault, of)
            body = b"" if answer is None else dump(answer)
            if call.connection is not None:
                await journal.record(call.connection, call)
                if idempotency is not None:
                    await idempotency.keep(call.connection, self.status, answer)
        return _response(request, self.status, body)


class Routes:
    """The operations of one resource; `tag` is the document's word for it."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._operations: list[Operation] = []

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    @overload
    def operation(
        self,
        method: str,
        path: str,
        *,
        needs: Scope | None,
        answer: type[A],
        takes: type[T],
        status: int = 200,
        refuses: tuple[int, ...] = (),
        streams: tuple[str, ...] = (),
        creates: bool = False,
    ) -> Callable[[HandleWith[T, A]], HandleWith[T, A]]: ...

    @overload
    def operation(
        self,
        method: str,
        path: str,
        *,
        needs: Scope | None,
        answer: type[A],
        takes: None = None,
        status: int = 200,
        refuses: tuple[int, ...] = (),
        creates: bool = False,
    ) -> Callable[[Handle[A]], Handle[A]]: ...

    def operation(
        self,
        method: str,
        path: str,
        *,
        needs: Scope | None,
        answer: Any,
        takes: type[BaseModel] | None = None,
        status: int = 200,
        refuses: tuple[int, ...] = (),
        streams: tuple[str, ...] = (),
        creates: bool = False,
    ) -> Callable[[Any], Any]:
        """Declares a handler: `takes` is its body (a Body) or its query string (a Query).

        `refuses`: statuses besides those that every operation may answer with. `creates`: so does
        every POST that answers with 201, unless it streams.
        """
        made = method == hdrs.METH_POST and status == CREATED and not streams

        def declare(run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            self._operations.append(
                Operation(
                    method=method,
                    path=path,
                    needs=needs,
                    takes=takes,
                    answer=answer,
                    status=status,
                    tag=self._tag,
                    refuses=refuses,
                    streams=streams,
                    creates=creates or made,
                    run=run,
                )
            )
            return run

        return declare


def _response(request: web.Request, status: int, body: bytes) -> web.StreamResponse:
    """With a tag that spares an unchanged answer, and compressed where that pays."""
    if not body:
        return web.Response(status=204 if status == 200 else status)
    response = reply_dumped(body, status)
    if request.method in (hdrs.METH_GET, hdrs.METH_HEAD):
        tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        response.headers[hdrs.ETAG] = tag
        if request.headers.get(hdrs.IF_NONE_MATCH) == tag:
            return web.Response(status=304, headers={hdrs.ETAG: tag})
    if len(body) >= MIN_GZIP_BYTES:
        response.enable_compression()
    return response
