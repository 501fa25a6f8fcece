"""One process follows networks of every family; one that goes away leaves the others alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from indexer.devnet.chain import MemoryChain
from indexer.devnet.evm_chain import CHAIN_ID, SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from tests.harness import utxo
from tests.harness.api import Client
from tests.harness.engine import ADMIN_KEY, engine
from tests.harness.faults import Dead
from tests.harness.proxy import proxy
from tests.harness.scene import CONFIRMATIONS, LOOK, PATIENCE, POLL, started
from tests.harness.tron import twisted_nodes
from tests.harness.world import network

BLOCKS = 5
SECONDS = 3.0  # in which the others must follow as many blocks while one node is gone


@dataclass
class Followed:
    """A network, and how its node is made to go away for a while."""

    chain: MemoryChain[Any, Any]
    settings: dict[str, Any]
    away: Callable[[], AbstractContextManager[object]]


@asynccontextmanager
async def one_of_each() -> AsyncIterator[dict[str, Followed]]:
    evm, coins = SimulatedChain(1, finality=3), SimulatedUtxoChain(1)
    tron = SimulatedTron(1, finality=3)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        evm_node = await enter(proxy((await enter(EvmNode(evm))).url))
        utxo_node = await enter(proxy((await enter(UtxoNode(coins))).url))
        (tron_node,) = await enter(twisted_nodes(tron))
        tron_table = {
            "family": "tron",
            "endpoints": [tron_node.url],
            "confirmations": CONFIRMATIONS,
            "poll_interval": POLL,
        }
        yield {
            "ethereum": Followed(
                evm,
                network(evm_node.url, chain_id=CHAIN_ID),
                lambda: evm_node.fault(Dead()),
            ),
            "tron": Followed(
                tron, tron_table, lambda: tron_node.twisted(lambda *_: web.Response(status=500))
            ),
            "bitcoin": Followed(
                coins, utxo.settings("btc", utxo_node.url), lambda: utxo_node.fault(Dead())
            ),
        }


async def unreachable(admin: Client) -> str:
    """Wait until a network is said to be so; which one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            for each in (await admin.get("/v1/networks"))["items"]:
                if each["state"] == "unreachable":
                    return str(each["network"])
            await asyncio.sleep(LOOK)


async def reach(database: asyncpg.Connection, name: str, block: bytes) -> None:
    """Wait until a network's cursor is at a block."""
    async with asyncio.timeout(PATIENCE):
        question = "select hash = $2 from cursor where network = $1"
        while not await database.fetchval(question, name, block):
            await asyncio.sleep(LOOK)


@pytest.mark.parametrize("gone", ["ethereum", "tron", "bitcoin"])
async def test_a_node_that_goes_away_leaves_the_other_families_at_their_pace(
    dsn: str, tmp_path: Path, gone: str
) -> None:
    database = await asyncpg.connect(dsn)
    try:
        async with one_of_each() as networks:
            tables = {name: followed.settings for name, followed in networks.items()}
            async with (
                engine(tmp_path, dsn, tables) as running,
                Client(running.base, ADMIN_KEY) as admin,
            ):
                await started(admin, *networks)
                with networks[gone].away():
                    networks[gone].chain.mine()
                    assert await unreachable(admin) == gone
                    begun = time.monotonic()
                    for _ in range(BLOCKS):
                        for name in networks.keys() - {gone}:
                            await reach(database, name, networks[name].chain.mine().hash)
                    assert time.monotonic() - begun < SECONDS
                for name, followed in networks.items():
                    await reach(database, name, followed.chain.mine().hash)
    finally:
        await database.close()
