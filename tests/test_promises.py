"""Promises 1 to 3 of the design, over any history of blocks, forks, lags, restarts.

The follower, the scanner and the SQL are the real ones on a real PostgreSQL; the chain is a list of
blocks. After every history the table must agree with a fresh reading of the final chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import coverage, cursors, origin
from indexer.cursors import Stale
from indexer.follower import Follower, Outcome
from indexer.model import Unavailable
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.scripted import ADDRESSES, STRANGER, TOKEN, Payment, ScriptedChain, payment

WINDOW = 8
ACCOUNTS = ("alice", "bob")
TABLES = "account, network, cursor, lease, block, coin, watched_address, scan, deposit, event"


@dataclass
class Rules:
    required: int | None = 3
    finality: str = "network"
    reorg_window: int = WINDOW
    start: int | str = "latest"
    coin: str = "native"
    symbol: str = "NAT"
    decimals: int = 8


async def reset(pool: asyncpg.Pool) -> None:
    await pool.execute(f"truncate {TABLES} cascade")
    await pool.executemany(
        "insert into account (id, name) values ($1, $1)", [(a,) for a in ACCOUNTS]
    )
    await pool.execute("insert into network (id, family) values ('net', 'scripted')")


@dataclass
class World:
    """One history: a chain, what was registered since when, and the process that follows it."""

    pool: asyncpg.Pool
    chain: ScriptedChain
    rules: Rules
    number: int = 0
    covered: dict[tuple[str, bytes], int] = field(default_factory=dict)
    coin_covered: dict[bytes, int] = field(default_factory=dict)
    floating: list[Payment] = field(default_factory=list)  # taken off the chain, not mined again
    seen: set[tuple[Any, ...]] = field(default_factory=set)  # expected at some time

    @classmethod
    async def begin(cls, pool: asyncpg.Pool, rules: Rules | None = None) -> World:
        await reset(pool)
        world = cls(pool, ScriptedChain(final_depth=WINDOW), rules or Rules())
        world.chain.mine()
        await origin.begin(pool, world.chain, "net", world.rules)
        world.coin_covered[b""] = 0
        world.restart()
        return world

    def restart(self) -> None:
        """kill -9 and start: nothing but the database is left."""
        self.watch = WatchSet("net", self.rules.reorg_window)
        self.follower = Follower("net", self.rules, self.chain, self.pool, self.watch)
        self.scanner = Scanner("net", self.rules, self.chain, self.pool, self.watch)

    async def register(
        self,
        account: str,
        key: bytes,
        from_block: int | None = None,
        role: str | None = None,
        *,
        silent: bool = False,
    ) -> int:
        async with self.pool.acquire() as connection, connection.transaction():
            done = await coverage.register_addresses(
                connection,
                "net",
                account,
                [coverage.NewAddress(key, from_block=from_block, role=role)],
                silent=silent,
            )
        self.covered[account, key] = done.covered_from
        return done.covered_from

    async def register_coin(self, from_block: int | None = None) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            self.coin_covered[TOKEN] = await coverage.register_coin(
                connection,
                coverage.NewCoin("tok", "net", TOKEN, "T", "T", 6, from_block=from_block),
            )

    def pay(self, choices: Sequence[int]) -> Payment:
        self.number += 1
        outputs = tuple((ADDRESSES[c % 4] if c % 5 else STRANGER, 1 + c % 7) for c in choices)
        return payment(self.number, *outputs, asset=TOKEN if sum(choices) % 2 else b"")

    def fork(self, depth: int, extra: int, drop: int) -> None:
        """Replace `depth` blocks: some payments mined again elsewhere, some dropped for now."""
        gone = [p for block in self.chain.cut(depth) for p in block]
        kept = [p for n, p in enumerate(gone) if (n + drop) % 3]
        self.floating += [p for p in gone if p not in kept]
        for n in range(depth + extra):
            self.chain.mine(*kept[n::2] if n < 2 else ())

    async def step(self) -> Outcome | None:
        try:
            return await self.follower.step()
        except (Stale, Unavailable):
            return None

    async def scan(self) -> bool:
        try:
            return await self.scanner.step()
        except (Stale, Unavailable):
            return False

    async def settle(self) -> None:
        """Let everything catch up with the final chain."""
        self.chain.hidden = 0
        self.chain.mine()
        for _ in range(60):
            outcome = await self.step()
            assert outcome is not Outcome.HALTED, self.follower.reason
            scanned = await self.scan()
            if outcome is Outcome.IDLE and not scanned:
                return
        raise AssertionError("the history does not settle")

    def expected(self, *, covered: bool = True) -> dict[tuple[Any, ...], tuple[int, bytes]]:
        """A fresh reading of the final chain under the same registrations."""
        result = {}
        for header, payments in self.chain.view:
            for transfer in (t for p in payments for t in p.transfers()):
                if covered and header.height < self.coin_covered.get(transfer.asset, 10**9):
                    continue
                for account in ACCOUNTS:
                    since = self.covered.get((account, transfer.recipient), 10**9)
                    if header.height >= since or not covered:
                        identity = (
                            account, transfer.tx, transfer.recipient, transfer.asset,
                            transfer.ordinal,
                        )  # fmt: skip
                        result[identity] = (transfer.units, header.hash)
        return result


async def check(world: World) -> None:
    rows = await world.pool.fetch("select * from deposit")
    standing = {
        (r["account"], r["tx"], r["address"], r["asset"], r["ordinal"]): (r["units"], r["hash"])
        for r in rows
        if r["state"] != "orphaned"
    }
    expected = world.expected()
    assert expected.items() <= standing.items()
    # What was found inside its coverage and then mined again below it keeps its row: quietly.
    assert standing.items() <= world.expected(covered=False).items()
    for identity in standing.keys() - expected.keys():
        assert identity in world.seen
    assert all(not r["unplaced"] for r in rows)
    cursor = await world.pool.fetchrow("select * from cursor")
    for row in rows:
        depth = cursor["height"] - row["height"] + 1
        if row["state"] != "orphaned":
            deep = "confirmed" if depth >= 3 else "detected"
            final = "finalized" if row["height"] <= cursor["finalized"] else deep
            assert row["state"] in {final, "confirmed" if depth < 3 else final}
    await check_events(world.pool)


async def check_events(pool: asyncpg.Pool) -> None:
    """One event a step: no gap in sequences or positions, every move a legal one."""
    legal = {
        None: {"detected", "held"},
        "detected": {"confirmed", "orphaned"},
        "confirmed": {"finalized", "orphaned"},
        "orphaned": {"detected", "held"},
        "held": {"detected", "rejected", "orphaned"},
    }
    last: dict[str, tuple[int, str]] = {}
    position: dict[str, int] = {}
    for event in await pool.fetch("select * from event order by account, position"):
        assert event["position"] == position.get(event["account"], 0) + 1
        position[event["account"]] = event["position"]
        sequence, state = last.get(event["deposit"], (0, None))
        kind = event["type"].removeprefix("deposit.")
        assert event["sequence"] == sequence + 1
        assert kind in legal[state], f"{state} -> {kind}"
        last[event["deposit"]] = (event["sequence"], kind)
    for row in await pool.fetch("select id, sequence, state from deposit"):
        assert last[row["id"]] == (row["sequence"], row["state"])


outputs = st.lists(st.integers(0, 40), min_size=1, max_size=3)
mining = st.tuples(st.just("mine"), st.lists(outputs, min_size=1, max_size=3))
forking = st.tuples(
    st.just("fork"), st.integers(1, WINDOW - 1), st.integers(0, 2), st.integers(0, 2)
)
lagging = st.tuples(st.just("lag"), st.integers(0, 4))
registering = st.tuples(
    st.just("register"), st.integers(0, 1), st.integers(0, 3), st.none() | st.integers(0, 12)
)
simple = st.sampled_from([("scan",), ("restart",), ("coin",), ("again",)])
actions = st.one_of(mining, mining, mining, forking, forking, simple, lagging, registering)
steps = st.sampled_from([0, 1, 1, 2, 3])  # of the follower, after the action
histories = st.lists(st.tuples(actions, steps), min_size=6, max_size=40)


async def act(world: World, action: tuple[Any, ...]) -> None:
    match action:
        case ("mine", payments):
            world.chain.mine(*[world.pay(choices) for choices in payments])
        case ("fork", depth, extra, drop):
            world.seen |= world.expected().keys()
            # Never deeper than what is unfinalized for us: that halts, and has its own test.
            cursor = await world.pool.fetchrow("select height, finalized from cursor")
            world.fork(min(depth, len(world.chain.view) - 1 - cursor["finalized"], WINDOW - 1),
                       extra, drop)  # fmt: skip
        case ("again",):
            world.chain.mine(*world.floating)
            world.floating = []
        case ("lag", blocks):
            world.chain.hidden = blocks
        case ("register", account, address, from_block):
            height = (await world.pool.fetchval("select height from cursor")) + 1
            await world.register(
                ACCOUNTS[account], ADDRESSES[address],
                None if from_block is None else min(from_block, height),
            )  # fmt: skip
        case ("coin",) if TOKEN not in world.coin_covered:
            await world.register_coin()
        case ("scan",):
            await world.scan()
        case ("restart",):
            world.restart()


@pytest.mark.pitfall("P21", "P22", "P47", "P48", "P111", "P114", "P121")
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=histories)
async def test_any_history_ends_as_a_fresh_scan_of_the_final_chain(
    pool: asyncpg.Pool, history: list[tuple[tuple[Any, ...], int]]
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ADDRESSES[0])
    await world.register("alice", ADDRESSES[1])
    for action, steps_after in history:
        await act(world, action)
        for _ in range(steps_after):
            await world.step()
    await world.settle()
    await check(world)


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


async def test_cursor_is_a_fence(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    async with pool.acquire() as connection:
        seen = await cursors.read(connection, "net")
        assert seen is not None
        world.chain.mine()
        await world.step()
        with pytest.raises(Stale):
            async with connection.transaction():
                await cursors.move(connection, seen, 99, bytes(32), -1)
