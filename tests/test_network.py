"""A network's life in a process: connecting, leading, saying how it is, going on after failures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg
import pytest

from indexer import config, coverage, status
from indexer.chains import Header
from indexer.lease import FOLLOW, Lease
from indexer.model import Refused, Unavailable
from indexer.network import Network
from indexer.status import NetworkState
from tests.scripted import ADDRESSES, ScriptedChain, payment

ME, OTHER = UUID(int=1), UUID(int=2)
PATIENCE = 10.0  # seconds that a test waits for what must come


def settings(**more: object) -> config.Network:
    table = {
        "id": "net",
        "family": "evm",
        "chain_id": 1337,
        "endpoints": ["http://127.0.0.1:1"],
        "confirmations": 2,
        "poll_interval": 0.01,
        **more,
    }
    return config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))


class Moody(ScriptedChain):
    """A chain whose calls fail as a test says."""

    connecting: Exception | None = None
    asking: Exception | None = None

    async def connect(self) -> str:
        if self.connecting is not None:
            raise self.connecting
        return await super().connect()

    async def tip(self) -> Header:
        if self.asking is not None:
            raise self.asking
        return await super().tip()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.network.BACKOFF_SECONDS", (0.01,))
    monkeypatch.setattr("indexer.network.STANDBY_SECONDS", 0.02)
    monkeypatch.setattr("indexer.network.SAID_SECONDS", 0.1)


async def _watch(pool: asyncpg.Pool, address: bytes) -> None:
    await pool.execute("insert into account (id, name) values ('a', 'A')")
    await pool.execute(
        """insert into watched_address (network, account, address, covered_from)
           values ('net', 'a', $1, 2)""",
        address,
    )


async def test_an_unreachable_network_is_tried_until_it_answers(pool: asyncpg.Pool) -> None:
    chain = Moody()
    chain.connecting = Unavailable("node-a can't be reached")
    network = Network("net", settings(), chain, pool)
    stop = asyncio.Event()
    opening = asyncio.create_task(network.open(stop))
    await until(lambda: network.state is NetworkState.UNREACHABLE)
    assert network.reason == "node-a can't be reached"
    chain.connecting = None
    assert await opening
    assert await pool.fetchval("select identity from network") == "scripted:node-a"


async def test_a_refused_network_says_why_and_is_left(pool: asyncpg.Pool) -> None:
    chain = Moody()
    chain.connecting = Refused("node-a serves chain 5, not 1337")
    network = Network("net", settings(), chain, pool)
    assert not await network.open(asyncio.Event())
    row = await pool.fetchrow("select state, reason from network")
    assert tuple(row) == ("refused", "node-a serves chain 5, not 1337")


@pytest.mark.pitfall("P39")
async def test_another_chain_behind_the_same_settings_is_refused_ever_after(
    pool: asyncpg.Pool,
) -> None:
    assert await Network("net", settings(), ScriptedChain("node-a"), pool).open(asyncio.Event())
    swapped = Network("net", settings(), ScriptedChain("elsewhere"), pool)
    assert not await swapped.open(asyncio.Event())
    assert "follows scripted:node-a" in str(swapped.reason)


async def test_two_networks_on_one_chain_are_refused(pool: asyncpg.Pool) -> None:
    assert await Network("net", settings(), ScriptedChain(), pool).open(asyncio.Event())
    twin = Network("twin", settings(id="twin", coin="twin"), ScriptedChain(), pool)
    assert not await twin.open(asyncio.Event())
    assert "another network" in str(twin.reason)


async def test_it_follows_says_so_and_comes_back_after_failures(pool: asyncpg.Pool) -> None:
    chain = Moody()
    network = Network("net", settings(), chain, pool)
    stop = asyncio.Event()
    await network.open(stop)
    following = asyncio.create_task(network.follow(stop, ME))
    await until(lambda: network.state is NetworkState.FOLLOWING)
    chain.asking = Unavailable("node-a gave no answer within 20 s")
    await until(lambda: network.state is NetworkState.UNREACHABLE)
    chain.mine()
    chain.asking = None
    await until(lambda: network.state is NetworkState.FOLLOWING)
    stop.set()
    await following
    assert await pool.fetchval("select height from cursor") == len(chain.view) - 1
    assert await pool.fetchval("select count(*) from lease") == 0


async def test_endpoints_that_disagree_are_named_while_it_follows(pool: asyncpg.Pool) -> None:
    chain, stop = ScriptedChain(), asyncio.Event()
    network = Network("net", settings(), chain, pool)
    await network.open(stop)
    following = asyncio.create_task(network.follow(stop, ME))
    chain.disagreement = "http://b:1 names other blocks than the others"
    standing = None
    async with asyncio.timeout(PATIENCE):  # it is said a moment later than it is known
        while standing != ("following", chain.disagreement):
            [told] = await status.networks(pool)
            standing = (told["state"], told["reason"])
    chain.disagreement = None
    await until(lambda: network.reason is None)
    stop.set()
    await following


async def test_a_standby_waits_for_the_lease_and_takes_over(pool: asyncpg.Pool) -> None:
    chain = ScriptedChain()
    network = Network("net", settings(), chain, pool)
    stop = asyncio.Event()
    await network.open(stop)
    leader = Lease(pool, f"{FOLLOW}net", OTHER)
    await leader.take()
    following = asyncio.create_task(network.follow(stop, ME))
    chain.mine()
    await _watch(pool, ADDRESSES[0])
    async with pool.acquire() as connection, connection.transaction():
        while await coverage.activate(connection, "net"):
            pass
    await until(lambda: network._watch.contains([ADDRESSES[0]])[0])
    assert await pool.fetchval("select height from cursor") == 0
    await pool.execute("update lease set until = clock()")
    async with asyncio.timeout(PATIENCE):
        while await pool.fetchval("select height from cursor") == 0:
            await asyncio.sleep(0.05)
    stop.set()
    await following


async def test_a_process_that_does_not_lead_does_not_say_how_the_network_is(
    pool: asyncpg.Pool,
) -> None:
    await Network("net", settings(), ScriptedChain(), pool).open(asyncio.Event())
    await Lease(pool, f"{FOLLOW}net", OTHER).take()
    chain, stop = Moody(), asyncio.Event()
    chain.connecting = Unavailable("node-a can't be reached from here")
    standby = Network("net", settings(), chain, pool)
    opening = asyncio.create_task(standby.open(stop))
    await until(lambda: standby.state is NetworkState.UNREACHABLE)
    assert await pool.fetchval("select state from network") == "starting"
    await pool.execute("update lease set until = clock()")
    async with asyncio.timeout(PATIENCE):
        while await pool.fetchval("select state from network") != "unreachable":
            await asyncio.sleep(0.02)
    stop.set()
    await opening


async def test_registration_is_scanned_beside_the_follower(pool: asyncpg.Pool) -> None:
    chain = ScriptedChain()
    network = Network("net", settings(), chain, pool)
    stop = asyncio.Event()
    await network.open(stop)
    for n in range(5):
        chain.mine(payment(n, (ADDRESSES[0], 1)))
    tasks = [
        asyncio.create_task(network.follow(stop, ME)),
        asyncio.create_task(network.scan(stop, ME)),
    ]
    await _watch(pool, ADDRESSES[0])
    async with asyncio.timeout(PATIENCE):
        while await pool.fetchval("select count(*) from deposit") < 4:
            await asyncio.sleep(0.02)
    stop.set()
    await asyncio.gather(*tasks)
    assert await pool.fetchval("select count(*) from deposit") == 4
