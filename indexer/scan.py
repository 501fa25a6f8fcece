"""Reads past blocks again: the gap between a registration and its activation, and `fromBlock`.

It decodes and proves as the follower does, and books inside each address's and coin's coverage.
Its fence is the stored header of each block, held until its transaction ends: a swap waits for it,
or it finds the block gone and reads again. Below the stored headers only a rewind can take a block
away, and that moves `rewinds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import asyncpg
import structlog

from indexer import cursors
from indexer.booking import Booking, Found
from indexer.chains import Chain, Header
from indexer.cursors import Cursor, Stale
from indexer.model import Moment
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
            scans = await connection.fetch(
                "select id, last, next from scan where network = $1 and state = 'open'",
                self.network,
            )
            cursor = await cursors.read(connection, self.network)
            first = min((s["next"] for s in scans), default=None)
            if cursor is None or first is None or first > cursor.height:
                return False
            # After the scans were read: whatever they are for is in the watch set by now.
            await self._watch.refresh(connection)
        last = min(
            first + CHUNK_BLOCKS - 1,
            cursor.height,
            max(s["last"] for s in scans if s["next"] == first),
        )
        headers, found = await self._read(first, last)
        async with self._pool.acquire() as connection, connection.transaction():
            moment = await self._hold(connection, cursor, headers)
            booking = Booking(
                connection, self.network, self._chain.codec, self._rules.required, moment
            )
            await booking.find(found)
            events = await booking.store()
            await self._advance(connection, [s["id"] for s in scans], first, last)
        log.info("scanned", network=self.network, first=first, last=last, events=events)
        return True

    async def _read(self, first: int, last: int) -> tuple[list[Header], list[Found]]:
        headers: list[Header] = []
        found: list[Found] = []
        async for block in self._chain.blocks(first, last):
            headers.append(block.header)
            if transfers := self._chain.transfers(block, self._watch):
                found.append(Found(block.header, transfers))
        return headers, found

    async def _hold(
        self, connection: asyncpg.Connection, seen: Cursor, headers: Sequence[Header]
    ) -> Moment:
        """Keep the chain under these blocks in place; Stale if it is another one already."""
        lowest = await cursors.lowest_header(connection, self.network)
        if lowest is None or headers[0].height < lowest:
            cursor = await cursors.share(connection, self.network)
        else:
            cursor = await cursors.read(connection, self.network)
        if cursor is None or cursor.rewinds != seen.rewinds:
            raise Stale(f"{self.network}: the chain was rewound under a scan")
        held = await cursors.hold_headers(
            connection, self.network, headers[0].height, headers[-1].height
        )
        for header in headers:
            kept = held.get(header.height)
            if kept != header.hash and (kept or lowest is None or header.height >= lowest):
                raise Stale(f"{self.network}: block {header.height} is not the one we follow")
        return Moment(cursor.height, cursor.finalized, await cursors.now(connection))

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
