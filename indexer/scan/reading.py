"""Past blocks, read again: what of them may concern somebody, kept until it is booked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from indexer import balances
from indexer.balances import Checks
from indexer.booking import Found
from indexer.chains import Chain, Header
from indexer.watchset import WatchSet, Widened


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of the blocks first..last.

    `headers` are those of the blocks that were fetched, in order: all of them, linked, or but a
    few (`linked` is False), where a node was asked which ones to look at.
    """

    first: int
    last: int
    headers: list[Header]
    found: list[Found]
    checks: Checks
    linked: bool = True

    def parts(self, transfers: int) -> Iterator[Reading]:
        """The same in pieces of whole blocks, each with about so many transfers at most."""
        first, held, found = self.first, 0, list[Found]()
        for each in self.found:
            if held and held + len(each.transfers) > transfers:
                yield self._part(first, each.header.height - 1, found)
                first, held, found = each.header.height, 0, []
            held += len(each.transfers)
            found.append(each)
        yield self._part(first, self.last, found)

    def _part(self, first: int, last: int, found: list[Found]) -> Reading:
        headers = [header for header in self.headers if first <= header.height <= last]
        return Reading(first, last, headers, found, self.checks, self.linked)


async def read(chain: Chain, watch: WatchSet | Widened, first: int, last: int) -> Reading:
    """Fetch, prove and decode first..last, and ask about the balances that must agree.

    Raises Unavailable where the node falls short.
    """
    headers: list[Header] = []
    found: list[Found] = []
    checks: dict[tuple[bytes, bytes, bytes], bool | None] = {}
    async for block in chain.blocks(first, last):
        headers.append(block.header)
        if transfers := chain.transfers(block, watch):
            found.append(Found(block.header, transfers))
            checks |= await balances.check(chain, [block], watch)
    return Reading(first, last, headers, found, checks)
