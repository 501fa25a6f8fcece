"""One bytea column, out of PostgreSQL's binary COPY as it streams in: no object a row but a value.

The format is PostgreSQL's documentation of COPY, "Binary Format". The server sends each row in a
message of its own, and asyncpg hands over whole messages, some at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import asyncpg

from indexer.model import Impossible

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER: Final = SIGNATURE + bytes(8)  # no flags, no extension
ONE_FIELD: Final = b"\0\1"  # before each row
PREFIX: Final = len(ONE_FIELD) + 4  # bytes before a value, its length among them
COPY_SECONDS: Final = 900.0  # of all of it: ten million values took 25 on two busy cores


async def copy_column(
    connection: asyncpg.Connection,
    query: str,
    *arguments: object,
    take: Callable[[list[bytes]], None],
) -> None:
    """Hand over the values of a query's one column, which is never null, some at a time.

    It may take longer than other statements. Impossible where the values were not as many as the
    server sent.
    """
    count = 0

    async def feed(data: bytes | bytearray) -> None:
        # It must not raise: asyncpg then waits in vain for a COPY that has ended already.
        nonlocal count
        found = values(bytes(data))
        count += len(found)
        take(found)

    patient = connection.transaction()
    await patient.start()
    try:
        await connection.execute(f"set local statement_timeout = '{COPY_SECONDS:.0f}s'")
        tag = await connection.copy_from_query(
            query, *arguments, output=feed, format="binary", timeout=COPY_SECONDS
        )
        await connection.execute("set local statement_timeout to default")
    except BaseException:
        connection.terminate()  # asyncpg leaves a COPY that is called off where nothing ends it
        raise
    await patient.commit()
    if tag != f"COPY {count}":
        raise Impossible(f"read {count} values where the server says {tag}")


def values(data: bytes) -> list[bytes]:
    """Those of some rows, as far as that is what `data` is."""
    at = len(HEADER) if data.startswith(HEADER) else 0
    found: list[bytes] = []
    while data.startswith(ONE_FIELD, at):
        start = at + PREFIX
        at = start + int.from_bytes(data[at + 2 : start], "big")
        found.append(data[start:at])
    return found
