"""How adapters find a transaction: at whichever node knows it, and at the cost of none.

An endpoint that can't say, as one that serves no such method, may be good for all that a follower
asks: what it owes here counts as no failure of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from indexer.chains import Sighting
from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.model import Unavailable


async def from_any(
    endpoints: Endpoints, look: Callable[[Endpoint], Awaitable[Sighting | None]]
) -> Sighting | None:
    """What the first endpoint says that knows it; None where all say that they don't.

    Unavailable where none knows it and one could not say.
    """
    unsaid: list[str] = []

    async def ask(endpoint: Endpoint) -> Sighting | None:
        try:
            return await look(endpoint)
        except Unavailable as error:
            unsaid.append(str(error))
            return None

    found = await endpoints.at_each(ask)
    if found is None and unsaid:
        raise Unavailable("; ".join(dict.fromkeys(unsaid)))
    return found
