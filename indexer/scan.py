"""Reads past blocks again: the gap between a registration and its activation, and `fromBlock`.

It decodes and proves as the follower does, and books inside each address's and coin's coverage.
Its fence is the stored header of each block, held until its transaction ends: a swap waits for it,
or it finds the block gone and reads again. Below the stored headers only a rewind can take a block
away, and that moves `rewinds`; that the blocks there are ours at all, the node says by having our
lowest header above them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import asyncpg
import structlog

from indexer import balances, cursors
from indexer.balances import Checks
from indexer.booking import Booking, Found
from indexer.chains import Chain, Header
from indexer.cursors import Cursor, Stale
from indexer.model import Moment, Unavailable
from indexer.watchset import WatchSet

CHUNK_BLOCKS: Final = 100  # blocks that one transaction books

log = structlog.get_logger()


class Rules(Protocol):
    @property
    def required(self) -> int | None: ...  # confirmations; None: "finalized"


class Scanner:
    """Works off the open scans of one network."""

    def __init__(
        self, network: str, rules: Rules, chain: Chain, pool: asyncpg.Pool, watch: WatchSet
    ) -> None:
        self.network = network
        self._rules = rules
        self._chain = chain
        self._pool = pool
        self._watch = watch

    async def step(self) -> bool:
        """Read one chunk; False where nothing is left to read up to the cursor.

        Raises Unavailable (the node) and Stale (the chain moved under it: just step again).
        """
        async with self._pool.acquire() as connection:
            cursor = await cursors.read(connection, self.network)
            if cursor is None:
                return False
            scans = await connection.fetch(
                """
                select id, last, next from scan
                 where network = $1 and state = 'open' and next <= $2
                """,
                self.network,
                cursor.height,
            )
            lowest = await cursors.lowest_header(connection, self.network)
            if not scans or lowest is None:
                return False
            # After the scans were read: whatever they are for is in the watch set by now.
            await self._watch.refresh(connection)
        first, last = _chunk(scans, cursor.height)
        headers, found, checks = await self._read(first, last)
        if last < lowest[0]:
            await self._confirm_ours(headers[-1], *lowest)
        async with self._pool.acquire() as connection, connection.transaction():
            moment = await self._hold(connection, cursor, headers, lowest[0])
            booking = Booking(
                connection, self.network, self._chain.codec, self._rules.required, moment
            )
            await booking.find(found, checks)
            events = await booking.store()
            await self._advance(connection, [s["id"] for s in scans], first, last)
        log.info("scanned", network=self.network, first=first, last=last, events=events)
        return True

    async def _read(self, first: int, last: int) -> tuple[list[Header], list[Found], Checks]:
        headers: list[Header] = []
        found: list[Found] = []
        checks: dict[tuple[bytes, bytes, bytes], bool | None] = {}
        async for block in self._chain.blocks(first, last):
            headers.append(block.header)
            if transfers := self._chain.transfers(block, self._watch):
                found.append(Found(block.header, transfers))
                checks |= await balances.check(self._chain, [block], self._watch)
        return headers, found, checks

    async def _hold(
        self,
        connection: asyncpg.Connection,
        seen: Cursor,
        headers: Sequence[Header],
        lowest: int,
    ) -> Moment:
        """Keep the chain under these blocks in place; Stale if it is another one already.

        `lowest`: of the headers stored when the blocks were chosen; what lies below is confirmed.
        """
        first, last = headers[0].height, headers[-1].height
        if first < lowest:
            await cursors.share(connection, self.network)
        held = await cursors.hold_headers(connection, self.network, first, last)
        # Read with the headers in hand, which a rewind waits for.
        cursor = await cursors.read(connection, self.network)
        if cursor is None or cursor.rewinds != seen.rewinds:
            raise Stale(f"{self.network}: the chain was rewound under a scan")
        for header in headers:
            kept = held.get(header.height)
            if kept is None and header.height >= lowest:
                raise Stale(f"{self.network}: the chain moved under a scan")
            if kept not in (None, header.hash):
                raise Unavailable(f"{header.source} has another block {header.height} than ours")
        return Moment(cursor.height, cursor.finalized, await cursors.now(connection))

    async def _confirm_ours(self, newest: Header, height: int, block_hash: bytes) -> None:
        """Blocks below the stored headers are ours if they lie below our lowest one at the node."""
        theirs = await self._chain.headers([newest.height, height])
        for header, ours in zip(theirs, (newest.hash, block_hash), strict=True):
            if header is None or header.hash != ours:
                raise Unavailable(
                    f"the node is on another branch than ours below block {height}, "
                    f"or does not serve it"
                )

    async def _advance(
        self, connection: asyncpg.Connection, scans: Sequence[int], first: int, last: int
    ) -> None:
        """Of the scans that the watch set was taken for, those whose next block was read."""
        await connection.execute(
            """
            update scan
               set next = least(last, $4) + 1,
                   state = case when last <= $4 then 'done' else state end
             where network = $1 and id = any ($2) and state = 'open' and next between $3 and $4
            """,
            self.network,
            list(scans),
            first,
            last,
        )


def _chunk(scans: Sequence[Mapping[str, Any]], cursor: int) -> tuple[int, int]:
    """What to read next: gaps that one chunk closes before the long way of a backfill."""
    short = [s for s in scans if s["last"] - s["next"] < CHUNK_BLOCKS] or scans
    first = min(s["next"] for s in short)
    last = max(s["last"] for s in short if s["next"] == first)
    return first, min(first + CHUNK_BLOCKS - 1, last, cursor)
