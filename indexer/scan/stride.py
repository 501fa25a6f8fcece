"""How many blocks a scan reads at once: as many as take a while there, few where it fails."""

from __future__ import annotations

from typing import Final

FIRST_BLOCKS: Final = 100
MOST_BLOCKS: Final = 2_000
STRIDE_SECONDS: Final = 5.0  # wanted of one: what is lost when a process dies meanwhile
GROWTH: Final = 2.0  # at most, from one to the next


class Stride:
    """Learnt from what came of the last ones."""

    def __init__(self) -> None:
        self._blocks: float = FIRST_BLOCKS

    @property
    def blocks(self) -> int:
        return int(self._blocks)

    def took(self, blocks: int, seconds: float) -> None:
        """So many were read in that time. A short rest of a range says little of longer ones."""
        if blocks < self.blocks and seconds <= STRIDE_SECONDS:
            return
        fitting = blocks * STRIDE_SECONDS / max(seconds, 0.001)
        self._blocks = max(1.0, min(fitting, self._blocks * GROWTH, MOST_BLOCKS))

    def failed(self) -> None:
        self._blocks = max(1.0, self._blocks / 2)
