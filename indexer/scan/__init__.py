"""Reads past blocks again: the gap between a registration and its activation, and `fromBlock`.

It decodes and proves as the follower does, and books inside each address's and coin's coverage.
Any number of processes may do so for one network: see `claims`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Final, TypeAlias
from uuid import uuid4

import asyncpg
import structlog

from indexer.booking import COVERED, Terms
from indexer.chains import Chain
from indexer.chains.turn import give_way
from indexer.cursors import Stale
from indexer.model import Unavailable
from indexer.scan import reading
from indexer.scan.booking import Booked, Ground, PastBooking, Rules, survey
from indexer.scan.claims import Claim, Claims, mark_read
from indexer.scan.reading import Reading
from indexer.scan.stride import Stride
from indexer.watchset import WatchSet

BOOKED_AT_ONCE: Final = 500  # transfers, about: for so long a follower may have to wait

log = structlog.get_logger()

Read: TypeAlias = Callable[[int, int], Awaitable[Reading]]


class Scanner:
    """Works off open scans of one network."""

    def __init__(
        self,
        network: str,
        rules: Rules,
        chain: Chain,
        pool: asyncpg.Pool,
        watch: WatchSet,
        claims: Claims | None = None,
        terms: Terms = COVERED,
        read: Read | None = None,
    ) -> None:
        """`claims`, `terms`, `read`: another choice of scans, and how to book and to read them."""
        self.network = network
        self._pool = pool
        self._watch = watch
        self._booking = PastBooking(network, rules, chain)
        self._claims = claims or Claims(network, uuid4())
        self._terms = terms
        self._read = read or partial(reading.read, chain, watch)
        self._stride = Stride()

    async def step(self) -> bool:
        """Read one range; False where nothing is left to read up to the cursor, or others do.

        Raises Unavailable (the node) and Stale (the chain moved under it: just step again).
        """
        async with self._pool.acquire() as connection:
            ground = await survey(connection, self.network)
            if ground is None:
                return False
            claim = await self._claims.take(connection, ground.cursor.height, self._stride.blocks)
        if claim is None:
            return False
        async with self._claims.kept(self._pool, claim):
            await self._work_off(ground, claim)
        return True

    async def _work_off(self, seen: Ground, claim: Claim) -> None:
        async with self._pool.acquire() as connection:
            # After the scans were read: whatever they are for is in the watch set by now.
            await self._watch.refresh(connection)
        began = monotonic()
        try:
            reading = await self._read(claim.first, claim.last)
        except Unavailable:
            self._stride.failed()
            raise
        self._stride.took(claim.last - claim.first + 1, monotonic() - began)
        deposits = events = 0
        for part in reading.parts(BOOKED_AT_ONCE):
            await give_way()
            booked = await self._book(seen, claim, part)
            deposits, events = deposits + booked.deposits, events + booked.events
        log.info(
            "scanned",
            network=self.network,
            first=claim.first,
            last=claim.last,
            deposits=deposits,
            events=events,
        )

    async def _book(self, seen: Ground, claim: Claim, part: Reading) -> Booked:
        """Book on the ground as it is by now: the stored headers moved on while blocks were read.

        A rewind is another matter: what was read may lie above the cursor.
        """
        async with self._pool.acquire() as connection:
            ground = await survey(connection, self.network)
        if ground is None or ground.cursor.rewinds != seen.cursor.rewinds:
            raise Stale(f"{self.network}: the chain was rewound under a scan")
        await self._booking.confirm(ground, part)
        async with self._pool.acquire() as connection, connection.transaction():
            booked = await self._booking.book(connection, ground, part, self._terms)
            await mark_read(connection, claim.scans, part.first, part.last, booked.deposits)
        return booked
