"""One process follows networks of several families; one that goes away leaves the others alone."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg

from indexer.devnet.evm_chain import CHAIN_ID, SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.tron_chain import SimulatedTron
from tests.harness.api import Client
from tests.harness.engine import ADMIN_KEY, engine
from tests.harness.scene import LOOK, PATIENCE, POLL, started
from tests.harness.tron import Twisted, twisted_nodes
from tests.harness.world import network

SECONDS = 3.0  # in which a network must follow a block while the other's node is gone


async def reach(database: asyncpg.Connection, name: str, block: bytes) -> None:
    """Wait until a network's cursor is at a block."""
    async with asyncio.timeout(PATIENCE):
        question = "select hash = $2 from cursor where network = $1"
        while not await database.fetchval(question, name, block):
            await asyncio.sleep(LOOK)


def gone(node: Twisted) -> None:
    node.twist = lambda *_: None


async def test_a_node_that_goes_away_leaves_the_other_family_at_its_pace(
    dsn: str, tmp_path: Path
) -> None:
    evm, tron = SimulatedChain(1, finality=3), SimulatedTron(1, finality=3)
    async with EvmNode(evm) as evm_node, twisted_nodes(tron) as (tron_node,):
        networks = {
            "ethereum": network(evm_node.url, chain_id=CHAIN_ID),
            "tron": {
                "family": "tron",
                "endpoints": [tron_node.url],
                "confirmations": 2,
                "poll_interval": POLL,
            },
        }
        database = await asyncpg.connect(dsn)
        try:
            async with (
                engine(tmp_path, dsn, networks) as running,
                Client(running.base, ADMIN_KEY) as admin,
            ):
                await started(admin, "ethereum", "tron")
                gone(tron_node)
                tron.mine()
                begun = time.monotonic()
                for _ in range(5):
                    await reach(database, "ethereum", evm.mine().hash)
                assert time.monotonic() - begun < SECONDS
                tron_node.twist = None
                await reach(database, "tron", tron.mine().hash)
        finally:
            await database.close()
