"""Follows one network: compares the next block with the cursor, decides one thing, does it.

The outcomes of a step:

- *extended*: the next blocks link to the cursor and were applied, many at once while behind.
- *idle*: the node has our block and no more, or it is behind on our own branch. A missing block is
  not a reorg; only a different hash is.
- *forked*: it is on another branch that is not longer than ours: nothing is swapped.
- *reorganised*: it names another block at our height: the branch was swapped in one transaction.
- *halted*: that branch leaves ours deeper than `reorg_window` or below the finalized block.

No transaction is open during a network call. Whatever a step decided is committed only if nobody
moved the cursor or changed what is watched meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from time import monotonic
from typing import Final, Protocol

import asyncpg
import structlog

from indexer import balances, coverage, cursors, ledger
from indexer.ancestry import common_ancestor, work_above
from indexer.booking import Booking, Found
from indexer.chains import Block, Chain, Header
from indexer.chains.turn import Turn
from indexer.cursors import Cursor, Stale
from indexer.finality import Finality
from indexer.meter import Meter
from indexer.model import Impossible, Moment, Unavailable
from indexer.watchset import WatchSet, Widened

BATCH_BLOCKS: Final = 200  # blocks that one transaction applies while behind
BATCH_BYTES: Final = 32_000_000  # of their payloads
# About: booking them takes CPU while the transaction is open, on which the database sets a limit
# (database.IDLE_TRANSACTION_SECONDS).
BATCH_TRANSFERS: Final = 2_000
BATCH_SECONDS: Final = 0.5  # how long a batch waits for its next block
SPAN_BLOCKS: Final = 10_000  # blocks that one pipeline fetches before the tip is asked again
BEHIND_BLOCKS: Final = 5  # more than that behind the head is `catching_up`
ACTIVATION_SECONDS: Final = 0.5  # of a step, before blocks have their turn again

log = structlog.get_logger()


class Outcome(StrEnum):
    EXTENDED = "extended"
    IDLE = "idle"
    FORKED = "forked"
    REORGANISED = "reorganised"
    HALTED = "halted"


class Rules(Protocol):
    """The settings of a network that its follower acts on."""

    @property
    def required(self) -> int | None: ...  # confirmations; None: "finalized"
    @property
    def finality(self) -> str: ...  # "network" | "depth"
    @property
    def reorg_window(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Matched:
    """Blocks decoded with one version of the watch set."""

    version: int
    found: list[Found]

    @property
    def transfers(self) -> int:
        return sum(len(found.transfers) for found in self.found)


class Follower:
    """The one writer of a network's chain in this process."""

    def __init__(
        self,
        network: str,
        rules: Rules,
        chain: Chain,
        pool: asyncpg.Pool,
        watch: WatchSet,
        turn: Turn | None = None,
    ) -> None:
        """`turn`: what others in this process wait for before they read the past."""
        self.network = network
        self.head: int | None = None
        self.lag: int | None = None  # blocks between our cursor and the head, as last seen
        self.reason: str | None = None  # why it is forked or halted
        self.activating = False  # more was registered than a step turns active
        self._rules = rules
        self._chain = chain
        self._pool = pool
        self._watch = watch
        self._turn = turn or Turn()
        self._pipeline: AsyncGenerator[Block, None] | None = None
        self._finality = Finality(network, rules, chain, pool)
        self._meter = Meter(network)

    async def step(self) -> Outcome:
        """Decide one thing and do it.

        Raises Unavailable (the node), Stale (somebody else moved the cursor: just step
        again) and the database's own failures; the cursor stands where it stood.
        """
        at_the_tip = self.lag is not None and self.lag <= BEHIND_BLOCKS
        with self._turn.taken() if at_the_tip else nullcontext():
            return await self._take_step()

    async def _take_step(self) -> Outcome:
        async with self._pool.acquire() as connection:
            self.activating = await self._activate(connection)
            cursor = await cursors.read(connection, self.network)
            if cursor is None:
                raise Impossible(f"{self.network} has no cursor")
            # What is left to load under the cursor's lock is little, ten million keys at start too.
            if cursor.watch_version != self._watch.version:
                await self._watch.refresh(connection)
        try:
            return await self._step(cursor)
        except BaseException:
            await self.close()
            raise

    async def _activate(self, connection: asyncpg.Connection) -> bool:
        """Turn what was registered active for a while; whether there is more of it."""
        until = monotonic() + ACTIVATION_SECONDS
        while (some := await coverage.activate(connection, self.network)) and monotonic() < until:
            pass
        return some > 0

    async def close(self) -> None:
        """Stop fetching ahead."""
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            await pipeline.aclose()

    # ---------------------------------------------------------------- deciding

    async def _step(self, cursor: Cursor) -> Outcome:
        if self._pipeline is None:
            tip = await self._chain.tip()
            self.head = tip.height
            self._meter.sees(tip.height)
            self.lag = max(0, tip.height - cursor.height)
            if tip.height <= cursor.height:
                return await self._compare(cursor, tip)
            last = min(tip.height, cursor.height + SPAN_BLOCKS)
            self._pipeline = self._chain.blocks(cursor.height + 1, last)
        blocks, matched = await self._take(self._pipeline)
        if not blocks:  # the last batch ended where the pipeline did
            return await self._step(cursor)
        if blocks[0].header.height != cursor.height + 1:
            raise Stale(f"{self.network}: the cursor moved while blocks were fetched")
        if blocks[0].header.parent != cursor.hash:
            await self.close()
            return await self._differs(cursor)
        await self._extend(cursor, blocks, matched)
        return Outcome.EXTENDED

    async def _take(self, pipeline: AsyncGenerator[Block, None]) -> tuple[list[Block], Matched]:
        """The next block, and those that come soon after it."""
        blocks: list[Block] = []
        matched = Matched(self._watch.version, [])  # the oldest, should keys come meanwhile
        size, until = 0, monotonic() + BATCH_SECONDS
        async for block in pipeline:
            blocks.append(block)
            matched.found.extend(self._match([block], self._watch).found)
            size += block.size
            full = len(blocks) >= BATCH_BLOCKS or size >= BATCH_BYTES
            if full or matched.transfers >= BATCH_TRANSFERS or monotonic() >= until:
                return blocks, matched
        self._pipeline = None
        return blocks, matched

    async def _compare(self, cursor: Cursor, tip: Header) -> Outcome:
        """The node is no longer than we are."""
        async with self._pool.acquire() as connection:
            stored = await cursors.header_at(connection, self.network, tip.height)
        if stored is None or stored[0] == tip.hash:  # far behind, or on our own branch
            await self._settle(cursor)
            return Outcome.IDLE
        # At equal height only the endpoint that gave us our block may take it back.
        same_node = tip.height == cursor.height and tip.source == stored[1]
        if same_node or tip.work is not None:
            return await self._reorganise(cursor, tip, same_node=same_node)
        return self._fork(tip)

    async def _differs(self, cursor: Cursor) -> Outcome:
        """The block above ours has another parent: does the node name another at our height?"""
        theirs = await self._chain.header(cursor.height)
        if theirs is None:
            raise Unavailable(f"the node has a block above {cursor.height} but not that one")
        if theirs.hash == cursor.hash:
            raise Unavailable("the node changed its branch between two calls")
        tip = await self._chain.tip()
        if tip.height <= cursor.height:
            return await self._compare(cursor, tip)
        return await self._reorganise(cursor, tip)

    # ---------------------------------------------------------------- doing

    async def _extend(self, cursor: Cursor, blocks: Sequence[Block], matched: Matched) -> None:
        headers = [block.header for block in blocks]
        finalized = await self._finality.height(cursor, headers)
        checks = await balances.check(self._chain, blocks, self._watch)
        async with self._transaction() as connection:
            locked = await self._lock(connection, cursor)
            if locked.rewound_from is not None:
                matched = await self._match_all(connection, blocks, locked.height)
            elif matched.version != locked.watch_version:
                await self._watch.refresh(connection)
                matched = self._match(blocks, self._watch)
            moment = await cursors.move(
                connection, locked, headers[-1].height, headers[-1].hash, finalized
            )
            await self._replace_headers(connection, headers)
            booking = self._booking(connection, moment)
            await booking.find([f for f in matched.found if f.transfers], checks)
            events = await self._finish(booking, locked, moment)
        self._at(moment, matched)
        log.info(
            "extended",
            network=self.network,
            height=moment.height,
            blocks=len(blocks),
            head=self.head,
            transfers=matched.transfers,
            events=events,
        )

    async def _reorganise(self, cursor: Cursor, tip: Header, *, same_node: bool = False) -> Outcome:
        """Swap our branch for the node's, in one transaction.

        It is as long at least, or has more work, whatever its length. `same_node`: the endpoint
        that gave us our branch changed its mind, for which as much work will do.
        """
        async with self._pool.acquire() as connection:
            stored = await cursors.header_hashes(connection, self.network)
        if stored.get(cursor.height) != cursor.hash:
            raise Stale(f"{self.network}: somebody else moved the cursor")
        top = min(cursor.height, tip.height)
        ancestor = await common_ancestor(self._chain, top, stored)
        if ancestor is None or ancestor < cursor.finalized:
            if tip.height <= cursor.height and not same_node:  # nothing to follow it for, yet
                return self._fork(tip)
            return self._halt(cursor, min(stored), ancestor)
        if tip.work is not None:
            theirs = await work_above(self._chain, ancestor, tip.height)
            ours = await self._stored_work(ancestor)
            if theirs < ours or (theirs == ours and not same_node):
                return self._fork(tip)
        last = min(tip.height, cursor.height + BATCH_BLOCKS)
        blocks = await self._fetch_branch(ancestor, stored[ancestor], top, last)
        headers = [block.header for block in blocks]
        finalized = await self._finality.height(cursor, headers, ancestor)
        checks = await balances.check(self._chain, blocks, self._watch)
        async with self._transaction() as connection:
            locked = await self._lock(connection, cursor)
            if ancestor < locked.finalized:
                raise Stale(f"{self.network}: the common ancestor was left behind by finality")
            # First, because it waits for scans: what they booked is displaced as well.
            await self._replace_headers(connection, headers)
            matched = await self._match_all(connection, blocks, ancestor)
            moment = await cursors.move(
                connection, locked, headers[-1].height, headers[-1].hash, finalized
            )
            booking = self._booking(connection, moment)
            await booking.find(matched.found, checks, above=ancestor)
            booking.orphan_displaced(ancestor, headers)
            events = await self._finish(booking, locked, moment)
        self._at(moment, matched)
        self._meter.reorganised(cursor.height - ancestor)
        log.warning(
            "reorganised",
            network=self.network,
            height=moment.height,
            ancestor=ancestor,
            depth=cursor.height - ancestor,
            events=events,
        )
        return Outcome.REORGANISED

    async def _settle(self, cursor: Cursor) -> None:
        """No new block, but finality may have moved on, or a commit left promotions over."""
        finalized = await self._finality.height(cursor, [])
        async with self._pool.acquire() as connection:
            if finalized <= cursor.finalized and not await ledger.anything_due(connection, cursor):
                return
            async with connection.transaction():
                locked = await self._lock(connection, cursor)
                moment = await cursors.move(
                    connection, locked, locked.height, locked.hash, finalized
                )
                await self._finish(self._booking(connection, moment), locked, moment)

    async def _lock(self, connection: asyncpg.Connection, seen: Cursor) -> Cursor:
        """The cursor, ours until the transaction ends; Stale if it is not where we saw it.

        With the lock in hand a changed watch version is no conflict: what was decoded with an older
        one is decoded again before it is booked, however often keys come and go.
        """
        locked = await cursors.lock(connection, self.network)
        if locked is None or (locked.hash, locked.rewinds) != (seen.hash, seen.rewinds):
            raise Stale(f"{self.network}: somebody else moved the cursor")
        return locked

    def _match(self, blocks: Sequence[Block], watch: WatchSet | Widened) -> Matched:
        found = []
        for block in blocks:
            with self._meter.decoding():
                found.append(Found(block.header, self._chain.transfers(block, watch)))
        return Matched(watch.version, found)

    async def _match_all(
        self, connection: asyncpg.Connection, blocks: Sequence[Block], above: int
    ) -> Matched:
        """The same, and every deposit above a height or without a place, watched or not by now."""
        await self._watch.refresh(connection)
        displaced = await ledger.addresses_above(connection, self.network, above)
        return self._match(blocks, Widened(self._watch, *displaced))

    async def _finish(self, booking: Booking, locked: Cursor, moment: Moment) -> int:
        if locked.rewound_from is not None and moment.height > locked.rewound_from:
            await booking.orphan_unplaced()
        await booking.promote()
        return await booking.store()

    def _fork(self, tip: Header) -> Outcome:
        self.reason = (
            f"{tip.source} names another block at height {tip.height} and is not ahead of us"
        )
        return Outcome.FORKED

    def _halt(self, cursor: Cursor, lowest: int, ancestor: int | None) -> Outcome:
        where = (
            f"below height {lowest}, deeper than reorg_window = {self._rules.reorg_window}"
            if ancestor is None
            else f"at height {ancestor}, below the finalized block {cursor.finalized}"
        )
        self.reason = (
            f"the node's branch leaves ours {where}; find out which branch is right, then run "
            f"`depositd rewind {self.network} HEIGHT` with a height that both have"
        )
        return Outcome.HALTED

    async def _fetch_branch(
        self, ancestor: int, ancestor_hash: bytes, ours: int, last: int
    ) -> list[Block]:
        """The blocks above the ancestor: to our own height whatever they weigh, then to `last`."""
        blocks: list[Block] = []
        size = 0
        async with aclosing(self._chain.blocks(ancestor + 1, last)) as pipeline:
            async for block in pipeline:
                blocks.append(block)
                size += block.size
                if block.header.height >= ours and size >= BATCH_BYTES:
                    break
        if len(blocks) < ours - ancestor:
            raise Unavailable("the node did not serve the whole of its branch")
        if blocks[0].header.parent != ancestor_hash:
            raise Unavailable("the node changed its branch while we fetched it")
        return blocks

    async def _stored_work(self, ancestor: int) -> int:
        async with self._pool.acquire() as connection:
            return await cursors.work_above(connection, self.network, ancestor)

    # ---------------------------------------------------------------- small parts

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.Connection]:
        async with self._pool.acquire() as connection:
            with self._meter.committing():
                async with connection.transaction():
                    yield connection

    def _at(self, moment: Moment, matched: Matched) -> None:
        self._meter.applied(len(matched.found), matched.transfers, moment.height)
        self.lag = None if self.head is None else max(0, self.head - moment.height)

    def _booking(self, connection: asyncpg.Connection, moment: Moment) -> Booking:
        return Booking(connection, self.network, self._chain.codec, self._rules.required, moment)

    async def _replace_headers(
        self, connection: asyncpg.Connection, headers: Sequence[Header]
    ) -> None:
        """Store a branch's instead of those from its first on; what is too old is dropped, too."""
        keep_from = headers[-1].height - self._rules.reorg_window
        await cursors.drop_headers(connection, self.network, keep_from, headers[0].height - 1)
        kept = [header for header in headers if header.height >= keep_from]
        await cursors.store_headers(connection, self.network, kept)
