"""What nodes say by themselves: it ends a wait early, and decides nothing."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager
from functools import partial
from time import monotonic

import asyncpg
import pytest
from structlog.testing import capture_logs

from indexer import config
from indexer.chains import Header, utxo_hints
from indexer.chains.families import open_chain
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.hints import PAUSE_SECONDS, Hints
from indexer.model import Unavailable
from tests.harness import hints as harness
from tests.harness.hints import FAR, LOOK, SOON, Listening, following, reach
from tests.harness.publisher import Publisher
from tests.scripted import ScriptedChain


def settings(poll_interval: float = FAR) -> config.Network:
    table = {
        "id": "net",
        "family": "evm",
        "chain_id": 1337,
        "endpoints": ["http://127.0.0.1:1"],
        "confirmations": 2,
        "poll_interval": poll_interval,
    }
    return config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))


def utxo_settings(url: str, publisher: str, poll_interval: float = FAR) -> config.Network:
    table = {
        "id": "net",
        "family": "utxo",
        "coin": "btc",
        "chain": "regtest",
        "endpoints": [{"url": url, "zmq": publisher}],
        "confirmations": 2,
        "poll_interval": poll_interval,
    }
    return config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table))


# ------------------------------------------------------------------------------ one sleeper


async def test_a_hint_ends_a_sleep_and_one_given_before_it_counts() -> None:
    hints = Hints()
    asyncio.get_running_loop().call_later(3 * PAUSE_SECONDS, hints.give)
    async with asyncio.timeout(SOON):
        await hints.wait(FAR)
        hints.give()
        await hints.wait(FAR)
    with pytest.raises(TimeoutError):  # and each of them once
        async with asyncio.timeout(3 * PAUSE_SECONDS):
            await hints.wait(FAR)


async def test_without_a_hint_a_sleep_has_its_length() -> None:
    begun = monotonic()
    await Hints().wait(3 * PAUSE_SECONDS)
    assert monotonic() - begun >= 3 * PAUSE_SECONDS


async def test_a_flood_of_hints_wakes_no_more_often_than_the_pause_allows() -> None:
    hints = Hints()

    async def flood() -> None:
        while True:
            hints.give()
            await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    begun, woken = monotonic(), 5
    for _ in range(woken):
        await hints.wait(FAR)
    flooding.cancel()
    assert monotonic() - begun >= woken * PAUSE_SECONDS


# ------------------------------------------------------------------------------ any chain


async def test_a_hinted_block_is_followed_long_before_the_poll(pool: asyncpg.Pool) -> None:
    chain = ScriptedChain()
    async with following(pool, settings(), chain):
        for _ in range(3):
            block = chain.mine().hash
            chain.hint()
            await reach(pool, block)


async def test_a_lying_hint_changes_nothing(pool: asyncpg.Pool) -> None:
    chain = ScriptedChain()
    async with following(pool, settings(), chain):
        before = await pool.fetchrow("select * from cursor")
        for _ in range(5):
            chain.hint()
            await asyncio.sleep(PAUSE_SECONDS)
        assert await pool.fetchrow("select * from cursor") == before


async def test_hints_do_not_shorten_the_rest_of_a_node_that_fails(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(ScriptedChain):
        failing = False
        asked = 0  # while it failed

        async def tip(self) -> Header:
            self.asked += self.failing
            if self.failing:
                raise Unavailable("node-a gave no answer within 20 s")
            return await super().tip()

    chain = Failing()
    monkeypatch.setattr("indexer.network.BACKOFF_SECONDS", (FAR,))
    async with following(pool, settings(), chain):
        chain.failing = True
        for _ in range(5):
            chain.hint()
            await asyncio.sleep(2 * PAUSE_SECONDS)
        assert chain.asked == 1


# ------------------------------------------------------------------------------ bitcoind


def listening(*addresses: str) -> AbstractAsyncContextManager[Listening]:
    return harness.listening(partial(utxo_hints.listen, addresses))


async def test_a_published_block_is_followed_long_before_the_poll(pool: asyncpg.Pool) -> None:
    sim = SimulatedUtxoChain(5)
    with Publisher() as publisher:
        async with UtxoNode(sim) as node:
            rules = utxo_settings(node.url, publisher.address)
            async with following(pool, rules, open_chain("net", rules)):
                # Nothing is heard until libzmq has connected.
                await reach(pool, sim.mine().hash, publisher.block)
                block = sim.mine()
                publisher.block(block.hash)
                await reach(pool, block.hash)


async def test_a_publisher_that_is_silent_or_away_costs_nothing_but_time(
    pool: asyncpg.Pool,
) -> None:
    sim = SimulatedUtxoChain(5)
    with Publisher() as away:
        address = away.address
    async with UtxoNode(sim) as node:
        rules = utxo_settings(node.url, address, poll_interval=LOOK)
        async with following(pool, rules, open_chain("net", rules)):
            await reach(pool, sim.mine().hash)


async def test_a_publisher_that_starts_again_is_heard_again() -> None:
    with Publisher() as publisher:
        port = publisher.port
        async with listening(publisher.address) as heard:
            await heard.until_hint(publisher.block)
            publisher.__exit__(None, None, None)
            with Publisher(port) as again:
                await heard.until_hint(again.block)


async def test_what_is_no_new_block_is_no_hint() -> None:
    block, number = bytes(32), bytes(4)
    with Publisher() as publisher:
        async with listening(publisher.address) as heard:
            await heard.until_hint(publisher.block)
            await heard.quiet(utxo_hints.READ_SECONDS)
            before = heard.hints
            publisher.say(b"hashtx", block, number)
            publisher.say(b"rawblock", b"\0" * 10**6, number)
            publisher.say(b"hashblock")
            publisher.say(b"hashblock", block)
            publisher.say(b"hashblock", block[1:], number)
            publisher.say(b"hashblock2", block, number)
            publisher.say(b"hashblock", block, number, b"")
            await asyncio.sleep(10 * utxo_hints.READ_SECONDS)
            assert heard.hints == before
            await heard.until_hint(publisher.block)


async def test_a_part_too_large_ends_the_connection_and_silence_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utxo_hints, "SILENCE_SECONDS", 0.3)
    with Publisher() as publisher:
        async with listening(publisher.address) as heard:
            await heard.until_hint(publisher.block)
            publisher.say(b"hashblock", b"\0" * 10**6, bytes(4))
            await heard.quiet(utxo_hints.READ_SECONDS)
            await heard.until_hint(publisher.block)


async def test_an_address_where_something_else_answered_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utxo_hints, "SILENCE_SECONDS", 0.3)
    asked = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with listening(f"tcp://{host}:{port}") as heard:
        async with server, asyncio.timeout(SOON):
            await asked.wait()
        with Publisher(port) as publisher:
            await heard.until_hint(publisher.block)


async def test_a_flood_is_read_no_faster_than_its_pace() -> None:
    with Publisher() as publisher:
        async with listening(publisher.address) as heard:
            await heard.until_hint(publisher.block)
            before, begun = heard.hints, monotonic()
            for _ in range(10):
                for _ in range(2000):
                    publisher.block()
                await asyncio.sleep(LOOK)
            assert heard.hints - before <= (monotonic() - begun) / utxo_hints.READ_SECONDS + 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts what /proc shows")
async def test_a_listener_that_ends_leaves_no_socket_and_no_thread() -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with Publisher() as publisher:
        async with listening(publisher.address):
            pass  # the first one makes what the process keeps
        before = held()
        for _ in range(3):
            async with listening(publisher.address, "tcp://127.0.0.1:1") as heard:
                await heard.until_hint(publisher.block)
                assert held() > before
        async with asyncio.timeout(SOON):  # the publisher has to notice that nobody listens now
            while held() != before:
                await asyncio.sleep(LOOK)


async def test_an_address_that_can_t_be_used_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utxo_hints, "RETRY_SECONDS", LOOK)
    with capture_logs() as logs:
        async with listening("tcp://*:1"), asyncio.timeout(SOON):
            while len(logs) < 2:
                await asyncio.sleep(LOOK)
    assert {(log["event"], log["publisher"]) for log in logs} == {("no_hints", "tcp://*:1")}
    assert all("Invalid argument" in log["reason"] for log in logs)
