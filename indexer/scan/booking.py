"""Past blocks, booked: what was read is written if our chain has those blocks still.

The fence is the stored header of each block, held until the transaction ends: a swap waits for it,
or it finds the block gone and the blocks are read again. Below the stored headers only a rewind can
take a block away, and that moves `rewinds`; that the blocks there are ours at all, the node says by
having our lowest header above them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import asyncpg

from indexer import cursors
from indexer.booking import COVERED, Booking, Terms
from indexer.chains import Chain
from indexer.cursors import Cursor, Stale
from indexer.model import Deposit, Moment, Unavailable
from indexer.scan.reading import Reading


class Rules(Protocol):
    @property
    def required(self) -> int | None: ...  # confirmations; None: "finalized"


@dataclass(frozen=True, slots=True)
class Ground:
    """Our chain as it stood before blocks were read; what is booked must stand on it still."""

    cursor: Cursor
    lowest: int  # height of the oldest stored header
    lowest_hash: bytes


async def survey(connection: asyncpg.Connection, network: str) -> Ground | None:
    """None where a network has not started yet."""
    cursor = await cursors.read(connection, network)
    lowest = await cursors.lowest_header(connection, network)
    return None if cursor is None or lowest is None else Ground(cursor, *lowest)


@dataclass(frozen=True, slots=True)
class Booked:
    """What a booking of past blocks wrote."""

    deposits: int  # new, revived or otherwise changed
    events: int


class PastBooking:
    """Books readings of one network's past, inside each address's and coin's coverage.

    For each reading: `survey` before it is read, then `confirm`, and `book` in a transaction.
    """

    def __init__(self, network: str, rules: Rules, chain: Chain) -> None:
        self._network = network
        self._rules = rules
        self._chain = chain

    async def confirm(self, ground: Ground, reading: Reading) -> None:
        """Blocks below the stored headers are ours if they lie below our lowest one at the node.

        Asks the node; Unavailable where it says otherwise.
        """
        below = [header for header in reading.headers if header.height < ground.lowest]
        if not below:
            return
        asked = below[-1:] if reading.linked else below  # the last of linked ones speaks for all
        heights = [*(header.height for header in asked), ground.lowest]
        theirs = await self._chain.headers(heights)
        ours = [*(header.hash for header in asked), ground.lowest_hash]
        for header, block_hash in zip(theirs, ours, strict=True):
            if header is None or header.hash != block_hash:
                raise Unavailable(
                    f"the node is on another branch than ours below block {ground.lowest}, "
                    f"or does not serve it"
                )

    async def book(
        self,
        connection: asyncpg.Connection,
        ground: Ground,
        reading: Reading,
        terms: Terms = COVERED,
    ) -> Booked:
        """Write what a confirmed reading found, in the caller's transaction.

        Raises Stale where the chain moved since `ground` was surveyed (survey and read again), and
        Unavailable where the node has other blocks than ours.
        """
        if not reading.headers:
            return Booked(0, 0)
        booking = await self._begin(connection, ground, reading, terms)
        await booking.find(reading.found, reading.checks)
        return Booked(deposits=booking.changed, events=await booking.store())

    async def expect(
        self, connection: asyncpg.Connection, ground: Ground, reading: Reading
    ) -> list[Deposit]:
        """The deposits that `book` would find if nothing was stored, by the same fence.

        The caller rolls its transaction back.
        """
        if not reading.headers:
            return []
        booking = await self._begin(connection, ground, reading, COVERED)
        return await booking.expect(reading.found, reading.checks)

    async def _begin(
        self, connection: asyncpg.Connection, ground: Ground, reading: Reading, terms: Terms
    ) -> Booking:
        moment = await self._hold(connection, ground, reading)
        return Booking(
            connection, self._network, self._chain.codec, self._rules.required, moment, terms
        )

    async def _hold(
        self, connection: asyncpg.Connection, ground: Ground, reading: Reading
    ) -> Moment:
        """Keep the chain under these blocks in place; Stale if it is another one already."""
        first, last = reading.headers[0].height, reading.headers[-1].height
        if first < ground.lowest:
            await cursors.share(connection, self._network)
        held = await cursors.hold_headers(connection, self._network, first, last)
        # Read with the headers in hand, which a rewind waits for.
        cursor = await cursors.read(connection, self._network)
        if cursor is None or cursor.rewinds != ground.cursor.rewinds:
            raise Stale(f"{self._network}: the chain was rewound under a scan")
        for header in reading.headers:
            kept = held.get(header.height)
            if kept is None and header.height >= ground.lowest:
                raise Stale(f"{self._network}: the chain moved under a scan")
            if kept not in (None, header.hash):
                raise Unavailable(f"{header.source} has another block {header.height} than ours")
        return Moment(cursor.height, cursor.finalized, await cursors.now(connection))
