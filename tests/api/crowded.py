"""A chain that goes on, and a follower and a scanner of it, beside an API that is kept busy."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from indexer import origin
from indexer.cursors import Stale
from indexer.follower import Follower, Outcome
from indexer.model import Unavailable
from indexer.scan import Scanner
from indexer.watchset import WatchSet
from tests.api.world import CODEC, IDLE, World
from tests.scripted import Payment, ScriptedChain, payment

BLOCK_SECONDS: Final = 0.05
PAYMENTS: Final = 8  # of a block
SETTLED_STEPS: Final = 5_000

OPEN: Final = "select exists (select from scan where state = 'open')"

Paid = tuple[bytes, bytes]  # transaction, address


def key(number: int) -> bytes:
    return number.to_bytes(20, "big")


class Crowd:
    """Everybody who may pay: the addresses numbered 1 to `people`, registered or not yet."""

    def __init__(self, world: World, people: int) -> None:
        self._world = world
        self._people = people
        self._random = random.Random(people)
        self._number = 0
        self.chain = ScriptedChain(codec=CODEC)
        rules = world.context.settings.networks[IDLE]
        watch = WatchSet(IDLE, rules.reorg_window)
        self.follower = Follower(IDLE, rules, self.chain, world.pool, watch)
        self.scanner = Scanner(IDLE, rules, self.chain, world.pool, watch)
        self.steps: list[float] = []  # seconds of each of the follower's

    @classmethod
    async def gather(cls, world: World, people: int) -> Crowd:
        crowd = cls(world, people)
        rules = world.context.settings.networks[IDLE]
        await origin.begin(world.pool, crowd.chain, IDLE, rules)
        return crowd

    def pay(self, numbers: Sequence[int] = ()) -> None:
        """A block that pays these, or some of all."""
        chosen = numbers or self._random.choices(range(1, self._people + 1), k=PAYMENTS)
        self.chain.mine(*(self._payment(number) for number in chosen))

    @asynccontextmanager
    async def bustling(self) -> AsyncIterator[None]:
        """Blocks come, and are followed, and scanned where they came too early."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each()) for each in (self._mine, self._follow, self._scan)]
            yield
            for task in tasks:
                task.cancel()

    async def settle(self) -> None:
        """Read what is left to read, also by scans that still wait for calm."""
        for _ in range(SETTLED_STEPS):
            idle = await self.follower.step() is Outcome.IDLE and not self.follower.activating
            if not await self.scanner.step() and idle:
                if not await self._world.pool.fetchval(OPEN):
                    return
                await asyncio.sleep(BLOCK_SECONDS)
        raise AssertionError("there is no end to it")

    async def owed(self, account: str) -> set[Paid]:
        """What an account must have been told of by now: all payments that it covers."""
        rows = await self._world.pool.fetch(
            "select address, covered_from from watched_address where account = $1", account
        )
        covered = {row["address"]: row["covered_from"] for row in rows}
        return {
            (transfer.tx, transfer.recipient)
            for header, payments in self.chain.view
            for transfer in (t for each in payments for t in each.transfers())
            if covered.get(transfer.recipient, header.height + 1) <= header.height
        }

    async def told(self, account: str) -> list[Paid]:
        """Every first event of a deposit that an account was sent."""
        rows = await self._world.pool.fetch(
            """
            select d.tx, d.address from event e join deposit d on d.id = e.deposit
             where d.account = $1 and e.type = 'deposit.detected'
            """,
            account,
        )
        return [(row["tx"], row["address"]) for row in rows]

    def _payment(self, number: int) -> Payment:
        self._number += 1
        return payment(self._number, (key(number), 1))

    async def _mine(self) -> None:
        while True:
            self.pay()
            await asyncio.sleep(BLOCK_SECONDS)

    async def _follow(self) -> None:
        while True:
            before = time.perf_counter()
            with suppress(Stale, Unavailable):
                await self.follower.step()
            self.steps.append(time.perf_counter() - before)
            await asyncio.sleep(BLOCK_SECONDS)

    async def _scan(self) -> None:
        while True:
            with suppress(Stale, Unavailable):
                await self.scanner.step()
            await asyncio.sleep(BLOCK_SECONDS)
