"""Where a Bitcoin-like node has a transaction, by its own word.

Without `txindex` a node finds what waits to be mined, and what has an unspent output.
"""

from __future__ import annotations

from typing import Final

from indexer.chains import NATIVE, Sighting
from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.chains.sightings import from_any
from indexer.chains.utxo_node import UtxoNode
from indexer.model import Refused

OUTPUTS: Final = 100  # of a transaction, that an unspent one is looked for among


async def find(node: UtxoNode, endpoints: Endpoints, tx: bytes) -> Sighting | None:
    """As the port says."""
    unindexed: list[str] = []

    async def ask(endpoint: Endpoint) -> Sighting | None:
        found, indexed = await node.transaction(endpoint, tx)
        if found is not None and found.blockhash is None:
            return Sighting(endpoint.name)
        if found is not None and found.blockhash is not None:
            block = bytes.fromhex(found.blockhash)
            return _mined(endpoint, (await node.place(endpoint, block))[1].height, block)
        if indexed:
            return None
        unindexed.append(endpoint.name)
        height = await node.height_of_unspent(endpoint, tx, range(OUTPUTS))
        if height is None:
            return None
        (block,) = await node.hashes(endpoint, [height])
        return _mined(endpoint, height, block)

    sighting = await from_any(endpoints, ask)
    if sighting is None and unindexed:
        raise Refused(
            f"{unindexed[0]} doesn't know it, but keeps no index of transactions (txindex): "
            f"it finds those that wait, and those with an unspent output"
        )
    return sighting


def _mined(endpoint: Endpoint, height: int, block: bytes) -> Sighting:
    return Sighting(endpoint.name, height, block, executed=True, assets=frozenset([NATIVE]))
