"""What the simulated chains of all families share: blocks on demand, a mempool, reorganisations.

Deterministic: the same seed, clock and calls give the same hashes. Synchronous: between two calls
nobody sees half a reorganisation. Anything wrongly asked of a chain is a ValueError.
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Generic, Protocol, TypeVar


class Transaction(Protocol):
    @property
    def hash(self) -> bytes: ...


class Block(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def hash(self) -> bytes: ...


B = TypeVar("B", bound=Block)
T = TypeVar("T", bound=Transaction)


def unix_clock() -> int:
    return int(time.time())


class MemoryChain(ABC, Generic[B, T]):
    """A chain that mines when told to. Its family says what blocks hold, and what makes them."""

    def __init__(self, seed: int, clock: Callable[[], int]) -> None:
        self._seed = seed
        self._rng = Random(seed)
        self._clock = clock
        self._mempool: list[T] = []
        self._blocks: dict[bytes, B] = {}  # every block there ever was
        self._branch: list[B] = []  # the chain as it stands, by number

    # ---------------------------------------------------------------- looking

    @property
    def head(self) -> B:
        return self._branch[-1]

    @property
    def waiting(self) -> Sequence[T]:
        """The mempool."""
        return self._mempool

    def block_at(self, number: int) -> B | None:
        return self._branch[number] if 0 <= number < len(self._branch) else None

    def block(self, block_hash: bytes) -> B | None:
        """Any block there ever was: nodes keep side branches."""
        return self._blocks.get(block_hash)

    def is_canonical(self, block: B) -> bool:
        return self.block_at(block.number) is block

    def branch(self, first: int = 0, last: int | None = None) -> Sequence[B]:
        """The blocks of the chain as it stands, from one number to another."""
        return self._branch[first : None if last is None else last + 1]

    @abstractmethod
    def transactions(self, block: B) -> Sequence[T]:
        """What a block holds and another may hold as well: not what its miner makes."""

    # ---------------------------------------------------------------- mining

    @abstractmethod
    def mine(self, pick: Collection[bytes] | None = None) -> B:
        """The next block, with every transaction whose turn it is, or only those in `pick`
        (hashes)."""

    def rewind(self, depth: int) -> list[T]:
        """Take the last `depth` blocks away; their transactions wait in the mempool again."""
        stays = self._stays()
        if not 0 < depth <= self.head.number - stays:
            raise ValueError(f"can't take {depth} blocks: head {self.head.number}, {stays} stays")
        removed = self._branch[-depth:]
        del self._branch[-depth:]
        again = [tx for block in removed for tx in self.transactions(block)]
        self._mempool = again + self._mempool
        return again

    def reorg(
        self,
        depth: int,
        *,
        longer: int = 0,
        cancel: Collection[bytes] = (),
        hold: Collection[bytes] = (),
    ) -> Sequence[B]:
        """Replace the last `depth` blocks by `depth + longer` others; returns those.

        Their transactions are mined again at random places among the first `depth`. `cancel`: not
        those, for good. `hold`: not these, they wait in the mempool. Both are hashes.
        """
        again = self.rewind(depth)
        waiting = self._mempool[len(again) :]
        standing = [self._instead(tx) if tx.hash in cancel else tx for tx in again]
        kept = [tx for tx in standing if tx is not None]
        mined = self._shuffle([tx for tx in kept if tx.hash not in hold])
        self._mempool = mined + [tx for tx in kept if tx.hash in hold] + waiting
        cuts = sorted(self._rng.randint(0, len(mined)) for _ in range(depth - 1))
        for first, last in itertools.pairwise([0, *cuts, len(mined)]):
            self.mine(pick={tx.hash for tx in mined[first:last]})
        for _ in range(longer):
            self.mine(pick=())
        return self._branch[-depth - longer :]

    # ---------------------------------------------------------------- a family's own

    def _stays(self) -> int:
        """The number of the block that no reorganisation takes away."""
        return 0

    def _instead(self, tx: T) -> T | None:
        """What is mined in place of a cancelled transaction."""
        return None

    def _shuffle(self, transactions: list[T]) -> list[T]:
        """Another order in which they can be mined."""
        self._rng.shuffle(transactions)
        return transactions
