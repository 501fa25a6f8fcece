"""Which block of our own branch cannot be undone."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Final, Protocol

import asyncpg

from indexer import cursors
from indexer.chains import Chain, Header
from indexer.cursors import Cursor

ASK_SECONDS: Final = 2.0  # between two questions for the finalized block


class Rules(Protocol):
    """The settings of a network that decide."""

    @property
    def finality(self) -> str: ...  # "network" | "depth"
    @property
    def reorg_window(self) -> int: ...


class Finality:
    def __init__(self, network: str, rules: Rules, chain: Chain, pool: asyncpg.Pool) -> None:
        self._network = network
        self._rules = rules
        self._chain = chain
        self._pool = pool
        self._named: Header | None = None  # by a node, until our branch reaches it
        self._asked_at = float("-inf")

    async def height(
        self, cursor: Cursor, new: Sequence[Header], ancestor: int | None = None
    ) -> int:
        """The highest block of our own branch, with `new` on it, that cannot be undone.

        `ancestor`: where `new` leaves the stored headers. Raises Unavailable (the node).
        """
        height = new[-1].height if new else cursor.height
        if self._rules.finality == "depth":
            # As many blocks may be replaced as the window has: only what lies below them is final.
            return max(cursor.finalized, height - self._rules.reorg_window)
        await self._ask(cursor)
        named = self._named
        if named is None or named.height > height or named.height <= cursor.finalized:
            return cursor.finalized
        async with self._pool.acquire() as connection:
            stored = await cursors.header_hashes(connection, self._network)
        ours = {h: s for h, s in stored.items() if ancestor is None or h <= ancestor}
        ours |= {header.height: header.hash for header in new}
        if named.height in ours:
            return named.height if ours[named.height] == named.hash else cursor.finalized
        # Older than our headers: ours if the node's branch has it by now, and our oldest block.
        oldest = min(ours)
        theirs = await self._chain.headers([named.height, oldest])
        same = [h.hash for h in theirs if h is not None] == [named.hash, ours[oldest]]
        return named.height if same else cursor.finalized

    async def _ask(self, cursor: Cursor) -> None:
        """Ask once our branch reached what was named last, and not at every block."""
        waiting = self._named is not None and self._named.height > cursor.height
        if waiting or monotonic() - self._asked_at < ASK_SECONDS:
            return
        self._named = await self._chain.finalized()
        self._asked_at = monotonic()
