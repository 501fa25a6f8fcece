"""The SQL of the cursor and the stored headers: where a network's chain stands, and the fence.

Locks are taken in one order by whoever changes deposits: cursor, headers, deposits by id, accounts
by id. The accounts come last, not before the deposits, because an account's row is shared by every
network that it uses: held for the whole commit it would make all followers wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from indexer.chains import Header
from indexer.model import Moment


class Stale(Exception):
    """Somebody else moved the cursor, the watch version or a row: load again and decide again."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last block applied to a network, and the fence that its writers compare."""

    network: str
    height: int
    hash: bytes
    version: int
    watch_version: int
    finalized: int
    rewound_from: int | None
    rewinds: int


_CURSOR: Final = "network, height, hash, version, watch_version, finalized, rewound_from, rewinds"


async def read(connection: asyncpg.Connection, network: str) -> Cursor | None:
    row = await connection.fetchrow(f"select {_CURSOR} from cursor where network = $1", network)  # noqa: S608
    return None if row is None else Cursor(**row)


async def lock(connection: asyncpg.Connection, network: str) -> Cursor | None:
    """The same, held until the transaction ends: nobody else moves this network's chain."""
    row = await connection.fetchrow(
        f"select {_CURSOR} from cursor where network = $1 for update",  # noqa: S608
        network,
    )
    return None if row is None else Cursor(**row)


async def share(connection: asyncpg.Connection, network: str) -> Cursor | None:
    """The same, shared: until the transaction ends the cursor stays where it is."""
    row = await connection.fetchrow(
        f"select {_CURSOR} from cursor where network = $1 for share",  # noqa: S608
        network,
    )
    return None if row is None else Cursor(**row)


async def move(
    connection: asyncpg.Connection, old: Cursor, height: int, block_hash: bytes, finalized: int
) -> Moment:
    """Compare and swap; Stale if anybody moved the cursor or changed what is watched."""
    row = await connection.fetchrow(
        """
        update cursor
           set height = $5::bigint, hash = $6, version = version + 1,
               finalized = greatest(finalized, least($7::bigint, $5::bigint)),
               rewound_from = case when $5::bigint <= rewound_from then rewound_from end
         where network = $1 and hash = $2 and version = $3 and watch_version = $4
        returning finalized, clock() as now
        """,
        old.network,
        old.hash,
        old.version,
        old.watch_version,
        height,
        block_hash,
        finalized,
    )
    if row is None:
        raise Stale(f"{old.network}: the cursor is no longer at version {old.version}")
    return Moment(height, row["finalized"], row["now"])


async def raise_watch_version(connection: asyncpg.Connection, locked: Cursor) -> int:
    """A new watch version under the cursor's lock: versions become visible in their order."""
    version: int = await connection.fetchval(
        """
        update cursor set watch_version = watch_version + 1, version = version + 1
         where network = $1 returning watch_version
        """,
        locked.network,
    )
    return version


async def set_back(
    connection: asyncpg.Connection, locked: Cursor, height: int, block_hash: bytes
) -> None:
    """An operator's rewind, under the cursor's lock; scans below the window see it by `rewinds`."""
    await connection.execute(
        """
        update cursor
           set height = $2::bigint, hash = $3,
               version = version + 1, watch_version = watch_version + 1,
               finalized = least(finalized, $2::bigint), rewinds = rewinds + 1,
               rewound_from = greatest(rewound_from, height)
         where network = $1
        """,
        locked.network,
        height,
        block_hash,
    )


async def now(connection: asyncpg.Connection) -> datetime:
    moment: datetime = await connection.fetchval("select clock()")
    return moment


# ------------------------------------------------------------------------------ headers


async def store_headers(
    connection: asyncpg.Connection, network: str, headers: Sequence[Header]
) -> None:
    """Keep them: by these a reorganisation is noticed and its common ancestor found."""
    await connection.execute(
        """
        insert into block (network, height, hash, parent, time, source, work)
        select $1, * from unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::timestamptz[],
                                 $6::text[], $7::numeric[])
        """,
        network,
        [h.height for h in headers],
        [h.hash for h in headers],
        [h.parent for h in headers],
        [datetime.fromtimestamp(h.time, UTC) for h in headers],
        [h.source for h in headers],
        [h.work for h in headers],
    )


async def drop_headers(
    connection: asyncpg.Connection, network: str, below: int, above: int
) -> None:
    """Those below one height and those above another; waits for scans that hold one of them.

    A transaction that drops both does so at once and by rising height, as scans hold them: else the
    two could wait for each other.
    """
    await connection.execute(
        """
        with going as materialized (
            select height from block where network = $1 and (height < $2 or height > $3)
             order by height for update
        )
        delete from block b using going where b.network = $1 and b.height = going.height
        """,
        network,
        below,
        above,
    )


async def header_at(
    connection: asyncpg.Connection, network: str, height: int
) -> tuple[bytes, str] | None:
    """Hash and source of a stored header."""
    row = await connection.fetchrow(
        "select hash, source from block where network = $1 and height = $2", network, height
    )
    return None if row is None else (row["hash"], row["source"])


async def work_above(connection: asyncpg.Connection, network: str, height: int) -> int:
    """What the stored headers above a height took to find, in hashes."""
    total: int = await connection.fetchval(
        "select coalesce(sum(work), 0) from block where network = $1 and height > $2",
        network,
        height,
    )
    return int(total)


async def header_hashes(connection: asyncpg.Connection, network: str) -> dict[int, bytes]:
    """Every stored header's hash by height."""
    rows = await connection.fetch("select height, hash from block where network = $1", network)
    return {row["height"]: row["hash"] for row in rows}


async def lowest_header(connection: asyncpg.Connection, network: str) -> tuple[int, bytes] | None:
    """Height and hash of the oldest stored header."""
    row = await connection.fetchrow(
        "select height, hash from block where network = $1 order by height limit 1", network
    )
    return None if row is None else (row["height"], row["hash"])


async def hold_headers(
    connection: asyncpg.Connection, network: str, first: int, last: int
) -> dict[int, bytes]:
    """Stored hashes of first..last, which no swap can remove until the transaction ends."""
    rows = await connection.fetch(
        """
        select height, hash from block where network = $1 and height between $2 and $3
         order by height for share
        """,
        network,
        first,
        last,
    )
    return {row["height"]: row["hash"] for row in rows}
