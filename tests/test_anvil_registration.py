"""Registration while blocks arrive: from the moment of the 201 nothing is missed or doubled."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.harness.contracts import contracts
from tests.harness.scene import open_account
from tests.harness.world import NETWORK, World, world

pytestmark = pytest.mark.node

UNITS = 10**6


def _addresses(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"0x{rng.getrandbits(160):040x}" for _ in range(count)]


async def _mine_until(w: World, done: asyncio.Event, pause: float) -> None:
    while not done.is_set():
        await w.node.mine()
        await asyncio.sleep(pause)


async def _active(w: World, address: str) -> bool:
    found = await w.account.get(f"/v1/addresses/{NETWORK}/{address}")
    return bool(found["state"] == "active")


@pytest.mark.pitfall("P111", "P121")
@pytest.mark.parametrize("seed", [1, 2])
async def test_addresses_registered_while_blocks_arrive_miss_nothing(
    dsn: str, tmp_path: Path, seed: int
) -> None:
    """Each address is paid at once after its 201, so mostly in the very next block; and before."""
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        rng = random.Random(seed)
        done = asyncio.Event()
        miner = asyncio.create_task(_mine_until(w, done, 0.02))
        for address in _addresses(seed, 40):
            if rng.random() < 0.3:
                await w.node.pay(address, 1)  # may stand below what the 201 covers: then no deposit
            await w.watch(address)
            await w.node.pay(address, 2)
            await token.send("transfer", address, 3)
            await asyncio.sleep(rng.random() * 0.05)
        done.set()
        await miner
        await w.mine()
        standing = await w.agree()
        assert len({each.address for each in standing}) == 40


@pytest.mark.pitfall("P121")
async def test_many_registered_at_once_miss_nothing(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        addresses = _addresses(3, 1000)
        done = asyncio.Event()
        miner = asyncio.create_task(_mine_until(w, done, 0.05))

        async def register(part: list[str]) -> None:
            await w.watch(*part)
            for address in part[::5]:
                await w.node.pay(address, 2)

        await asyncio.gather(*(register(addresses[at : at + 50]) for at in range(0, 1000, 50)))
        done.set()
        await miner
        await w.mine()
        assert len(await w.agree()) == 200


@pytest.mark.pitfall("P111")
async def test_on_an_idle_network_the_next_block_counts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        for address in _addresses(4, 5):
            height = await w.node.height()
            covered = await w.watch(address)
            assert covered == height + 1

            async def active(address: str = address) -> bool:
                return await _active(w, address)

            await w.until(active, "activation waits for a block")
            assert await w.node.height() == height
            await token.send("transfer", address, 3)
            await w.mine()
        assert len(await w.agree()) == 5


@pytest.mark.pitfall("P111", "P121")
async def test_coins_registered_while_blocks_arrive_miss_nothing(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        address = _addresses(5, 1)[0]
        await w.watch(address)
        tokens = []
        for at in range(8):
            made = await w.node.deploy(contracts()["Token"], "Coin", f"C{at}", 6)
            await made.send("mint", w.node.accounts[0], UNITS)
            tokens.append(made)
        await w.mine()
        done = asyncio.Event()
        miner = asyncio.create_task(_mine_until(w, done, 0.02))
        for token in tokens:
            await token.send("transfer", address, 1)
            await w.list_coin(token)
            await token.send("transfer", address, 2)
        done.set()
        await miner
        await w.mine()
        standing = await w.agree()
        assert {each.asset for each in standing} == {token.address for token in tokens}


@pytest.mark.pitfall("P111")
async def test_a_lower_from_block_scans_what_is_missing_once(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        address = _addresses(6, 1)[0]
        for units in (1, 2, 3):
            await token.send("transfer", address, units)
            await w.mine()
        height = await w.node.height()
        await w.watch(address)
        await w.mine()
        assert await w.deposits() == []
        assert await w.watch(address, fromBlock=height - 1) == height - 1
        w.watched[address] = height - 1
        await w.follow()
        assert sorted(row["amountUnits"] for row in await w.deposits()) == ["2", "3"]
        assert {row["status"] for row in await w.deposits()} == {"confirmed"}
        await w.watch(address, fromBlock=0)
        w.watched[address] = w.coins[token.address] = 0
        await w.follow()
        rows = await w.deposits()
        assert sorted(row["amountUnits"] for row in rows) == ["1", "2", "3"]
        for row in rows:
            assert await w.types(row["id"]) == ["detected", "confirmed"]


async def test_removal_acts_from_the_next_block_and_keeps_history(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        address = _addresses(7, 1)[0]
        await w.watch(address, reference="first")
        await w.node.pay(address, 1)
        await w.mine()
        await w.account.delete(f"/v1/addresses/{NETWORK}/{address}")
        await w.node.pay(address, 2)
        await w.mine()
        await w.watch(address, reference="second")
        await w.node.pay(address, 3)
        await w.mine()
        await w.confirm()
        rows = [(row["amountUnits"], row["reference"]) for row in await w.deposits()]
        assert rows == [("1", "first"), ("3", "second")]
        assert {row["status"] for row in await w.deposits()} == {"confirmed"}


async def test_an_inactive_coin_holds_and_its_return_releases(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token(coin="usdt")
        address = _addresses(8, 1)[0]
        await w.watch(address)
        await w.admin.put("/v1/coins", {"coin": "usdt", "status": "INACTIVE"})
        await token.send("transfer", address, 5)
        await w.mine(2)
        row = (await w.deposits())[0]
        assert (row["status"], row["reason"]) == ("held", "coin_inactive")
        await w.admin.put("/v1/coins", {"coin": "usdt", "status": "ACTIVE"})
        await w.mine()
        assert await w.types(row["id"]) == ["held", "detected", "confirmed"]
        await w.agree()
        await w.delivered()


async def test_two_accounts_may_watch_one_address(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        address = _addresses(9, 1)[0]
        await w.watch(address)
        async with type(w.account)(w.engine.base, await open_account(w.admin, "other")) as other:
            await w.node.pay(address, 1)
            await w.mine()
            await other.post("/v1/addresses", {"network": NETWORK, "addresses": [address]})
            await w.node.pay(address, 2)
            await w.mine()
            assert [row["amountUnits"] for row in await w.deposits()] == ["1", "2"]
            assert [row["amountUnits"] for row in await other.all("/v1/deposits")] == ["2"]
