"""What traffic, truth and forecast ask of a simulated chain, whatever its family."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from indexer.devnet.evm_block import Payment
from indexer.devnet.evm_machine import Contract


class Transaction(Protocol):
    @property
    def hash(self) -> bytes: ...


class Executed(Protocol):
    @property
    def transaction(self) -> Transaction: ...


class Block(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def executed(self) -> Sequence[Executed]: ...
    def payments(self) -> Iterator[Payment]: ...


class Wallet(Protocol):
    @property
    def address(self) -> bytes: ...


B = TypeVar("B", bound=Block, covariant=True)
W = TypeVar("W", bound=Wallet)


class Chain(Protocol[B, W]):
    """Pays by calling contracts, mines when told to, and reorganises."""

    @property
    def head(self) -> B: ...
    def wallet(self, name: str) -> W: ...
    def deploy(self, name: str, contract: Contract) -> bytes: ...
    def endow(self, asset: bytes, owner: bytes, units: int) -> None: ...
    def send(self, wallet: W, to: bytes, value: int, data: bytes) -> Transaction: ...
    def branch(self, first: int = 0, last: int | None = None) -> Sequence[B]: ...
    def mine(self, pick: Collection[bytes] | None = None, fail: Collection[bytes] = ()) -> B: ...
    def reorg(
        self,
        depth: int,
        *,
        longer: int = 0,
        cancel: Collection[bytes] = (),
        hold: Collection[bytes] = (),
        fail: Collection[bytes] = (),
    ) -> Sequence[B]: ...
