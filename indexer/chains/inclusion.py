"""How adapters find evidence of a transfer: at a node that still has its block, decoded alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from indexer.chains import Transfer
from indexer.chains.evidence import Proof
from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.model import Refused, Unavailable

log = structlog.get_logger()


class Only:
    """A watch set of one transfer's asset and recipient."""

    def __init__(self, transfer: Transfer) -> None:
        self.assets = frozenset([transfer.asset])
        self._recipient = transfer.recipient

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return [key == self._recipient for key in keys]


def shows(found: Iterable[Transfer], transfer: Transfer) -> bool:
    """Whether a transfer is among those that evidence alone was decoded to."""
    return any(
        (each.tx, each.ordinal, each.units) == (transfer.tx, transfer.ordinal, transfer.units)
        for each in found
        if not each.odd
    )


async def from_any(
    endpoints: Endpoints,
    block: str,
    prove: Callable[[Endpoint], Awaitable[Proof]],
    lacking: tuple[type[Unavailable], ...],
) -> Proof:
    """What the first endpoint gives that still has a block; Refused where none has.

    `lacking`: what `prove` raises where an endpoint answers, but not with this block as it was.
    That counts as no failure: a pruned node serves every new block.
    """

    async def ask(endpoint: Endpoint) -> Proof | None:
        try:
            return await prove(endpoint)
        except lacking as error:
            log.info("no_proof", block=block, endpoint=endpoint.name, reason=str(error))
            return None

    proof = await endpoints.at_each(ask)
    if proof is None:
        raise Refused(f"no node gives block {block} any more, or gives it so that it proves")
    return proof
