"""Now and then the endpoints are compared: who lags, and who names other blocks than the rest.

Beside the work: the followed head waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from indexer.chains import Header
from indexer.chains.failover import Disagreeing, Endpoints, Lagging
from indexer.chains.rpc import Endpoint

LAG_BLOCKS: Final = 10  # behind the others: no endpoint to follow or to return to
COMPARE_SECONDS: Final = 15.0  # between two looks at their heads
HEARD_SECONDS: Final = 120.0  # in which what a look found speaks against who is behind it
# Below the lowest head: the tips of two honest nodes may differ, blocks so deep hardly ever do.
DEPTH_BLOCKS: Final = 10


class Lookout:
    """Compares a network's endpoints by the heads and headers that they name.

    A head counts if its endpoint has a block a little below it, and `quorum` endpoints are there:
    one that names a head too high must not make the others seem behind.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        head: Callable[[Endpoint], Awaitable[Header]],
        header: Callable[[Endpoint, int], Awaitable[Header | None]],
        quorum: int,
        clock: Callable[[], float],
    ) -> None:
        self._endpoints = endpoints
        self._head = head
        self._header = header
        self._quorum = quorum
        self._clock = clock
        self._heads: dict[Endpoint, int] = {}  # that the last look found
        self._looked_at = float("-inf")
        self._due = 0.0
        self._looking: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Begin to compare them, if it is time."""
        idle = self._looking is None or self._looking.done()
        if idle and self._endpoints.several and self._clock() >= self._due:
            self._due = self._clock() + COMPARE_SECONDS
            self._looking = asyncio.create_task(self._look())

    def check(self, endpoint: Endpoint, head: int, announced: int = 0) -> None:
        """Raise Lagging if this head of an endpoint is far below the others', or what it announced.

        What was found long ago speaks against nobody: where a chain began anew at all its nodes,
        it would lock them out for good.
        """
        others = self._heads if self._clock() - self._looked_at < HEARD_SECONDS else {}
        best = self._best([head, *(others[each] for each in others if each is not endpoint)])
        if (behind := max(announced, best) - head) > LAG_BLOCKS:
            raise _lagging(endpoint, behind)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _best(self, heads: Collection[int]) -> int:
        """The highest at which `quorum` endpoints are, or all if there are no more."""
        return sorted(heads, reverse=True)[min(self._quorum, len(heads)) - 1]

    async def _look(self) -> None:
        heads = await self._find_heads()
        if not heads:
            return
        self._heads, self._looked_at = heads, self._clock()
        enough = self._best(heads.values()) - LAG_BLOCKS
        # Asked again: one answered while another took its time, and the chain went on.
        behind = [endpoint for endpoint, head in heads.items() if head < enough]
        for endpoint, again in await self._endpoints.at(behind, self._head):
            if isinstance(again, Header) and again.height < enough:
                blocks = enough + LAG_BLOCKS - again.height
                self._endpoints.leave(endpoint, _lagging(endpoint, blocks))
        await self._compare(min(heads.values()) - DEPTH_BLOCKS)

    async def _find_heads(self) -> dict[Endpoint, int]:
        """The heads that they name, without those below which an endpoint can show no block."""
        outcomes = await self._endpoints.at_all(self._head)
        named = {endpoint: o.height for endpoint, o in outcomes if isinstance(o, Header)}

        async def below(endpoint: Endpoint) -> Header | None:
            return await self._header(endpoint, max(0, named[endpoint] - LAG_BLOCKS))

        heads = {}
        for endpoint, found in await self._endpoints.at(named, below):
            if isinstance(found, Header):
                heads[endpoint] = named[endpoint]
            elif found is None:
                problem = Disagreeing(f"{endpoint.name} names a head that it has no blocks of")
                self._endpoints.blame(endpoint, problem)
        return heads

    async def _compare(self, height: int) -> None:
        """Who stands against most at a height is named; a tie leaves the followed one right."""
        if height < 0:
            return
        followed = self._endpoints.followed

        async def ask(endpoint: Endpoint) -> Header | None:
            return await self._header(endpoint, height)

        outcomes = await self._endpoints.at_all(ask)
        named = {endpoint: o.hash for endpoint, o in outcomes if isinstance(o, Header)}
        if followed not in named:
            return
        votes = Counter(named.values())
        most, count = votes.most_common(1)[0]
        right = most if 2 * count > len(named) else named[followed]
        for endpoint, block in named.items():
            if block != right:
                problem = Disagreeing(f"{endpoint.name} names other blocks than the others")
                self._endpoints.leave(endpoint, problem)


def _lagging(endpoint: Endpoint, behind: int) -> Lagging:
    return Lagging(f"{endpoint.name} is {behind} blocks behind")
