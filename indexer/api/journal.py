"""Who changed what: a row for each call that changed something, written with the change itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg
from pydantic import BaseModel

from indexer.api.caller import client_address
from indexer.api.errors import REQUEST_ID, dump, shown

if TYPE_CHECKING:
    from indexer.api.operation import Call

MAX_DETAILS: Final = 4096  # bytes of a body's JSON; a larger one leaves its field names
MAX_ENTRIES: Final = 10  # of a list; a longer one leaves its length
HIDDEN: Final = frozenset({"url", "headers", "xpub"})  # may hold a password, or tell all addresses


async def record(connection: asyncpg.Connection, call: Call) -> None:
    """The row of a call, in the transaction of what it changed."""
    request, operation = call.request, call.operation
    await connection.execute(
        """
        insert into audit (account, key_id, address, request_id, action, target, details)
        values ($1, $2, $3, $4, $5, $6, $7)
        """,
        call.account,
        call.principal.key_id,
        client_address(request),
        request[REQUEST_ID],
        f"{operation.method} {operation.path}",
        shown(request.path),
        _details(call.taken).decode(),
    )


def _details(body: BaseModel) -> bytes:
    given = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    text = dump({name: _shown(name, value) for name, value in given.items()})
    return text if len(text) <= MAX_DETAILS else dump(dict.fromkeys(given, "…"))


def _shown(name: str, value: Any) -> Any:
    if name in HIDDEN:
        return "…"
    if isinstance(value, list) and len(value) > MAX_ENTRIES:
        return {"entries": len(value)}
    return value
