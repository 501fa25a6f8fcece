"""What one follower tells Prometheus of its work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic

from indexer import metrics


class Meter:
    """Of one network, its labels bound once. `clock`: monotonic seconds."""

    def __init__(self, network: str, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._blocks = metrics.BLOCKS.labels(network)
        self._transfers = metrics.TRANSFERS.labels(network)
        self._decode = metrics.DECODE_SECONDS.labels(network)
        self._commit = metrics.COMMIT_SECONDS.labels(network)
        self._latency = metrics.BLOCK_LATENCY_SECONDS.labels(network)
        self._depth = metrics.REORG_DEPTH.labels(network)
        self._head: int | None = None
        self._sighted = clock()

    def sees(self, head: int) -> None:
        """A node named its head."""
        if head != self._head:
            self._head, self._sighted = head, self._clock()

    def decoding(self) -> AbstractContextManager[object]:
        """Around one block's."""
        return self._decode.time()

    def committing(self) -> AbstractContextManager[object]:
        """Around one transaction."""
        return self._commit.time()

    def applied(self, blocks: int, transfers: int, height: int) -> None:
        """Blocks were committed, up to a height."""
        self._blocks.inc(blocks)
        self._transfers.inc(transfers)
        if height == self._head:
            self._latency.observe(self._clock() - self._sighted)

    def reorganised(self, depth: int) -> None:
        """So many blocks of ours were replaced."""
        self._depth.observe(depth)
