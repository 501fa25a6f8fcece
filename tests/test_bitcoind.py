"""The engine against a real node in regtest: litecoind, and bitcoind where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from indexer import config, coverage, origin
from indexer.chains import NATIVE, Chain, Transfer
from indexer.chains.families import open_chain
from indexer.follower import Follower, Outcome
from indexer.watchset import WatchSet
from tests.evm_samples import Watching
from tests.harness.bitcoind import MATURITY, MWEB_HEIGHT, Bitcoind, programs, running

pytestmark = pytest.mark.bitcoind

NETWORK = "real"
KINDS = ("legacy", "p2sh-segwit", "bech32")
each_node = pytest.mark.parametrize(("coin", "program"), programs())


@dataclass
class World:
    """A node, and a follower of it with a database behind."""

    node: Bitcoind
    chain: Chain
    follower: Follower
    pool: asyncpg.Pool

    async def watch(self, *addresses: str) -> None:
        keys = [coverage.NewAddress(self.chain.codec.parse_address(each)) for each in addresses]
        async with self.pool.acquire() as connection, connection.transaction():
            await coverage.register_addresses(connection, NETWORK, "a", keys, silent=False)

    async def follow(self) -> set[Outcome]:
        """Step until there is nothing to do; what the steps were."""
        outcomes: set[Outcome] = set()
        while (outcome := await self.follower.step()) is not Outcome.IDLE:
            outcomes.add(outcome)
            assert outcome not in (Outcome.HALTED, Outcome.FORKED), self.follower.reason
        return outcomes

    async def deposits(self) -> list[dict[str, Any]]:
        rows = await self.pool.fetch("select * from deposit order by height, tx, ordinal")
        return [dict(row) for row in rows]

    async def events(self) -> list[str]:
        rows = await self.pool.fetch("select type from event order by account, position")
        return [row["type"].removeprefix("deposit.") for row in rows]


@asynccontextmanager
async def world(
    pool: asyncpg.Pool, coin: str, program: str, folder: Path, **more: Any
) -> AsyncIterator[World]:
    await pool.execute("insert into network (id, family) values ($1, 'utxo')", NETWORK)
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    async with running(program, folder / "node") as node:
        await node.mine(MATURITY + 10)
        table = {
            "id": NETWORK,
            "family": "utxo",
            "coin": coin,
            "chain": "regtest",
            "endpoints": [node.url],
            "confirmations": 3,
            **more,
        }
        network = config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table))
        chain = open_chain(NETWORK, network)
        try:
            await chain.connect()
            await origin.begin(pool, chain, NETWORK, network)
            watch = WatchSet(NETWORK, network.reorg_window)
            follower = Follower(NETWORK, network, chain, pool, watch)
            yield World(node, chain, follower, pool)
            await follower.close()
        finally:
            await chain.close()


@each_node
@pytest.mark.pitfall("P87", "P89", "P93", "P97")
async def test_each_kind_of_address_and_three_equal_outputs(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    async with world(pool, coin, program, tmp_path) as w:
        addresses = [await w.node.address(kind) for kind in KINDS]
        thrice = await w.node.address()
        assert [
            w.chain.codec.format_address(w.chain.codec.parse_address(a)) for a in addresses
        ] == (addresses)
        await w.watch(*addresses, thrice)
        await w.follow()
        amounts = ("0.00123456", "1", "20.99769999")
        txid = await w.node.pay(*zip(addresses, amounts, strict=True), *[(thrice, "0.5")] * 3)
        await w.follow()
        assert await w.deposits() == []  # unconfirmed
        await w.node.mine()
        await w.follow()
        found = await w.deposits()
        assert [(d["tx"].hex(), d["ordinal"], d["units"], d["state"]) for d in found] == [
            (txid, 0, 123_456, "detected"),
            (txid, 1, 10**8, "detected"),
            (txid, 2, 2_099_769_999, "detected"),
            *[(txid, n, 5 * 10**7, "detected") for n in (3, 4, 5)],
        ]
        await w.node.mine(2)
        await w.follow()
        assert {d["state"] for d in await w.deposits()} == {"confirmed"}
        assert await w.events() == ["detected"] * 6 + ["confirmed"] * 6


@each_node
@pytest.mark.pitfall("P87", "P98")
async def test_a_payment_replaced_by_fee_is_never_a_deposit(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    async with world(pool, coin, program, tmp_path) as w:
        address = await w.node.address()
        await w.watch(address)
        await w.follow()
        replaced = await w.node.call("sendtoaddress", address, 1)
        bumped = (await w.node.call("bumpfee", replaced))["txid"]
        await w.follow()
        assert await w.deposits() == []
        await w.node.mine(3)
        await w.follow()
        assert [d["tx"].hex() for d in await w.deposits()] == [bumped]
        assert bumped != replaced
        assert await w.events() == ["detected", "confirmed"]


@each_node
@pytest.mark.pitfall("P99", "P109")
async def test_reorganisations_of_every_depth_are_quiet_where_all_is_mined_again(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    async with world(pool, coin, program, tmp_path) as w:
        for depth in range(1, 11):
            address = await w.node.address()  # what it pays to itself would be no deposit
            await w.watch(address)
            await w.follow()
            before = await w.node.height()
            txid = await w.node.pay((address, "0.25"))
            await w.node.mine(depth)
            await w.follow()
            seen = len(await w.events())
            await w.node.call("invalidateblock", await w.node.hash(before + 1))
            await w.node.mine(depth + 1)
            assert Outcome.REORGANISED in await w.follow()
            (found,) = [d for d in await w.deposits() if d["tx"].hex() == txid]
            assert found["hash"].hex() == await w.node.hash(found["height"])
            assert found["state"] in ("detected", "confirmed")
            assert "orphaned" not in await w.events()
            assert len(await w.events()) - seen <= 1  # it may have become deep enough
        assert len(await w.deposits()) == 10


@each_node
@pytest.mark.pitfall("P87", "P109")
async def test_a_payment_that_a_longer_branch_spends_otherwise_is_orphaned(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    async with world(pool, coin, program, tmp_path) as w, running(program, tmp_path / "b") as rival:
        address = await w.node.address()
        await w.watch(address)
        await _copy(w.node, rival)
        before = await w.node.height()
        await w.node.pay((address, "1"))
        await w.node.mine(4)
        await w.follow()
        assert [d["state"] for d in await w.deposits()] == ["confirmed"]
        for longer in range(1, 6):
            await rival.mine()
            await _copy(rival, w.node, before + longer)
        assert await w.node.hash(before + 5) == await rival.hash(before + 5)
        assert Outcome.REORGANISED in await w.follow()
        assert [d["state"] for d in await w.deposits()] == ["orphaned"]
        await w.node.mine(3)  # the node remembers the payment
        await w.follow()
        assert await w.events() == ["detected", "confirmed", "orphaned", "detected", "confirmed"]


async def _copy(source: Bitcoind, target: Bitcoind, first: int = 1) -> None:
    """Hand blocks over, as the network would."""
    for height in range(first, await source.height() + 1):
        raw = await source.call("getblock", await source.hash(height), 0)
        await target.call("submitblock", raw)


@each_node
@pytest.mark.pitfall("P88")
async def test_a_coinbase_counts_once_the_node_lets_it_be_spent(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    async with world(pool, coin, program, tmp_path) as w:
        address = await w.node.address()
        await w.watch(address)
        await w.follow()
        await w.node.mine(1, address)
        await w.node.mine(98)
        await w.follow()
        assert [d["state"] for d in await w.deposits()] == ["detected"]
        coins = await w.node.call("listunspent", 0, 9999, [address])
        assert coins == []  # the node's wallet waits for one block more than the network does
        await w.node.mine()
        await w.follow()
        assert [d["state"] for d in await w.deposits()] == ["confirmed"]


@each_node
@pytest.mark.pitfall("P88", "P101")
async def test_extension_blocks_and_what_leaves_them(
    pool: asyncpg.Pool, coin: str, program: str, tmp_path: Path
) -> None:
    if coin != "ltc":
        pytest.skip("only Litecoin has extension blocks")
    async with world(pool, coin, program, tmp_path) as w:
        address = await w.node.address("legacy")
        await w.node.mine(MWEB_HEIGHT - 1 - await w.node.height())
        await w.node.call("sendtoaddress", await w.node.address("mweb"), 10)  # the first peg-in
        await w.node.mine()
        await _hide_all_but_pegged(w.node)
        await w.node.call("sendtoaddress", address, 5)
        await w.node.mine(2)
        found = await _paid(w.chain, address, MWEB_HEIGHT, await w.node.height())
        assert [(t.ordinal > 0, t.units, t.sender, t.maturity) for t in found] == [
            (True, 5 * 10**8, None, 6)
        ]


async def _hide_all_but_pegged(node: Bitcoind) -> None:
    """Leave the wallet only what stands in the extension block, so that it must leave it."""
    coins = [c for c in await node.call("listunspent", 0) if "vout" in c and "txid" in c]
    await node.call("lockunspent", False, [{"txid": c["txid"], "vout": c["vout"]} for c in coins])


async def _paid(chain: Chain, address: str, first: int, last: int) -> Sequence[Transfer]:
    watch = Watching([NATIVE], [chain.codec.parse_address(address)])
    return [t async for block in chain.blocks(first, last) for t in chain.transfers(block, watch)]
