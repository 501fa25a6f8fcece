"""A node names the blocks to read: few are read, each is proved, what it leaves out is missing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from indexer import coins, config, coverage, origin
from indexer.booking import COVERED
from indexer.chains import NATIVE, Block, Chain
from indexer.chains.evm_named import blocks_of
from indexer.chains.evm_wire import WireLog
from indexer.chains.families import open_chain
from indexer.chains.rpc import Endpoint, TooLarge
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.follower import Follower, Outcome
from indexer.model import Refused, Unavailable
from indexer.scan import candidates as scan_candidates
from indexer.scan import request as scan_request
from indexer.scan.request import Errand, Request
from indexer.watchset import WatchSet
from tests.test_evm_follow import settings

BLOCKS: Final = 40
NETWORK: Final = "simulated"
PAYEE: Final = b"\x01" * 20


@dataclass
class Scene:
    """A network that was followed to its head; `scan` reads all of it again."""

    pool: asyncpg.Pool
    node: EvmNode
    chain: Chain
    traffic: EvmTraffic[Any, Any]
    rules: config.Network
    read: set[int] = field(default_factory=set)

    async def scan(self) -> None:
        height = await self.pool.fetchval("select height from cursor")
        wanted = Request(NETWORK, 0, height, COVERED, by_logs=True)
        errand = await Errand.open(self.rules, self.chain, self.pool, wanted)
        await errand.run(await scan_request.ask(self.pool, wanted), lambda _: None)

    async def stored(self) -> set[tuple[bytes, bytes, bytes, int]]:
        rows = await self.pool.fetch("select tx, address, asset, ordinal from deposit")
        return {tuple(row) for row in rows}

    def answer_logs(self, made_of: Any) -> None:
        """What the node says when it is asked for logs, of what it would say."""
        honest = self.node._methods["eth_getLogs"]
        self.node._methods["eth_getLogs"] = lambda wanted: made_of(honest(wanted))


@pytest.fixture
async def scene(pool: asyncpg.Pool) -> AsyncIterator[Scene]:
    simulated = SimulatedChain(seed=7, finality=8)
    traffic: EvmTraffic[Any, Any] = EvmTraffic(simulated, [PAYEE], Random(7))
    await pool.execute("insert into network (id, family) values ($1, 'evm')", NETWORK)
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    async with EvmNode(simulated) as node:
        network = settings(node.url, native="transactions", reorg_window=16)
        chain = open_chain(NETWORK, network)
        try:
            await origin.identify(pool, NETWORK, await chain.connect())
            await origin.begin(pool, chain, NETWORK, network)
            async with pool.acquire() as connection, connection.transaction():
                for number, token in enumerate(traffic.tokens):
                    coin = coins.NewCoin(f"t{number}", NETWORK, token, "T", "T", 6)
                    await coins.register_coin(connection, coin)
                payee = coverage.NewAddress(PAYEE)
                await coverage.register_addresses(connection, NETWORK, "a", [payee], silent=False)
            for _ in range(BLOCKS):
                traffic.step()
                simulated.mine()
            follower = Follower(NETWORK, network, chain, pool, WatchSet(NETWORK, 16))
            while await follower.step() is not Outcome.IDLE:
                pass
            await pool.execute("truncate deposit, event, delivery, total cascade")
            scene = Scene(pool, node, chain, traffic, network)
            chain.blocks = counted(chain, scene.read)  # type: ignore[method-assign]
            yield scene
        finally:
            await chain.close()


def counted(chain: Chain, read: set[int]) -> Any:
    blocks = chain.blocks

    async def counting(first: int, last: int) -> AsyncGenerator[Block, None]:
        async for block in blocks(first, last):
            read.add(block.header.height)
            yield block

    return counting


async def test_token_transfers_are_found_by_reading_few_blocks(scene: Scene) -> None:
    await scene.scan()
    due = scene.traffic.due()
    tokens = {i: d for i, d in due.items() if i[2] != NATIVE and not d.odd}
    stored = await scene.stored()
    assert stored <= due.keys()
    assert tokens.keys() <= stored
    assert {d.height for d in tokens.values()} <= scene.read
    assert len(scene.read) < BLOCKS  # of twice as many


async def test_what_the_node_leaves_out_is_missing_and_nothing_else(scene: Scene) -> None:
    scene.answer_logs(lambda logs: logs[::2])
    await scene.scan()
    tokens = {i: d.height for i, d in scene.traffic.due().items() if i[2] != NATIVE}
    found = {i for i in await scene.stored() if i[2] != NATIVE}
    assert found == {i for i, height in tokens.items() if height in scene.read}
    assert 0 < len(found) < len(tokens)


async def test_a_log_of_another_branch_is_not_believed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_request, "BACKOFF_SECONDS", ())
    scene.answer_logs(lambda logs: [{**log, "blockHash": "0x" + "5a" * 32} for log in logs[:1]])
    with pytest.raises(Unavailable, match="changed at block"):
        await scene.scan()
    assert await scene.stored() == set()


async def test_many_addresses_are_refused_before_anything_is_noted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_candidates, "MOST_ADDRESSES", 0)
    with pytest.raises(Refused, match="at most 0 addresses"):
        await scene.scan()
    assert await scene.pool.fetchval("select count(*) from scan where command") == 0


@pytest.mark.pitfall("P58")
def test_an_answer_of_a_round_count_is_asked_for_again_in_less() -> None:
    log = WireLog(
        address="0x", topics=[], data="0x", block_hash="0x" + "11" * 32, block_number="0x5",
        transaction_hash="0x", transaction_index="0x0", log_index="0x0",
    )  # fmt: skip
    endpoint = Endpoint("http://node:8545")
    assert blocks_of(endpoint, [log] * 999, range(4, 6)) == {5: b"\x11" * 32}
    with pytest.raises(TooLarge, match="maybe not all"):
        blocks_of(endpoint, [log] * 1000, range(4, 6))
    with pytest.raises(Unavailable, match="that can't be"):
        blocks_of(endpoint, [log], range(6, 9))
