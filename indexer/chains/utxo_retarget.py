"""How much easier than its parent a block may have been to find.

A header's own `bits` prove only the work that they ask for. Held against its parent's, a lying node
can't go on from the true head with blocks that a moment's work makes: each costs what a true one
costs, or a quarter (Dogecoin: two thirds) where the network itself may retarget so far. On test
networks a block may ask for next to no work after a pause: there only more work, or a second node,
tells.

Sources: `pow.cpp` of Bitcoin Core and Litecoin Core (PermittedDifficultyTransition), of which this
is the half that refuses less work; `dogecoin.cpp` of Dogecoin Core (DigiShield).
"""

from __future__ import annotations

from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_proof import NotProved, target


def prove_target(header: bytes, parent: bytes, height: int, network: Parameters) -> None:
    """Raises NotProved where a header at a height asks for less work than may follow its parent."""
    rules = [each for each in network.retargets if each.since <= height]
    if not rules:
        return
    most = target(int.from_bytes(parent[72:76], "little"))
    if height % rules[-1].interval == 0:
        most = most * rules[-1].easier[0] // rules[-1].easier[1]
    if target(int.from_bytes(header[72:76], "little")) > most:
        raise NotProved("a block asks for less work than may follow the one before it")
