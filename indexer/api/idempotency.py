"""`Idempotency-Key`: a creating POST that is sent again is answered again, and creates nothing.

Source: the contract's "HTTP API". What was created and the answer kept for it are committed in one
transaction; another request under the same key while it runs is turned away, never made to wait.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg
from aiohttp import web

from indexer.api.auth import PRINCIPAL
from indexer.api.errors import Problem, dump, reply_dumped

HEADER: Final = "Idempotency-Key"
KEPT_HOURS: Final = 24
SECRETS: Final = frozenset({"key", "secret"})  # shown once: a replayed answer leaves them out
_NAME: Final = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Kept:
    """The answer of the first request under a key."""

    status: int
    answer: bytes

    def response(self) -> web.Response:
        return reply_dumped(self.answer, self.status, {"Idempotency-Replayed": "true"})


class Replayed(Problem):
    """Another request under the same key was committed since this one began."""

    def __init__(self, kept: Kept) -> None:
        super().__init__(409, "the same request has just been carried out")
        self._kept = kept

    def answer(self, *, enveloped: bool) -> web.Response:
        del enveloped  # no such route creates anything
        return self._kept.response()


@dataclass(frozen=True)
class Idempotency:
    """One request's key, for the API key and the route that it came by."""

    key_id: str
    route: str
    name: str
    body_hash: bytes

    @classmethod
    async def of(cls, request: web.Request) -> Self | None:
        """None without the header. Problem (400) for a bad one."""
        names = request.headers.getall(HEADER, [])
        if not names:
            return None
        if len(names) > 1 or _NAME.fullmatch(names[0]) is None:
            raise Problem(400, f"{HEADER} is 1 to 255 printable ASCII characters, given once")
        digest = hashlib.sha256(await request.read()).digest()
        route = f"{request.method} {request.path_qs}"
        return cls(request[PRINCIPAL].key_id, route, names[0], digest)

    async def kept(self, database: asyncpg.Connection | asyncpg.Pool) -> Kept | None:
        """What was answered before; Problem (422) if that was another body's answer."""
        row = await database.fetchrow(
            """
            select body_hash, status, answer from idempotency
             where key_id = $1 and route = $2 and name = $3
               and created_at > clock() - make_interval(hours => $4)
            """,
            self.key_id,
            self.route,
            self.name,
            KEPT_HOURS,
        )
        if row is None:
            return None
        if row["body_hash"] != self.body_hash:
            raise Problem(422, f"this {HEADER} came with another body before")
        return Kept(row["status"], row["answer"])

    async def lock(self, connection: asyncpg.Connection) -> None:
        """Ours until the transaction ends; Problem (409) while another request holds it."""
        word = "\n".join((self.key_id, self.route, self.name))
        if not await connection.fetchval(
            "select pg_try_advisory_xact_lock(hashtextextended($1, 0))", word
        ):
            raise Problem(409, f"the request of this {HEADER} is still running")
        if (kept := await self.kept(connection)) is not None:
            raise Replayed(kept)

    async def keep(self, connection: asyncpg.Connection, status: int, answer: Any) -> None:
        shown = {name: value for name, value in answer.items() if name not in SECRETS}
        await connection.execute(
            """
            insert into idempotency (key_id, route, name, body_hash, status, answer)
            values ($1, $2, $3, $4, $5, $6)
                on conflict (key_id, route, name) do update
               set body_hash = excluded.body_hash, status = excluded.status,
                   answer = excluded.answer, created_at = clock()
            """,
            self.key_id,
            self.route,
            self.name,
            self.body_hash,
            status,
            dump(shown),
        )
