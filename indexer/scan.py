"""Reads past blocks again: the gap between a registration and its activation, and `fromBlock`.

It decodes and proves as the follower does, and books inside each address's and coin's coverage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import structlog

from indexer import scan_reading
from indexer.chains import Chain
from indexer.scan_booking import PastBooking, Rules, survey
from indexer.watchset import WatchSet

CHUNK_BLOCKS: Final = 100  # blocks that one transaction books

log = structlog.get_logger()


class Scanner:
    """Works off the open scans of one network."""

    def __init__(
        self, network: str, rules: Rules, chain: Chain, pool: asyncpg.Pool, watch: WatchSet
    ) -> None:
        self.network = network
        self._chain = chain
        self._pool = pool
        self._watch = watch
        self._booking = PastBooking(network, rules, chain)

    async def step(self) -> bool:
        """Read one chunk; False where nothing is left to read up to the cursor.

        Raises Unavailable (the node) and Stale (the chain moved under it: just step again).
        """
        async with self._pool.acquire() as connection:
            ground = await survey(connection, self.network)
            if ground is None:
                return False
            scans = await connection.fetch(
                """
                select id, last, next from scan
                 where network = $1 and state = 'open' and next <= $2
                """,
                self.network,
                ground.cursor.height,
            )
            if not scans:
                return False
            # After the scans were read: whatever they are for is in the watch set by now.
            await self._watch.refresh(connection)
        first, last = _chunk(scans, ground.cursor.height)
        reading = await scan_reading.read(self._chain, self._watch, first, last)
        await self._booking.confirm(ground, reading)
        async with self._pool.acquire() as connection, connection.transaction():
            booked = await self._booking.book(connection, ground, reading)
            await self._advance(connection, [s["id"] for s in scans], first, last)
        log.info("scanned", network=self.network, first=first, last=last, events=booked.events)
        return True

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
