"""What goes on on a chain while engines die and rise, and what must hold once it has come to rest.

A life for a network of each family: blocks, payments, forks, by a seeded rule.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp

from indexer.devnet.traffic import Traffic
from indexer.devnet.tron_traffic import TronTraffic
from indexer.devnet.utxo_traffic import UtxoTraffic
from indexer.devnet.utxo_wallet import Kind
from tests.harness.api import ApiError, Client
from tests.harness.contracts import Deployed
from tests.harness.scene import Scene
from tests.harness.tron import TronWorld, tron_world
from tests.harness.utxo import SimulatedWorld, simulated_world
from tests.harness.world import NETWORK, World, world

DEPTH: Final = 6  # blocks that a reorg of these histories replaces at most
STEP: Final = 0.15  # seconds between two pieces of traffic
TRIES: Final = 400  # of one request to an API that dies now and then
PATIENCE: Final = 90.0  # seconds: leases of dead processes have to run out
RATE: Final = 50.0  # callbacks a second that an endpoint is sent, unless it asks for another number

# The dead hold leases for some seconds; instead of waiting, most of the time in vain, end them.
EXPIRE: Final = """
    with dead as (update lease set until = clock())
    update delivery set leased_until = clock() where lease_token is not null
"""

# What may follow what in a deposit's events; None is the beginning.
NEXT: Final[dict[str | None, set[str]]] = {
    None: {"detected", "held"},
    "detected": {"confirmed", "orphaned"},
    "confirmed": {"finalized", "orphaned"},
    "finalized": set(),
    "held": {"orphaned"},
    "orphaned": {"detected", "held"},
}


class Life(ABC):
    """What happens on a chain while the engine that follows it dies and rises."""

    @property
    @abstractmethod
    def scene(self) -> Scene: ...

    @abstractmethod
    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop`."""

    @abstractmethod
    async def settle(self) -> None:
        """Bring the chain to rest, and the engine to its head."""

    @abstractmethod
    async def standing(self) -> list[dict[str, Any]]:
        """Promises 1 to 3: exactly the chain's deposits stand; those rows."""


class EvmLife(Life):
    """Blocks, payments, failures, reorgs and registrations, by a seeded rule."""

    def __init__(self, w: World, token: Deployed, seed: int) -> None:
        self._world = w
        self._token = token
        self._random = random.Random(seed)
        self._recent: list[list[str]] = []  # the signed transactions of the last blocks
        self._registering = asyncio.Semaphore(1)
        self._addresses: list[str] = []
        self._stated: dict[str, int] = {}  # address: what the 201 said it covers
        self._reorgs = 0

    @property
    def scene(self) -> Scene:
        return self._world

    async def run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                if self._random.random() < 0.15:
                    address = f"0x{self._random.getrandbits(160):040x}"
                    tasks.create_task(self._register(address))
                if self._random.random() < 0.1:
                    await self._reorganise()
                await self._block()
                await asyncio.sleep(self._random.random() * 0.1)

    async def settle(self) -> None:
        await self._world.node.mine(3)
        await self._world.follow()
        final = await self._world.node.finalized()

        async def finalized() -> bool:
            rows = await self._world.deposits(status="confirmed")
            return all(row["blockHeight"] > final for row in rows)

        await self._world.until(finalized, "what is final was never said to be")

    async def standing(self) -> list[dict[str, Any]]:
        assert self._reorgs
        for row in await self._world.account.all("/v1/addresses"):
            address = row["address"].lower()
            self._world.watched[address] = row["coveredFrom"]
            if address in self._stated:
                assert row["coveredFrom"] <= self._stated[address]
        assert self._stated.keys() <= self._world.watched.keys()
        rows = list((await self._world.agree()).values())
        final = await self._world.node.finalized()
        for row in rows:
            due = "finalized" if row["blockHeight"] <= final else "confirmed"
            assert row["status"] == due, row
        return rows

    async def _register(self, address: str) -> None:
        body = {"network": NETWORK, "addresses": [address]}
        async with self._registering:
            made = await insist(self._world.account, "/v1/addresses", body)
        self._stated[address] = made["coveredFrom"]
        self._addresses.append(address)

    async def _block(self) -> None:
        node = self._world.node
        sent = []
        for _ in range(self._random.randrange(4)):
            if not self._addresses:
                break
            address, units = self._random.choice(self._addresses), self._random.randrange(1, 10**6)
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
        self._reorgs += depth > 0


class TrafficLife(Life):
    """The demo's traffic, with its forks, to addresses registered before."""

    def __init__(self, w: TronWorld | SimulatedWorld, traffic: Traffic[Any, Any]) -> None:
        self._world = w
        self._traffic = traffic
        self._reorgs = 0

    @property
    def scene(self) -> Scene:
        return self._world

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._reorgs += self._traffic.step().depth > 0
            await asyncio.sleep(STEP)

    async def settle(self) -> None:
        await self._world.mine(3)

    async def standing(self) -> list[dict[str, Any]]:
        assert self._reorgs
        return await self._world.agree()


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Life]]


@asynccontextmanager
async def evm(dsn: str, folder: Path, seed: int, **more: Any) -> AsyncIterator[Life]:
    async with world(dsn, folder, inside=False, **more) as w:
        yield EvmLife(w, await w.token(), seed)


@asynccontextmanager
async def tron(dsn: str, folder: Path, seed: int, **more: Any) -> AsyncIterator[Life]:
    async with tron_world(dsn, folder, inside=False, **more) as w:
        keys = [w.chain.wallet(f"watched {n}").address for n in range(4)]
        traffic = TronTraffic(w.chain, keys, random.Random(seed))
        await w.watch(*keys)
        for asset in traffic.assets:
            await w.list_coin(asset)
        yield TrafficLife(w, traffic)


@asynccontextmanager
async def utxo(dsn: str, folder: Path, seed: int, **more: Any) -> AsyncIterator[Life]:
    async with simulated_world(dsn, folder, inside=False, **more) as w:
        wallets = [w.chain.wallet(f"watched {kind}", kind) for kind in Kind]
        traffic = UtxoTraffic(w.chain, wallets, random.Random(seed))
        await w.watch(*wallets)
        await w.watch(w.chain.wallet("hot", Kind.P2WPKH), role="own")
        yield TrafficLife(w, traffic)


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


async def promises(life: Life) -> None:
    """All of them, once everything has come to rest."""
    await life.settle()
    w = life.scene
    w.receiver.fail = 0.0
    left: int = await w.database.fetchval("select count(*) from delivery")
    await w.delivered(PATIENCE + left / RATE)
    assert len(await life.standing()) > 10, "hardly anything happened"
    events = await w.account.events()
    assert [each["position"] for each in events] == list(range(1, len(events) + 1))
    assert len({each["id"] for each in events}) == len(events)
    histories = await w.histories()
    for types in histories.values():
        for before, after in zip([None, *types], types, strict=False):
            assert after in NEXT[before], types
    for row in await w.deposits():
        told, now = histories.get(row["id"], [None])[-1], row["status"]
        if now == "ignored" or (now, row["previousStatus"]) == ("orphaned", "ignored"):
            assert told in (None, "orphaned"), row  # becoming ignored, and its end, have no event
        else:
            assert told == now, row
    w.receiver.check()  # 4: order, and bytes that never change
    accepted = {received.id for received in w.receiver.accepted}
    assert accepted == {each["id"] for each in events if each["type"] != "deposit.finalized"}
