"""Blocks that a node names by their logs. That it names all of them is not to be proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexer.chains.answers import NotProved
from indexer.chains.evm_fetch import ROUND_COUNT
from indexer.chains.evm_wire import WireLog, quantity, sized
from indexer.chains.rpc import Endpoint, TooLarge


def blocks_of(endpoint: Endpoint, logs: Sequence[WireLog], heights: range) -> Mapping[int, bytes]:
    """Height and hash of the blocks of some logs, which must be within what was asked for.

    Raises TooLarge where the answer may have been cut off.
    """
    if logs and len(logs) % ROUND_COUNT == 0:
        raise TooLarge(f"{endpoint.name} gives {len(logs)} logs: maybe not all that there are")
    named: dict[int, bytes] = {}
    for log in logs:
        height, block_hash = quantity(log.block_number), sized(log.block_hash, 32)
        if height not in heights or named.setdefault(height, block_hash) != block_hash:
            raise NotProved(f"{endpoint.name} names a log of block {height} that can't be")
    return named
