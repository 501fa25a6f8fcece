"""Follower, UTXO adapter and simulated node together: what is credited, when, and what never."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import asyncpg
import pytest

from indexer import coins, config, coverage, origin
from indexer.chains import Chain
from indexer.chains.families import open_chain
from indexer.devnet.utxo_block import Transaction, coinbase
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_wallet import SEGWIT, Kind, UtxoWallet
from indexer.follower import Follower, Outcome
from indexer.scan import Scanner
from indexer.watchset import WatchSet

NETWORK = "simulated"
OUTPUTS = 20_000
HARDER = 0x2003FFFF  # 32 times as hard as regtest asks


@dataclass
class World:
    sim: SimulatedUtxoChain
    chain: Chain
    follower: Follower
    scanner: Scanner
    pool: asyncpg.Pool

    async def watch(self, *wallets: UtxoWallet, **fields: Any) -> None:
        keys = [coverage.NewAddress(wallet.address, **fields) for wallet in wallets]
        async with self.pool.acquire() as connection, connection.transaction():
            await coverage.register_addresses(connection, NETWORK, "a", keys, silent=False)

    async def change(self, settings: dict[str, Any]) -> None:
        """The coin's own settings."""
        codec = self.chain.codec
        async with self.pool.acquire() as connection, connection.transaction():
            await coins.change_coin(connection, NETWORK, codec, 2, "btc", settings)

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.sim.mine()
        await self.follow()

    async def follow(self) -> set[Outcome]:
        outcomes: set[Outcome] = set()
        while (outcome := await self.follower.step()) is not Outcome.IDLE:
            outcomes.add(outcome)
            assert outcome is not Outcome.HALTED, self.follower.reason
        return outcomes

    async def states(self) -> list[tuple[int, str, str | None]]:
        rows = await self.pool.fetch("select units, state, reason from deposit order by units")
        return [(int(row["units"]), row["state"], row["reason"]) for row in rows]


@asynccontextmanager
async def world(pool: asyncpg.Pool, coin: str = "btc", **more: Any) -> AsyncIterator[World]:
    await pool.execute("insert into network (id, family) values ($1, 'utxo')", NETWORK)
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    sim = SimulatedUtxoChain(19, coin)
    sim.mine()
    async with UtxoNode(sim) as node:
        table = {
            "id": NETWORK,
            "family": "utxo",
            "coin": coin,
            "chain": "regtest",
            "endpoints": [node.url],
            "confirmations": 2,
            **more,
        }
        network = config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table))
        chain = open_chain(NETWORK, network)
        try:
            await chain.connect()
            await origin.begin(pool, chain, NETWORK, network)
            watch = WatchSet(NETWORK, network.reorg_window)
            follower = Follower(NETWORK, network, chain, pool, watch)
            scanner = Scanner(NETWORK, network, chain, pool, watch)
            yield World(sim, chain, follower, scanner, pool)
            await follower.close()
        finally:
            await chain.close()


@pytest.mark.parametrize(("confirmations", "after"), [(2, "finalized"), ("finalized", "finalized")])
@pytest.mark.pitfall("P88")
async def test_a_coinbase_waits_for_its_maturity(
    pool: asyncpg.Pool, confirmations: int | str, after: str
) -> None:
    async with world(pool, confirmations=confirmations, reorg_window=10) as w:
        miner = w.sim.wallet("miner")
        await w.watch(miner)
        await w.follow()
        w.sim.mine(reward=miner.script)
        await w.mine(98)
        assert [state for _, state, _ in await w.states()] == ["detected"]
        await w.mine()
        assert [state for _, state, _ in await w.states()] == [after]
        required = await w.pool.fetchval("select required from deposit")
        assert required == (None if confirmations == "finalized" else 100)


@pytest.mark.pitfall("P88")
async def test_changed_settings_leave_a_coinbase_its_maturity(pool: asyncpg.Pool) -> None:
    async with world(pool) as w:
        miner = w.sim.wallet("miner")
        await w.watch(miner)
        await w.follow()
        w.sim.mine(reward=miner.script)
        await w.follow()
        await w.change({"confirmations": 5})
        await w.mine(20)
        assert [state for _, state, _ in await w.states()] == ["detected"]
        assert await w.pool.fetchval("select required from deposit") == 100


@pytest.mark.pitfall("P90")
async def test_new_money_with_the_id_of_older_money_is_the_same_deposit(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As twice in 2010, before a coinbase had to name its height (BIP 30, BIP 34)."""

    def alike(number: int, extra: bytes, *rest: Any) -> Transaction:
        return coinbase(7, b"again", *rest)

    monkeypatch.setattr("indexer.devnet.utxo_chain.coinbase", alike)
    async with world(pool) as w:
        miner = w.sim.wallet("miner")
        await w.watch(miner)
        await w.follow()
        minted = []
        for blocks in (1, 50, 50):
            minted.append(w.sim.mine(reward=miner.script))
            await w.mine(blocks)
        assert len({block.transactions[0].hash for block in minted}) == 1
        assert [state for _, state, _ in await w.states()] == ["detected"]
        assert await w.pool.fetchval("select height from deposit") == minted[-1].number
        await w.mine(49)
        assert [state for _, state, _ in await w.states()] == ["confirmed"]


@pytest.mark.pitfall("P105", "P112")
async def test_what_is_below_the_minimum_is_told_to_nobody(pool: asyncpg.Pool) -> None:
    async with world(pool) as w:
        user, other = w.sim.wallet("user", Kind.P2TR), w.sim.wallet("other")
        await w.watch(user)
        await w.follow()
        await w.change({"minimum": 1000})
        envelope = b"\x20" + bytes(32) + b"\xac\x00\x63\x03ord\x01\x01\x0atext/plain\x00\x02hi\x68"
        coin = replace(w.sim.coin(other), script=b"", witness=(bytes(64), envelope, b"\xc0" * 33))
        w.sim.send([coin], (user.script, 546))  # an inscription rides on it
        w.sim.pay(other, (user.script, 999), (user.script, 1000))
        await w.mine(2)
        below = ("ignored", "below_minimum")
        assert await w.states() == [(546, *below), (999, *below), (1000, "confirmed", None)]
        assert await w.pool.fetchval("select count(distinct deposit) from event") == 1


@pytest.mark.pitfall("P96")
async def test_a_block_that_pays_thousands_of_watched_outputs_is_one_step(
    pool: asyncpg.Pool,
) -> None:
    async with world(pool) as w:
        user, other = w.sim.wallet("user"), w.sim.wallet("other")
        await w.watch(user)
        await w.follow()
        w.sim.pay(other, *[(user.script, units) for units in range(1, OUTPUTS + 1)])
        w.sim.mine()
        assert await w.follower.step() is Outcome.EXTENDED
        assert await w.states() == [(units, "detected", None) for units in range(1, OUTPUTS + 1)]


@pytest.mark.pitfall("P19", "P113")
async def test_what_own_wallets_send_is_internal_and_what_others_add_is_held(
    pool: asyncpg.Pool,
) -> None:
    async with world(pool) as w:
        user, hot = w.sim.wallet("user"), w.sim.wallet("hot", Kind.P2WPKH)
        other, hidden = w.sim.wallet("other"), w.sim.wallet("hidden", Kind.P2TR)
        await w.watch(user)
        await w.watch(hot, role="own")
        await w.follow()
        for units, payers in enumerate(
            ([other], [hidden], [hot], [hot, hot], [hot, hidden], [hot, other], [user, other]), 1
        ):
            w.sim.send([w.sim.coin(payer) for payer in payers], (user.script, units))
        w.sim.pay(other, (hot.script, 99))  # an own wallet's income is no deposit
        await w.mine()
        assert await w.states() == [
            (1, "detected", None),
            (2, "detected", None),
            (3, "ignored", "internal"),
            (4, "ignored", "internal"),
            (5, "ignored", "internal"),  # what can't be known is no stranger
            (6, "held", "mixed_inputs"),
            (7, "held", "mixed_inputs"),
        ]


@pytest.mark.parametrize("kind", [Kind.P2TR, Kind.P2PK])
@pytest.mark.pitfall("P19", "P113")
async def test_own_outputs_that_spending_does_not_reveal_are_remembered(
    pool: asyncpg.Pool, kind: Kind
) -> None:
    async with world(pool) as w:
        user, hot, other = w.sim.wallet("user"), w.sim.wallet("hot", kind), w.sim.wallet("other")
        await w.watch(user)
        await w.watch(hot, role="own")
        await w.follow()
        first = w.sim.pay(other, (hot.script, 50), (hot.script, 60))
        await w.mine()
        w.sim.send([w.sim.spend(hot, first.hash, 0)], (user.script, 1))
        w.sim.send([w.sim.spend(hot, first.hash, 1), w.sim.coin(other)], (user.script, 2))
        same = w.sim.pay(other, (hot.script, 70))
        w.sim.send([w.sim.spend(hot, same.hash, 0)], (user.script, 3))  # of the same block
        w.sim.send([w.sim.spend(hot, bytes(32), 0)], (user.script, 4))  # from before our time
        await w.mine()
        assert await w.states() == [
            (1, "ignored", "internal"),
            (2, "held", "mixed_inputs"),
            (3, "ignored", "internal"),
            (4, "detected", None),
        ]


@pytest.mark.pitfall("P109", "P113")
async def test_an_own_output_that_a_reorganisation_unspends_is_known_when_it_is_spent_again(
    pool: asyncpg.Pool,
) -> None:
    async with world(pool, reorg_window=5) as w:
        user, other = w.sim.wallet("user"), w.sim.wallet("other")
        hot = w.sim.wallet("hot", Kind.P2TR)
        await w.watch(user)
        await w.watch(hot, role="own")
        await w.follow()
        first = w.sim.pay(other, (hot.script, 50))
        await w.mine(2)
        spent = w.sim.send([w.sim.spend(hot, first.hash, 0)], (user.script, 1))
        await w.mine(2)
        w.sim.reorg(2, longer=1, hold={spent.hash})
        for _ in range(10):
            w.sim.mine(pick=())
        await w.follow()
        assert await w.states() == [(1, "orphaned", None)]
        w.sim.send([w.sim.spend(hot, first.hash, 0)], (user.script, 2))  # instead
        await w.mine()
        assert await w.states() == [(1, "orphaned", None), (2, "ignored", "internal")]


@pytest.mark.pitfall("P111", "P113")
async def test_a_backfill_knows_whose_output_was_spent_long_ago(pool: asyncpg.Pool) -> None:
    async with world(pool, reorg_window=5) as w:
        late, other = w.sim.wallet("late"), w.sim.wallet("other")
        hot = w.sim.wallet("hot", Kind.P2TR)
        await w.watch(hot, role="own")
        await w.follow()
        first = w.sim.pay(other, (hot.script, 50))
        await w.mine()
        w.sim.send([w.sim.spend(hot, first.hash, 0)], (late.script, 1))
        height = w.sim.head.number + 1
        await w.mine(20)
        await w.watch(late, from_block=height)
        await w.follow()
        while await w.scanner.step():
            pass
        assert await w.states() == [(1, "ignored", "internal")]


@pytest.mark.pitfall("P108", "P110")
async def test_more_work_wins_not_more_blocks(pool: asyncpg.Pool) -> None:
    async with world(pool) as w:
        user, other = w.sim.wallet("user"), w.sim.wallet("other")
        await w.watch(user)
        await w.follow()
        kept = w.sim.pay(other, (user.script, 1))
        w.sim.pay(other, (user.script, 2))
        await w.mine(5)
        before = w.sim.head.number
        w.sim.rewind(5)
        w.sim.mine(pick=[kept.hash], bits=HARDER)  # it took more than the five before
        assert await w.follow() == {Outcome.REORGANISED}
        states = [(1, "confirmed", None), (2, "orphaned", None)]
        assert await w.states() == states
        height = await w.pool.fetchval("select height from cursor")
        assert height == w.sim.head.number == before - 4
        w.sim.rewind(1)
        for _ in range(3):
            w.sim.mine()
        assert await w.follower.step() is Outcome.FORKED
        assert await w.states() == states


@pytest.mark.pitfall("P88", "P101")
async def test_what_leaves_an_extension_block_matures_and_a_reorganisation_takes_it_back(
    pool: asyncpg.Pool,
) -> None:
    async with world(pool, "ltc") as w:
        user = w.sim.wallet("user")
        await w.watch(user)
        await w.follow()
        w.sim.peg_out((user.script, 7))
        await w.mine(5)
        assert await w.states() == [(7, "detected", None)]
        w.sim.reorg(5, longer=1)  # what a miner made is in its own block alone
        await w.follow()
        assert await w.states() == [(7, "orphaned", None)]
        w.sim.peg_out((user.script, 8))
        await w.mine(6)
        assert await w.states() == [(7, "orphaned", None), (8, "confirmed", None)]
        assert await w.pool.fetchval("select max(required) from deposit") == 6


@pytest.mark.parametrize("coin", ["btc", "ltc", "doge"])
@pytest.mark.pitfall("P89", "P92", "P93", "P97", "P98", "P99", "P101", "P102", "P109")
async def test_after_traffic_and_reorgs_the_deposits_are_what_the_chain_paid(
    pool: asyncpg.Pool, coin: str
) -> None:
    async with world(pool, coin) as w:
        chance = Random(109)
        kinds = [kind for kind in Kind if coin != "doge" or kind not in SEGWIT]
        payers = [w.sim.wallet(f"payer {kind}", kind) for kind in kinds]
        users = [w.sim.wallet(f"user {kind}", kind) for kind in kinds]
        await w.watch(*users)
        await w.follow()
        first, outcomes = w.sim.head.number + 1, set()
        for number in range(60):
            for _ in range(chance.randint(0, 3)):
                paid = chance.choices(users, k=chance.randint(1, 3))
                outputs = [(user.script, chance.randrange(0, 10**16)) for user in paid]
                w.sim.pay(chance.choice(payers), *outputs)
            if coin == "ltc" and chance.random() < 0.3:
                w.sim.peg_out((chance.choice(users).script, chance.randrange(1, 10**9)))
            w.sim.mine()
            depth = chance.randint(1, min(9, w.sim.head.number - first + 1))
            if number % 5 == 4:
                blocks = w.sim.branch()[-depth:]
                recent = [tx.hash for block in blocks for tx in w.sim.transactions(block)]
                gone, late = (set(chance.sample(recent, len(recent) // 4)) for _ in range(2))
                w.sim.reorg(depth, longer=chance.randint(1, 2), cancel=gone, hold=late - gone)
            if number % 3:
                outcomes |= await w.follow()
        await w.mine()
        assert Outcome.REORGANISED in outcomes
        due = {
            (tx.hash, user.address, index): (output.units, block.hash, user.kind is Kind.P2PK)
            for block in w.sim.branch(first)
            for tx in block.transactions
            for index, output in enumerate(tx.outputs)
            for user in users
            if user.script == output.script and output.units
        }
        rows = await w.pool.fetch("select * from deposit where state <> 'orphaned'")
        assert due == {
            (r["tx"], r["address"], r["ordinal"]): (r["units"], r["hash"], r["state"] == "held")
            for r in rows
        }
        assert await w.pool.fetchval("select count(*) from deposit where state = 'orphaned'") > 0
