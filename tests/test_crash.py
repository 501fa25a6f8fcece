"""kill -9 at random moments, and two processes at once: the design's promises 1 to 4 hold."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.harness.api import ApiError, Client
from tests.harness.engine import Engine
from tests.harness.faults import Dead
from tests.harness.world import NETWORK, World, network, world

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
KILLS: Final = 100 if SOAK else 10
ALIVE: Final = 1.2  # seconds that a process lives at most
DEPTH: Final = 6  # blocks that a reorg of these histories replaces at most
TRIES: Final = 400  # of one request to an API that dies now and then
PATIENCE: Final = 90.0  # seconds: leases of dead processes have to run out

pytestmark = [pytest.mark.node, pytest.mark.timeout(1800 if SOAK else 240)]

# The dead hold leases for some seconds; instead of waiting, most of the time in vain, end them.
EXPIRE: Final = """
    with dead as (update lease set until = clock())
    update delivery set due_at = clock() where lease_token is not null
"""

# What may follow what in a deposit's events; None is the beginning.
NEXT: Final[dict[str | None, set[str]]] = {
    None: {"detected"},
    "detected": {"confirmed", "orphaned"},
    "confirmed": {"finalized", "orphaned"},
    "finalized": set(),
    "orphaned": {"detected"},
}


class Life:
    """Blocks, payments, failures, reorgs and registrations, by a seeded rule."""

    def __init__(self, w: World, token: Any, seed: int) -> None:
        self._world = w
        self._token = token
        self._random = random.Random(seed)
        self._recent: list[list[str]] = []  # the signed transactions of the last blocks
        self._registering = asyncio.Semaphore(1)
        self.addresses: list[str] = []
        self.stated: dict[str, int] = {}  # address: what the 201 said it covers
        self.reorgs = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                if self._random.random() < 0.15:
                    address = f"0x{self._random.getrandbits(160):040x}"
                    tasks.create_task(self._register(address))
                if self._random.random() < 0.1:
                    await self._reorganise()
                await self._block()
                await asyncio.sleep(self._random.random() * 0.1)

    async def _register(self, address: str) -> None:
        body = {"network": NETWORK, "addresses": [address]}
        async with self._registering:
            made = await insist(self._world.account, "/v1/addresses", body)
        self.stated[address] = made["coveredFrom"]
        self.addresses.append(address)

    async def _block(self) -> None:
        node = self._world.node
        sent = []
        for _ in range(self._random.randrange(4)):
            if not self.addresses:
                break
            address, units = self._random.choice(self.addresses), self._random.randrange(1, 10**6)
            match self._random.randrange(4):
                case 0:
                    sent.append(await node.pay(address, units))
                case 1:
                    sent.append(await self._token.send("transfer", address, units))
                case 2:
                    sent.append(await self._token.send("repeat", address, units, 3))
                case _:
                    sent.append(await self._token.send("transfer", address, 10**40))  # fails
        raw = [await node.raw(each) for each in sent]
        await node.mine()
        self._recent = [*self._recent, raw][-DEPTH:]

    async def _reorganise(self) -> None:
        """Replace some blocks; part of their transactions are mined again, in other blocks.

        One account signs all: what is mined again is a beginning of what it had sent.
        """
        depth = min(self._random.randrange(1, DEPTH + 1), len(self._recent))
        displaced = [raw for block in self._recent[len(self._recent) - depth :] for raw in block]
        kept = displaced[: self._random.randrange(len(displaced) + 1)]
        cut = self._random.randrange(len(kept) + 1)
        self._recent = self._recent[: len(self._recent) - depth]
        async with self._world.proxy.paused():
            await self._world.node.rollback(depth)
            for part in (kept[:cut], kept[cut:]):
                await self._world.node.put(part)
                await self._world.node.mine()
                self._recent.append(part)
            for _ in range(max(0, depth - 1)):
                await self._world.node.mine()
                self._recent.append([])
        self._recent = self._recent[-DEPTH:]
        self.reorgs += depth > 0


async def insist(client: Client, path: str, body: dict[str, Any]) -> Any:
    """POST until it is answered, as a client of a service that restarts does."""
    for _ in range(TRIES):
        try:
            return await client.post(path, body)
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.05)
        except ApiError as error:
            if error.status != 503:
                raise
            await asyncio.sleep(0.05)
    raise AssertionError(f"{path} was never answered")


async def _coverage(w: World, life: Life) -> None:
    """What the API says each address is covered from: never later than a 201 said."""
    for row in await w.account.all("/v1/addresses"):
        address = row["address"].lower()
        w.watched[address] = row["coveredFrom"]
        if address in life.stated:
            assert row["coveredFrom"] <= life.stated[address]
    assert life.stated.keys() <= w.watched.keys()


async def _settle(w: World) -> None:
    """Bring everything to rest: the last blocks confirmed, every callback delivered."""
    await w.node.mine(3)
    await w.follow()
    final = await w.node.finalized()

    async def finalized() -> bool:
        return all(row["blockHeight"] > final for row in await w.deposits(status="confirmed"))

    await w.until(finalized, "what is final was never said to be")
    w.receiver.fail = 0.0
    await w.delivered(PATIENCE)


async def _promises(w: World, life: Life) -> None:
    await _coverage(w, life)
    standing = await w.agree()  # 1 to 3: identity, amount and block of a fresh reading
    assert len(standing) > 20, "hardly anything happened"
    assert life.reorgs
    final = await w.node.finalized()
    for row in standing.values():
        assert row["status"] == ("finalized" if row["blockHeight"] <= final else "confirmed"), row
    events = await w.account.events()
    assert [each["position"] for each in events] == list(range(1, len(events) + 1))
    assert len({each["id"] for each in events}) == len(events)
    histories: dict[str, list[dict[str, Any]]] = {}
    for each in events:
        histories.setdefault(each["data"]["id"], []).append(each)
    for history in histories.values():
        assert [each["data"]["sequence"] for each in history] == list(range(1, len(history) + 1))
        types = [each["type"].removeprefix("deposit.") for each in history]
        for before, after in zip([None, *types], types, strict=False):
            assert after in NEXT[before], types
    for row in await w.deposits():
        last = histories[row["id"]][-1]
        assert last["type"] == f"deposit.{row['status']}"
    w.receiver.check()  # 4: order, and bytes that never change
    accepted = {received.id for received in w.receiver.accepted}
    assert accepted == {each["id"] for each in events if each["type"] != "deposit.finalized"}


@pytest.mark.pitfall("P114", "P120")
async def test_kill_9_at_random_moments_loses_and_doubles_nothing(dsn: str, tmp_path: Path) -> None:
    rng = random.Random(9)
    async with world(dsn, tmp_path, inside=False, fail=0.2, delay=0.1) as w:
        token = await w.token()
        life, stop = Life(w, token, seed=1), asyncio.Event()
        living = asyncio.create_task(life.run(stop))
        for _ in range(KILLS):
            await asyncio.sleep(rng.random() * ALIVE)
            await w.engine.kill()
            await w.database.execute(EXPIRE)
            await w.engine.launch()
            if rng.random() < 0.8:  # else it is killed again while it starts
                await w.engine.ready()
        await w.engine.ready()
        stop.set()
        await living
        await _settle(w)
        await _promises(w, life)


@pytest.mark.pitfall("P114", "P120")
async def test_two_processes_on_one_database_do_each_thing_once(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, inside=False, fail=0.1, delay=0.05) as w:
        token = await w.token()
        second = Engine(tmp_path, dsn, {NETWORK: network(w.proxy.url)})
        try:
            await second.start()
            life, stop = Life(w, token, seed=2), asyncio.Event()
            living = asyncio.create_task(life.run(stop))
            for victim in (w.engine, second) * (10 if SOAK else 2):
                await asyncio.sleep(1.5)
                await victim.kill()  # the other takes over within the lease
                await asyncio.sleep(0.5)
                await victim.start()
            stop.set()
            await living
            await second.stop()
            await w.engine.stop()
            await w.database.execute(EXPIRE)
            await w.engine.start()
            await _settle(w)
            await _promises(w, life)
        finally:
            await second.kill()
        assert "Traceback" not in second.log


@pytest.mark.pitfall("P120")
async def test_sigterm_finishes_what_is_in_hand_though_node_and_receiver_stall(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path, inside=False, delay=6.0) as w:
        address = "0x" + "a1" * 20
        await w.watch(address)
        await w.node.pay(address, 1)
        await w.mine()

        async def called() -> bool:
            return bool(w.receiver.requests)

        await w.until(called, "no callback came")
        with w.proxy.fault(Dead()):
            await w.engine.stop()
        w.receiver.delay = 0.0
        await w.engine.start()
        await w.confirm()
        await w.delivered(PATIENCE)
        assert [row["status"] for row in await w.deposits()] == ["confirmed"]
