"""Now and then the endpoints are compared: who lags, and who names other blocks than the rest.

Beside the work: the followed head waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from indexer.chains import Header
from indexer.chains.failover import Disagreeing, Endpoints, Lagging
from indexer.chains.rpc import Endpoint

LAG_BLOCKS: Final = 10  # behind the best head seen: no endpoint to follow or to return to
COMPARE_SECONDS: Final = 15.0  # between two looks at the others' heads
# Below the lowest head: the tips of two honest nodes may differ, blocks so deep hardly ever do.
DEPTH_BLOCKS: Final = 10


class Lookout:
    """Compares a network's endpoints by the heads and headers that they name."""

    def __init__(
        self,
        endpoints: Endpoints,
        head: Callable[[Endpoint], Awaitable[Header]],
        header: Callable[[Endpoint, int], Awaitable[Header | None]],
        clock: Callable[[], float],
    ) -> None:
        self.best_head = 0  # that any of them named
        self._endpoints = endpoints
        self._head = head
        self._header = header
        self._clock = clock
        self._due = 0.0
        self._looking: asyncio.Task[None] | None = None

    def see(self, tip: Header) -> None:
        """The followed head; compare it if it is time."""
        self.best_head = max(self.best_head, tip.height)
        idle = self._looking is None or self._looking.done()
        if idle and self._endpoints.several and self._clock() >= self._due:
            self._due = self._clock() + COMPARE_SECONDS
            self._looking = asyncio.create_task(self._look(tip))

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self, tip: Header) -> None:
        followed = self._endpoints.followed
        outcomes = await self._endpoints.at_others(followed, self._head)
        heads = {endpoint: o for endpoint, o in outcomes if isinstance(o, Header)}
        heads[followed] = tip
        best = max(head.height for head in heads.values())
        self.best_head = max(self.best_head, best)
        for endpoint, head in heads.items():
            if head.height < best - LAG_BLOCKS:
                behind = f"{endpoint.name} is {best - head.height} blocks behind"
                self._endpoints.leave(endpoint, Lagging(behind))
        await self._compare(min(head.height for head in heads.values()) - DEPTH_BLOCKS)

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
