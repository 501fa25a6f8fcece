"""The engine under measurement: a fresh database, a network's settings, and what it watches."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from callbacks.endpoints import create_endpoint
from indexer import coins, config, coverage, origin
from indexer.chains import Chain
from indexer.chains.utxo_script import p2pkh
from indexer.database import connect_pool, migrate
from indexer.follower import Follower, Outcome
from indexer.model import Impossible
from indexer.secret import Vault
from indexer.watchset import WatchSet
from tests.bench.blocks import CHAIN_ID, listed_tokens, watched_addresses

NETWORK: Final = "bench"
ACCOUNTS: Final = 10
CONFIRMATIONS: Final = 12
REORG_WINDOW: Final = 32  # small, so that most blocks lie below it, as in a long catch-up
SECRET_KEY: Final = "a key that protects nothing but a benchmark"

_numbers: Final = itertools.count(1)


def settings(*urls: str, verify: str = "full", native: str = "transactions") -> config.EvmNetwork:
    table = {
        "id": NETWORK,
        "family": "evm",
        "chain_id": CHAIN_ID,
        "endpoints": urls,
        "confirmations": CONFIRMATIONS,
        "reorg_window": REORG_WINDOW,
        "start": 1,
        "verify": verify,
        "native": native,
    }
    return config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))


def watched_keys(family: str, count: int) -> list[bytes]:
    """What a family knows the watched addresses by."""
    addresses = watched_addresses(count)
    return [p2pkh(address) for address in addresses] if family == "utxo" else addresses


def vault() -> Vault:
    return Vault(SECRET_KEY)


async def fresh_database(cluster: str) -> str:
    """A new database of a cluster, with our schema in it; returns its URL.

    One for each measurement: what an earlier one left behind must not speed up a later one.
    """
    url = await empty_database(cluster, f"bench_{next(_numbers)}")
    connection = await asyncpg.connect(url)
    try:
        await migrate(connection, vault())
    finally:
        await connection.close()
    return url


async def empty_database(cluster: str, name: str) -> str:
    """The URL of a new database of a cluster in which nothing is."""
    connection = await asyncpg.connect(cluster)
    try:
        await connection.execute(f"create database {name}")
    finally:
        await connection.close()
    return cluster.rpartition("/")[0] + "/" + name


@asynccontextmanager
async def following(
    database: str,
    network: config.Network,
    chain: Chain,
    watched: int,
    callback_url: str | None = None,
) -> AsyncIterator[Follower]:
    """A follower at block 0 with everything registered and active, about to take its first step.

    `watched`: how many addresses, over all accounts. `callback_url`: where each account's endpoint
    is; None: no account has one.
    """
    pool = await connect_pool(database)
    try:
        await pool.execute(
            "insert into network (id, family) values ($1, $2)", NETWORK, network.family
        )
        await origin.identify(pool, NETWORK, await chain.connect())
        await origin.begin(pool, chain, NETWORK, network)
        watch = WatchSet(NETWORK, network.reorg_window)
        async with pool.acquire() as connection:
            await _register(connection, network.family, watched)
            if callback_url is not None:
                await _register_endpoints(connection, callback_url)
            while await coverage.activate(connection, NETWORK):
                pass
            await watch.refresh(connection)
        follower = Follower(NETWORK, network, chain, pool, watch)
        try:
            yield follower
        finally:
            await follower.close()
    finally:
        await chain.close()
        await pool.close()


async def follow(follower: Follower) -> None:
    """Step until the follower is at the head."""
    while (outcome := await follower.step()) is not Outcome.IDLE:
        if outcome is not Outcome.EXTENDED:
            raise Impossible(f"a chain at rest was {outcome}")


async def deposits(database: str) -> int:
    """How many a database holds."""
    connection = await asyncpg.connect(database)
    try:
        return int(await connection.fetchval("select count(*) from deposit"))
    finally:
        await connection.close()


async def _register_endpoints(connection: asyncpg.Connection, url: str) -> None:
    async with connection.transaction():
        for number in range(ACCOUNTS):
            account = f"account-{number}"
            await create_endpoint(connection, vault(), account, {"url": url})


async def _register(connection: asyncpg.Connection, family: str, watched: int) -> None:
    """The listed tokens as coins, and the watched addresses dealt out to the accounts."""
    addresses = watched_keys(family, watched)
    tokens = [] if family == "utxo" else listed_tokens()
    async with connection.transaction():
        for number, token in enumerate(tokens):
            coin = coins.NewCoin(f"token_{number}", NETWORK, token, f"Token {number}", "TOK", 6)
            await coins.register_coin(connection, coin)
        for number in range(ACCOUNTS):
            account = f"account-{number}"
            await connection.execute("insert into account (id, name) values ($1, $1)", account)
            keys = addresses[number::ACCOUNTS]
            await coverage.register_addresses(
                connection,
                NETWORK,
                account,
                [coverage.NewAddress(key, reference=f"user-{key.hex()[:8]}") for key in keys],
                silent=False,
            )
