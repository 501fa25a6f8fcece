"""Hints of new blocks: a node's own word may end the wait for the next poll, and nothing more."""

from __future__ import annotations

import asyncio
from typing import Final

from indexer.lease import wait

PAUSE_SECONDS: Final = 0.1  # between two polls, however many hints come


class Hints:
    """Those for one sleeper. What comes while it is awake ends its next sleep."""

    def __init__(self) -> None:
        self._given = asyncio.Event()

    def give(self) -> None:
        self._given.set()

    async def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a hint, and that for PAUSE_SECONDS at least."""
        pause = min(seconds, PAUSE_SECONDS)
        await asyncio.sleep(pause)
        await wait(self._given, seconds - pause)
        self._given.clear()
