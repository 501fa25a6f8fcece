"""Follower, EVM adapter and simulated node together: the table is what the chain truly moved."""

from __future__ import annotations

from random import Random

import asyncpg
import pytest

from indexer import coins, config, coverage, origin
from indexer.chains import NATIVE
from indexer.chains.families import open_chain
from indexer.cursors import Stale
from indexer.devnet.evm_chain import CHAIN_ID, SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.follower import Follower, Outcome
from indexer.model import Unavailable
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.conftest import SERVERS

BLOCKS = 60


@pytest.fixture(params=list(SERVERS))
def server_name(request: pytest.FixtureRequest) -> str:
    """The follower's SQL on each PostgreSQL that is promised."""
    name = request.param
    assert isinstance(name, str)
    return name


def settings(url: str, **more: object) -> config.Network:
    table = {
        "id": "simulated",
        "family": "evm",
        "chain_id": CHAIN_ID,
        "endpoints": [url],
        "confirmations": 4,
        **more,
    }
    return config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))


async def step(follower: Follower) -> Outcome | None:
    try:
        return await follower.step()
    except (Stale, Unavailable):
        return None


@pytest.mark.parametrize("verify", ["full", "bloom", "off"])
@pytest.mark.pitfall("P1", "P5", "P6", "P8", "P9", "P10", "P20", "P21", "P22", "P24", "P26", "P38")
async def test_after_traffic_and_reorgs_the_deposits_are_what_the_chain_moved(
    pool: asyncpg.Pool, verify: str
) -> None:
    chain = SimulatedChain(seed=7, finality=40)
    addresses = [bytes([n]) * 20 for n in range(1, 6)]
    traffic = EvmTraffic(chain, addresses, Random(7))
    await pool.execute("insert into network (id, family) values ('simulated', 'evm')")
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    async with EvmNode(chain) as node:
        network = settings(node.url, native="traces", verify=verify)
        evm = open_chain("simulated", network)
        try:
            await evm.connect()
            await origin.begin(pool, evm, "simulated", network)
            async with pool.acquire() as connection, connection.transaction():
                for number, token in enumerate(traffic.tokens):
                    await coins.register_coin(
                        connection,
                        coins.NewCoin(f"t{number}", "simulated", token, "T", "T", 6),
                    )
                await coverage.register_addresses(
                    connection,
                    "simulated",
                    "a",
                    [coverage.NewAddress(key) for key in addresses],
                    silent=False,
                )
            watch = WatchSet("simulated", network.reorg_window)
            follower = Follower("simulated", network, evm, pool, watch)
            scanner = Scanner("simulated", network, evm, pool, watch)
            outcomes = set()
            for number in range(BLOCKS):
                traffic.step()
                if number % 7:  # now and then it falls behind
                    outcomes.add(await step(follower))
            while (outcome := await step(follower)) is not Outcome.IDLE:
                outcomes.add(outcome)
            while await scanner.step():
                pass
            await follower.close()
        finally:
            await evm.close()
    assert {Outcome.EXTENDED, Outcome.REORGANISED} <= outcomes
    due = traffic.due()
    rows = await pool.fetch("select * from deposit where state <> 'orphaned'")
    assert {
        (r["tx"], r["address"], r["asset"], r["ordinal"]): (
            r["units"], r["sender"], r["height"], r["hash"], r["reason"] == "unknown_shape",
        )
        for r in rows
    } == {i: (d.units, d.sender, d.height, d.hash, d.odd) for i, d in due.items()}  # fmt: skip
    assert {NATIVE, *traffic.tokens} == {r["asset"] for r in rows}
    assert await pool.fetchval("select count(*) from deposit where state = 'orphaned'") > 0
