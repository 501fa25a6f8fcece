"""Who goes first in a process: a follower with a new block in hand, before the past is read on.

Proofs keep a core busy for milliseconds a block, so between two blocks of the past a scan lets
whoever follows the tip finish. Whether work gives way is part of the context in which its tasks are
made: the adapters ask nobody whose work it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final

GIVE_WAY_SECONDS: Final = 2.0  # at most, between two blocks: a slow node must not stop all scans


class Turn:
    """Taken by followers at the tip; free while none of them has anything in hand."""

    def __init__(self) -> None:
        self._taken = 0
        self._free = asyncio.Event()
        self._free.set()

    @contextmanager
    def taken(self) -> Iterator[None]:
        self._taken += 1
        self._free.clear()
        try:
            yield
        finally:
            self._taken -= 1
            if not self._taken:
                self._free.set()

    async def free(self) -> None:
        """Wait until nobody has it, or for long enough."""
        if self._free.is_set():
            return
        with suppress(TimeoutError):  # wait_for would lose a cancellation that comes as it frees
            async with asyncio.timeout(GIVE_WAY_SECONDS):
                await self._free.wait()


_before_us: Final[ContextVar[Turn | None]] = ContextVar("before_us", default=None)


def give_way_to(turn: Turn) -> None:
    """From now on this task, and those it makes, let others go first."""
    _before_us.set(turn)


def gives_way() -> bool:
    """Whether others go before this task."""
    return _before_us.get() is not None


async def give_way() -> None:
    """Called between two pieces of work that keep a core busy: others have their turn."""
    await asyncio.sleep(0)
    if (turn := _before_us.get()) is not None:
        await turn.free()
