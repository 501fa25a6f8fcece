"""A scripted chain, what was registered on it since when, and the processes that follow it.

The follower, the scanner and the SQL are the real ones on a real PostgreSQL; the chain is a list of
blocks. `World.covered` keeps account of what a fresh reading of the final chain would find.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias
from unittest.mock import patch

import asyncpg

from indexer import coins, coverage, cursors, feed, ledger, origin, scan
from indexer.booking import Booking
from indexer.chains import Header, Transfer
from indexer.cursors import Stale
from indexer.follower import Follower, Outcome
from indexer.model import Refused, Unavailable
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.scripted import ADDRESSES, STRANGER, TOKEN, HexCodec, Payment, ScriptedChain, payment

WINDOW: Final = 8  # blocks that may be replaced
ACCOUNTS: Final = ("alice", "bob")
HOT: Final = ADDRESSES[7]  # alice's own wallet, where a history has one
TABLES: Final = (
    "account, network, cursor, lease, block, coin, watched_address, scan, scan_claim, deposit, "
    "event, endpoint"
)
CRASH_POINTS: Final[list[tuple[Any, str]]] = [
    (coverage, "queue_scan"),
    (cursors, "move"),
    (cursors, "store_headers"),
    (Booking, "find"),
    (Booking, "promote"),
    (ledger, "store"),
    (feed, "append"),
    (scan, "mark_read"),
]
NEVER: Final = 10**9  # a height above every chain
SETTLING_STEPS: Final = 80

Identity: TypeAlias = tuple[str, bytes, bytes, bytes, int]  # account, and a transfer's own


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Rules:
    required: int | None = 3
    finality: str = "network"
    reorg_window: int = WINDOW
    start: int | str = "latest"
    coin: str = "native"
    symbol: str = "NAT"
    decimals: int = 8


@dataclass
class Row:
    """What we know of a registration."""

    covered_from: int
    removed_from: int = NEVER
    own: bool = False


@dataclass
class Process:
    """A follower and a scanner with a watch set between them, as one process has them."""

    follower: Follower
    scanner: Scanner
    watch: WatchSet

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


async def reset(pool: asyncpg.Pool) -> None:
    await pool.execute(f"truncate {TABLES} cascade")
    await pool.executemany(
        "insert into account (id, name) values ($1, $1)", [(a,) for a in ACCOUNTS]
    )
    await pool.execute("insert into network (id, family) values ('net', 'scripted')")


@dataclass
class World:
    """One history."""

    pool: asyncpg.Pool
    chain: ScriptedChain
    rules: Rules
    number: int = 0
    rows: dict[tuple[str, bytes], Row] = field(default_factory=dict)
    coin_covered: dict[bytes, int] = field(default_factory=dict)
    active: dict[bytes, bool] = field(default_factory=lambda: defaultdict(lambda: True))
    minimums: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0]))
    silent: dict[tuple[str, bytes], list[range]] = field(default_factory=lambda: defaultdict(list))
    floating: list[Payment] = field(default_factory=list)  # taken off the chain, not mined again
    seen: set[Identity] = field(default_factory=set)  # covered at some time
    rewinds: int = 0

    @classmethod
    async def begin(cls, pool: asyncpg.Pool, rules: Rules | None = None) -> World:
        await reset(pool)
        world = cls(pool, ScriptedChain(final_depth=WINDOW), rules or Rules())
        world.chain.mine()
        await origin.begin(pool, world.chain, "net", world.rules)
        world.coin_covered[b""] = 0
        world.restart()
        return world

    # ------------------------------------------------------------ processes

    def process(self) -> Process:
        watch = WatchSet("net", self.rules.reorg_window)
        parts = "net", self.rules, self.chain, self.pool, watch
        return Process(Follower(*parts), Scanner(*parts), watch)

    def restart(self) -> None:
        """kill -9 and start: nothing but the database is left."""
        self.main = self.process()

    @property
    def follower(self) -> Follower:
        return self.main.follower

    @property
    def scanner(self) -> Scanner:
        return self.main.scanner

    @property
    def watch(self) -> WatchSet:
        return self.main.watch

    async def step(self) -> Outcome | None:
        return await self.main.step()

    async def scan(self) -> bool:
        return await self.main.scan()

    async def crash(self, point: int) -> None:
        """Die in the middle of a step, right before one of `CRASH_POINTS`."""
        with patch.object(*CRASH_POINTS[point], side_effect=Crash):
            for part in (self.step, self.scan):
                with suppress(Crash):
                    await part()
        self.restart()

    # ------------------------------------------------------------ owners and operators

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
            height = await connection.fetchval("select height from cursor")
            done = await coverage.register_addresses(
                connection,
                "net",
                account,
                [coverage.NewAddress(key, from_block=from_block, role=role)],
                silent=silent,
            )
        row = self.rows.get((account, key))
        own = row is not None and row.own and row.removed_from == NEVER
        self.rows[account, key] = Row(done.covered_from, own=own if role is None else role == "own")
        if silent:
            self.silent[account, key].append(range(done.covered_from, height + 2))
        return done.covered_from

    async def remove(self, account: str, key: bytes) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            if await coverage.remove_address(connection, "net", account, key):
                self.rows[account, key].removed_from = await connection.fetchval(
                    "select removed_from from watched_address where account = $1 and address = $2",
                    account,
                    key,
                )

    async def register_coin(self, from_block: int | None = None, **settings: Any) -> None:
        coin = coins.NewCoin("tok", "net", TOKEN, "T", "T", 6, from_block=from_block, **settings)
        with suppress(asyncpg.UniqueViolationError):
            async with self.pool.acquire() as connection, connection.transaction():
                covered_from = await coins.register_coin(connection, coin)
            self.coin_covered[TOKEN] = covered_from

    async def change_coin(self, asset: bytes, **changes: Any) -> None:
        if asset not in self.coin_covered:
            return
        # Noted before: whoever looks meanwhile may see either.
        self.minimums[asset].append(changes.get("minimum", self.minimums[asset][-1]))
        self.active[asset] = changes.get("active", self.active[asset])
        coin = "tok" if asset else "native"
        async with self.pool.acquire() as connection, connection.transaction():
            await coins.change_coin(
                connection, "net", HexCodec(), self.rules.required, coin, changes
            )

    async def look(self) -> None:
        """Take from the database in which order owners and operators came who met each other."""
        for r in await self.pool.fetch("select *, role = 'own' as own from watched_address"):
            removed_from = NEVER if r["removed_from"] is None else r["removed_from"]
            self.rows[r["account"], r["address"]] = Row(r["covered_from"], removed_from, r["own"])
        for coin in await self.pool.fetch("select * from coin"):
            self.active[coin["asset"]] = coin["status"] == "active"
            self.minimums[coin["asset"]].append(coin["minimum"])

    async def rewind(self, depth: int) -> None:
        height = await self.pool.fetchval("select height from cursor")
        try:
            await origin.rewind(self.pool, self.chain, "net", self.rules, max(0, height - depth))
        except (Refused, Unavailable):  # there already, or the node has another block
            return
        self.rewinds += 1

    # ------------------------------------------------------------ the chain

    def pay(self, choices: Sequence[int]) -> Payment:
        """Some movements to watched and other addresses; now and then from our own wallet."""
        self.number += 1
        outputs = tuple((ADDRESSES[c % 4] if c % 5 else STRANGER, 1 + c % 7) for c in choices)
        made = payment(self.number, *outputs, asset=TOKEN if sum(choices) % 2 else b"")
        return replace(made, sender=HOT) if sum(choices) % 9 == 0 else made

    def fork(self, depth: int, extra: int, drop: int) -> None:
        """Replace `depth` blocks: some payments mined again, one with another amount, some not."""
        gone = [p for block in self.chain.cut(depth) for p in block]
        kept = [p for n, p in enumerate(gone) if (n + drop) % 3]
        self.floating += [p for p in gone if p not in kept]
        if drop == 2 and kept:
            (key, units), *others = kept[0].outputs
            kept[0] = replace(kept[0], outputs=((key, units + 2), *others))
        for n in range(depth + extra):
            self.chain.mine(*kept[n::2] if n < 2 else ())

    # ------------------------------------------------------------ what is true

    def transfers(self) -> Iterator[tuple[Header, str, Transfer]]:
        """Every movement on the chain, for every account."""
        for header, payments in self.chain.view:
            for transfer in (t for p in payments for t in p.transfers()):
                for account in ACCOUNTS:
                    yield header, account, transfer

    def covered(self) -> dict[Identity, tuple[int, bytes]]:
        """Amount and block of what must be found: all that somebody was promised."""
        result = {}
        for header, account, transfer in self.transfers():
            row = self.rows.get((account, transfer.recipient))
            if row is None or row.own or not row.covered_from <= header.height < row.removed_from:
                continue
            if header.height >= self.coin_covered.get(transfer.asset, NEVER):
                result[_identity(account, transfer)] = (transfer.units, header.hash)
        return result

    def moved(self) -> dict[Identity, tuple[int, bytes]]:
        """Amount and block of everything on the chain."""
        return {_identity(a, t): (t.units, h.hash) for h, a, t in self.transfers()}

    async def settle(self) -> None:
        """Let everything catch up with the final chain, and pass what was rewound from."""
        self.chain.hidden = 0
        passed = await self.pool.fetchval("select coalesce(rewound_from, 0) from cursor")
        self.chain.mine()
        while len(self.chain.view) - 1 <= passed:
            self.chain.mine()
        for _ in range(SETTLING_STEPS):
            outcome = await self.step()
            assert outcome is not Outcome.HALTED, self.follower.reason
            scanned = await self.scan()
            if outcome is Outcome.IDLE and not scanned:
                return
        raise AssertionError("the history does not settle")


def _identity(account: str, transfer: Transfer) -> Identity:
    return (account, transfer.tx, transfer.recipient, transfer.asset, transfer.ordinal)
