"""Who changed what: a row for each call that changed something, written with the change itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

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
    # What is long is left out before it is turned into JSON: 10,000 addresses take their time.
    long = {n: len(v) for n, v in body if isinstance(v, list) and len(v) > MAX_ENTRIES}
    given = body.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=set(long))
    given |= {to_camel(name): {"entries": count} for name, count in long.items()}
    text = dump({name: "…" if name in HIDDEN else value for name, value in given.items()})
    return text if len(text) <= MAX_DETAILS else dump(dict.fromkeys(given, "…"))
