"""Follower, TRON adapter and simulated node together: the table is what the chain truly moved."""

from __future__ import annotations

from random import Random

import asyncpg
import pytest

from indexer import coins, config, coverage, origin
from indexer.chains import NATIVE
from indexer.chains.families import open_chain
from indexer.cursors import Stale
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_node import TronNode
from indexer.devnet.tron_traffic import TronTraffic
from indexer.follower import Follower, Outcome
from indexer.model import Unavailable
from indexer.scan import Scanner
from indexer.watchset import WatchSet

BLOCKS = 60


def settings(*urls: str, **more: object) -> config.Network:
    table = {
        "id": "simulated",
        "family": "tron",
        "endpoints": list(urls),
        "confirmations": 4,
        **more,
    }
    return config.TronNetwork.model_validate(config.TronNetwork.filled(table))


async def step(follower: Follower) -> Outcome | None:
    try:
        return await follower.step()
    except (Stale, Unavailable):
        return None


@pytest.mark.parametrize("quorum", [1, 2])
@pytest.mark.pitfall("P67", "P69", "P70", "P71", "P73", "P74", "P76", "P84")
async def test_after_traffic_and_forks_the_deposits_are_what_the_chain_moved(
    pool: asyncpg.Pool, quorum: int
) -> None:
    chain = SimulatedTron(seed=7, finality=12)
    addresses = [bytes([n]) * 20 for n in range(1, 6)]
    traffic = TronTraffic(chain, addresses, Random(7))
    await pool.execute("insert into network (id, family) values ('simulated', 'tron')")
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    async with TronNode(chain) as node, TronNode(chain) as witness:
        network = settings(node.url, witness.url, quorum=quorum)
        tron = open_chain("simulated", network)
        try:
            await tron.connect()
            await origin.begin(pool, tron, "simulated", network)
            async with pool.acquire() as connection, connection.transaction():
                for number, token in enumerate(traffic.assets):
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
            follower = Follower("simulated", network, tron, pool, watch)
            scanner = Scanner("simulated", network, tron, pool, watch)
            outcomes = set()
            for number in range(BLOCKS):
                traffic.step()
                node.hidden, node.without_infos = number % 5 == 1, number % 5 == 3  # it lags
                chain.stalled = 20 < number < 35
                if number % 7:  # now and then the follower falls behind
                    outcomes.add(await step(follower))
            node.hidden = node.without_infos = 0
            while (outcome := await step(follower)) is not Outcome.IDLE:
                outcomes.add(outcome)
            while await scanner.step():
                pass
            await follower.close()
        finally:
            await tron.close()
    assert {Outcome.EXTENDED, Outcome.REORGANISED} <= outcomes
    due = traffic.due()
    rows = await pool.fetch("select * from deposit where state <> 'orphaned'")
    assert {
        (r["tx"], r["address"], r["asset"], r["ordinal"]): (
            r["units"], r["sender"], r["height"], r["hash"], r["reason"] == "unknown_shape",
        )
        for r in rows
    } == {i: (d.units, d.sender, d.height, d.hash, d.odd) for i, d in due.items()}  # fmt: skip
    assert {NATIVE, *traffic.assets} == {r["asset"] for r in rows}
    assert await pool.fetchval("select count(*) from deposit where state = 'orphaned'") > 0
