"""A scripted-random source of traffic for the demo and tests: payments, noise, cheats, reorgs.

What is paid and how is each family's own; when, and what becomes of it in a reorganisation, is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Generic, TypeVar

from indexer.devnet.chain import B, MemoryChain
from indexer.devnet.truth import Due, Identity

PAYERS: Final = 5
STRANGERS: Final = 8
REORG_DEPTH: Final = 3  # blocks, at most
REORG_EVERY: Final = (4, 9)  # steps between two reorganisations, at least and at most
REORG_LONGER: Final = (1, 2)  # blocks by which a new branch is longer, at least and at most
CANCELLED: Final = 0.2  # part of a reorganised block's transactions that are double-spent
HELD_BACK: Final = 0.15  # that wait for a later block
PER_STEP: Final = (1, 4)  # pieces of traffic before a block

C = TypeVar("C", bound=MemoryChain[Any, Any])


@dataclass(frozen=True, slots=True)
class Step(Generic[B]):
    """What a step did: new blocks, of which the first `depth` replaced others (0: none did)."""

    blocks: Sequence[B]
    depth: int


class Traffic(ABC, Generic[B, C]):
    """Pays `addresses` over `chain`, in every way that must count and in some that must not.

    `own`: the address of a hot wallet that pays them as well, and is paid.
    """

    own: bytes

    def __init__(self, chain: C, addresses: Sequence[bytes], rng: Random) -> None:
        self.chain = chain
        self.addresses = list(addresses)
        self._rng = rng
        self._first = chain.head.number + 1
        self._until_reorg = rng.randint(*REORG_EVERY)
        self._kinds: list[tuple[Callable[[], None], int]] = []  # with how often they are chosen

    @property
    def assets(self) -> tuple[bytes, ...]:
        """Everything to register, native coin aside."""
        return ()

    @abstractmethod
    def due(self) -> dict[Identity, Due]:
        """What the chain, as it stands, has paid to the addresses since this traffic began."""

    def step(self) -> Step[B]:
        """New traffic and a block with it; now and then a reorganisation instead of the block."""
        self._until_reorg -= 1
        depth = min(self._rng.randint(1, REORG_DEPTH), self.chain.head.number - self._first + 1)
        if self._until_reorg <= 0 and depth > 0:
            self._until_reorg = self._rng.randint(*REORG_EVERY)
            return self._reorganise(depth)
        kinds, weights = zip(*self._kinds, strict=True)
        for queue in self._rng.choices(kinds, weights, k=self._rng.randint(*PER_STEP)):
            queue()
        return Step([self._mine()], 0)

    def quiet(self, blocks: int = 1) -> Step[B]:
        """Blocks without new traffic; what waits in the mempool is mined."""
        return Step([self.chain.mine() for _ in range(blocks)], 0)

    def _mine(self) -> B:
        block: B = self.chain.mine()
        return block

    def _reorganise(self, depth: int) -> Step[B]:
        cancel = self._some(CANCELLED, self._mined(depth))
        hold = self._some(HELD_BACK, self._mined(depth))
        longer = self._rng.randint(*REORG_LONGER)
        return Step(self.chain.reorg(depth, longer=longer, cancel=cancel, hold=hold), depth)

    def _mined(self, depth: int) -> list[bytes]:
        """The transactions of the last `depth` blocks."""
        blocks = self.chain.branch(self.chain.head.number - depth + 1)
        return [tx.hash for block in blocks for tx in self.chain.transactions(block)]

    def _some(self, part: float, hashes: Iterable[bytes]) -> set[bytes]:
        return {each for each in hashes if self._rng.random() < part}

    def _watched(self) -> bytes:
        return self._rng.choice(self.addresses)
