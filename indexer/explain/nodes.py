"""What the nodes say for `explain`: where a transaction is, and what its proved block moves by it.

The block is decoded by the very code that the follower uses, so that the two can't disagree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from indexer.chains import NATIVE, Block, Chain, Codec, Sighting, Transfer
from indexer.model import Deposit, Refused, Unavailable

ANSWER_SECONDS: Final = 20.0  # for a network's nodes to say all that is asked
ELSEWHERE_SECONDS: Final = 10.0  # for those of the networks that it may have been sent on instead

# A network's adapter for as long as it is entered; Unavailable, Refused.
Reach: TypeAlias = Callable[[str], AbstractAsyncContextManager[Chain]]


@dataclass(slots=True)
class Look:
    """What the nodes of a network said."""

    sighting: Sighting | None = None
    stray: bool = False  # the block that has it is not on the node's own chain any more
    transfers: list[Transfer] = field(default_factory=list)  # of its block, proved
    problem: str | None = None  # why they could not be asked all of it


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What the nodes of the other networks said."""

    found: Sequence[str] = ()
    not_there: Sequence[str] = ()
    not_asked: Sequence[str] = ()


class _Everything:
    """A watch set of all recipients."""

    def __init__(self, assets: Collection[bytes]) -> None:
        self.assets = assets

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return [True] * len(keys)


async def look(reach: Reach, network: str, tx: bytes, deposits: Sequence[Deposit]) -> Look:
    """`deposits`: what the database has of it; where nodes can't find it, they say where it is."""
    seen = Look()
    try:
        async with asyncio.timeout(ANSWER_SECONDS), reach(network) as chain:
            await _look(chain, tx, deposits, seen)
    except TimeoutError:
        seen.problem = f"its nodes did not answer within {ANSWER_SECONDS:g} s"
    except (Unavailable, Refused) as problem:
        seen.problem = str(problem)
    return seen


async def look_elsewhere(reach: Reach, codecs: Mapping[str, Codec], text: str) -> Elsewhere:
    """Whether other networks have a transaction, by its hash as it was written."""
    hashes = {network: tx for network, codec in codecs.items() if (tx := _parsed(codec, text))}
    asked = [_has(reach, network, tx) for network, tx in hashes.items()]
    answers = dict(zip(hashes, await asyncio.gather(*asked), strict=True))
    said = {is_so: [n for n, a in answers.items() if a is is_so] for is_so in (True, False, None)}
    return Elsewhere(found=said[True], not_there=said[False], not_asked=said[None])


async def _look(chain: Chain, tx: bytes, deposits: Sequence[Deposit], seen: Look) -> None:
    try:
        seen.sighting = await chain.transaction(tx)
    except Refused as problem:
        seen.problem = str(problem)
        await _look_where_it_was(chain, tx, deposits, seen)
        return
    if seen.sighting is not None and seen.sighting.height is not None:
        await _read(chain, tx, seen.sighting, deposits, seen)


async def _look_where_it_was(
    chain: Chain, tx: bytes, deposits: Sequence[Deposit], seen: Look
) -> None:
    """In a deposit's own block: some nodes find a transaction by nothing else."""
    for place in {deposit.place.hash: deposit.place for deposit in deposits}.values():
        there = Sighting("", place.height, place.hash, executed=True, assets=frozenset([NATIVE]))
        await _read(chain, tx, there, deposits, seen)
        if seen.transfers:
            seen.sighting, seen.problem = there, None
            return


async def _read(
    chain: Chain, tx: bytes, there: Sighting, deposits: Sequence[Deposit], seen: Look
) -> None:
    """Decode the block that has it."""
    assert there.height is not None
    header = await chain.header(there.height)
    seen.stray = header is None or header.hash != there.block
    if seen.stray:
        return
    block = await _block(chain, there.height)
    if block.header.hash != there.block:
        raise Unavailable("the chain moved while it was read: ask again")
    watch = _Everything(there.assets | {deposit.asset for deposit in deposits})
    seen.transfers = [t for t in chain.transfers(block, watch) if t.tx == tx]


async def _block(chain: Chain, height: int) -> Block:
    (block,) = [each async for each in chain.blocks(height, height)]
    return block


async def _has(reach: Reach, network: str, tx: bytes) -> bool | None:
    """None where nobody could be asked."""
    try:
        async with asyncio.timeout(ELSEWHERE_SECONDS), reach(network) as chain:
            return await chain.transaction(tx) is not None
    except (TimeoutError, Unavailable, Refused):
        return None


def _parsed(codec: Codec, text: str) -> bytes | None:
    try:
        return codec.parse_hash(text)
    except Refused:
        return None
