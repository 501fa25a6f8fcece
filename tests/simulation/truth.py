"""What is true, read off the chain that the nodes serve and not off any answer of theirs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, TypeAlias

from indexer.devnet.evm_block import Block
from indexer.devnet.truth import Due, deposits_due
from tests.simulation.nodes import Chain

NOWHERE: Final = bytes(32)

Movement: TypeAlias = tuple[bytes, bytes, bytes, int]  # transaction, address, asset, ordinal


class Identity(NamedTuple):
    """A deposit's, within one network."""

    account: str
    tx: bytes
    address: bytes
    asset: bytes
    ordinal: int

    @property
    def movement(self) -> Movement:
        return self[1:]


class Truth:
    """What each block there ever was pays, remembered by its hash."""

    def __init__(self, chain: Chain, addresses: Collection[bytes], assets: Collection[bytes]):
        self._chain = chain
        self._addresses = [*addresses]
        self._assets = assets
        self._paid: dict[bytes, dict[Movement, Due]] = {}

    def add(self, address: bytes) -> None:
        """Another that may be watched, which no block has paid yet."""
        self._addresses.append(address)

    def block(self, block_hash: bytes) -> Block | None:
        return self._chain.block(block_hash)

    def paid(self, block: Block) -> dict[Movement, Due]:
        """What one block pays to anybody who may be watched."""
        if block.hash not in self._paid:
            self._paid[block.hash] = deposits_due(
                [block], self._addresses, self._assets, internal=True
            )
        return self._paid[block.hash]

    def branch(self, block_hash: bytes) -> Iterator[Block]:
        """From a block down to the genesis."""
        block = self._chain.block(block_hash)
        while block is not None:
            yield block
            block = self._chain.block(block.parent)

    def final(self) -> dict[Movement, Due]:
        """All that the chain pays as it stands."""
        paid: dict[Movement, Due] = {}
        for block in self._chain.branch():
            paid |= self.paid(block)
        return paid

    def ever(self) -> Iterator[tuple[Movement, Due]]:
        """All that any block of any branch pays."""
        for block in self._chain.every():
            yield from self.paid(block).items()
