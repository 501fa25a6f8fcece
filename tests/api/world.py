"""An API on a loopback port over a database with two accounts, for tests of its routes.

The networks are as a follower would have left them; deposits are booked by the engine's own code.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Self

import aiohttp
import asyncpg
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict

from callbacks.api import ROUTES
from indexer import coins, config, coverage, cursors
from indexer.api import accounts
from indexer.api.context import Context
from indexer.api.limits import Limits
from indexer.api.protocol import LIMITS
from indexer.api.server import build
from indexer.booking import Booking, Found
from indexer.chains import NATIVE, Chain, Header, Token, Transfer
from indexer.chains.evidence import Proof
from indexer.chains.evm_codec import EvmCodec
from indexer.model import Moment, Refused, Unavailable
from indexer.secret import Vault
from tests.api.documented import Documented

ADMIN_KEY: Final = "the-admin-key-of-the-settings"
HEIGHT: Final = 1_000  # of every network's cursor at first
CONFIRMATIONS: Final = 12
REORG_WINDOW: Final = 64
NETWORKS: Final = {"ethereum": 1, "bsc": 56, "polygon": 137, "idle": 10}  # chain ids
IDLE: Final = "idle"  # configured, never started

CODEC: Final = EvmCodec()
USDT: Final = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
STRANGER: Final = b"\xee" * 20


def address(number: int) -> str:
    return CODEC.format_address(number.to_bytes(20, "big"))


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Any
    raw: bytes = b""

    @property
    def error(self) -> str:
        """The sentence of a refusal, whose form is the contract's."""
        assert self.status >= 400, self
        if "success" in self.body:  # the exchange-style routes' envelope
            assert (self.body["code"], self.body["success"]) == (str(self.status), False)
            return str(self.body["msg"])
        assert set(self.body) <= {"error", "code", "details"}, self.body
        assert self.body["code"].isupper(), self.body
        assert "Traceback" not in self.body["error"], self.body
        sentence: str = self.body["error"]
        return sentence


class Caller:
    """Somebody with a key, or with none. Every answer must stand in the server's document."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: str,
        key: str | None,
        documented: Documented,
    ) -> None:
        self._session = session
        self.base = base
        self._documented = documented
        self.headers = {} if key is None else {"X-Api-Key": key}

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        headers = CIMultiDict(self.headers)
        headers.extend(more.pop("headers", {}))
        if body is not None:
            more["json"] = body
        async with self._session.request(
            method, self.base + path, headers=headers, **more
        ) as response:
            text = await response.read()
            said = await response.json() if text else None
            self._documented.check(method, path, response.status, said)
            return Answer(response.status, said, response.headers, text)

    async def get(self, path: str, **params: Any) -> Answer:
        return await self.ask("GET", path, params=params)

    async def post(self, path: str, body: Any, **more: Any) -> Answer:
        return await self.ask("POST", path, body, **more)

    async def put(self, path: str, body: Any) -> Answer:
        return await self.ask("PUT", path, body)

    async def delete(self, path: str) -> Answer:
        return await self.ask("DELETE", path)

    async def register(self, network: str, *addresses: Any, **more: Any) -> Answer:
        """Addresses that must be taken."""
        body = {"network": network, "addresses": list(addresses), **more}
        answer = await self.post("/v1/addresses", body)
        assert answer.status == 201, answer
        return answer

    async def pages(self, path: str, **params: Any) -> list[Any]:
        """Every item of a list."""
        items: list[Any] = []
        while True:
            page = (await self.get(path, **params)).body
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            params["cursor"] = page["nextCursor"]


def unlimited() -> Limits:
    """For tests that ask more than any caller would."""
    return Limits(rate=100_000.0, guesses=100_000)


@dataclass
class World:
    pool: asyncpg.Pool
    context: Context
    server: TestServer
    session: aiohttp.ClientSession
    tokens: dict[tuple[str, bytes], Token]
    documented: Documented
    admin: Caller = field(init=False)
    alice: Caller = field(init=False)
    bob: Caller = field(init=False)
    nobody: Caller = field(init=False)
    node_fails: Exception | None = None
    chains: dict[str, Chain] = field(default_factory=dict)  # whose nodes answer
    proof: Proof | None = None  # what the nodes give; None: they don't have the block any more
    not_ready: list[str] = field(default_factory=list)
    asked: int = 0  # times that a node was asked for a token
    proved: list[tuple[int, bytes, Transfer]] = field(default_factory=list)  # that was asked for

    @classmethod
    async def begin(cls, pool: asyncpg.Pool, server_pool: asyncpg.Pool | None = None) -> Self:
        """`server_pool`: what the server works with, where that is not what the test looks at."""
        await _start_networks(pool)
        world: Self

        async def token(network: str, asset: bytes) -> Token:
            return world._token(network, asset)

        async def proofs(network: str, height: int, block: bytes, transfer: Transfer) -> Proof:
            return world._proof(height, block, transfer)

        @asynccontextmanager
        async def reach(network: str) -> AsyncIterator[Chain]:
            if network not in world.chains:
                raise Unavailable(f"no node of {network} answers")
            yield world.chains[network]

        async def ready() -> Sequence[str]:
            return world.not_ready

        context = Context(
            pool=server_pool or pool,
            settings=settings(),
            vault=Vault("a secret key of the tests"),
            codecs=dict.fromkeys(NETWORKS, CODEC),
            tokens=token,
            proofs=proofs,
            reach=reach,
            roles=("api",),
            ready=ready,
        )
        server = TestServer(build(context, ROUTES, unlimited()))
        await server.start_server(**LIMITS)
        session = aiohttp.ClientSession()
        async with session.get(server.make_url("/openapi.json")) as answer:
            documented = Documented(await answer.json())
        world = cls(pool, context, server, session, {}, documented)
        world.admin = world.caller(ADMIN_KEY)
        world.nobody = world.caller(None)
        world.alice = world.caller(await world.new_key("alice", "read", "write"))
        world.bob = world.caller(await world.new_key("bob", "read", "write"))
        return world

    async def close(self) -> None:
        await self.session.close()
        await self.server.close()

    def caller(self, key: str | None) -> Caller:
        base = str(self.server.make_url("")).rstrip("/")
        return Caller(self.session, base, key, self.documented)

    async def new_key(self, account: str, *scopes: str) -> str:
        async with self.pool.acquire() as connection:
            known = await connection.fetchval("select id from account where id = $1", account)
            if known is None:
                await accounts.create_account(connection, account.title(), account)
            made = await accounts.create_key(connection, self.context.vault, account, scopes)
            return made.key

    @asynccontextmanager
    async def with_callbacks(self, **changed: Any) -> AsyncIterator[Caller]:
        """Alice, at a server with other `[callbacks]`."""
        settings = self.context.settings
        callbacks = settings.callbacks.model_copy(update=changed)
        other = settings.model_copy(update={"callbacks": callbacks})
        async with TestServer(build(replace(self.context, settings=other), ROUTES)) as server:
            base = str(server.make_url("")).rstrip("/")
            yield Caller(self.session, base, self.alice.headers["X-Api-Key"], self.documented)

    def _token(self, network: str, asset: bytes) -> Token:
        self.asked += 1
        if self.node_fails is not None:
            raise self.node_fails
        if (network, asset) not in self.tokens:
            raise Refused(f"{CODEC.format_asset(asset)} is no token: there is no contract")
        return self.tokens[network, asset]

    def _proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        self.proved.append((height, block, transfer))
        if self.node_fails is not None:
            raise self.node_fails
        if self.proof is None:
            raise Refused("no node gives that block any more")
        return self.proof

    # ------------------------------------------------------------ what a follower would do

    async def advance(self, network: str, height: int) -> None:
        await self.pool.execute(
            "update cursor set height = $2, version = version + 1 where network = $1",
            network,
            height,
        )

    async def activate(self, network: str) -> None:
        async with self.pool.acquire() as connection:
            await coverage.activate(connection, network)

    async def pay(
        self,
        number: int,
        to: str,
        units: int,
        *,
        network: str = "ethereum",
        asset: bytes = NATIVE,
        height: int = HEIGHT + 1,
        final: int = 0,
    ) -> None:
        """Transaction `number` in the block at `height`; the cursor is there or stays above it."""
        header = block(network, height)
        tx = CODEC.parse_hash(tx_hash(network, number))
        transfer = Transfer(tx, asset, CODEC.parse_address(to), 0, units, STRANGER)
        await self.pool.execute(
            """
            update cursor set height = greatest(height, $2), finalized = greatest(finalized, $3),
                              version = version + 1 where network = $1
            """,
            network,
            height,
            final,
        )
        async with self.pool.acquire() as connection, connection.transaction():
            cursor = await cursors.lock(connection, network)
            assert cursor is not None
            moment = Moment(cursor.height, cursor.finalized, await cursors.now(connection))
            booking = Booking(connection, network, CODEC, CONFIRMATIONS, moment)
            await booking.find([Found(header, [transfer])])
            await booking.promote()
            await booking.store()


def tx_hash(network: str, number: int) -> str:
    """Of the transaction that `World.pay` makes."""
    return CODEC.format_hash(hashlib.sha256(f"{network} tx {number}".encode()).digest())


def block(network: str, height: int) -> Header:
    def digest(number: int) -> bytes:
        return hashlib.sha256(f"{network} block {number}".encode()).digest()

    return Header(height, digest(height), digest(height - 1), 1_790_000_000 + height, "node")


def block_time(height: int) -> datetime:
    return datetime.fromtimestamp(block("", height).time, UTC)


def settings() -> config.Settings:
    networks = {}
    for name, chain_id in NETWORKS.items():
        table: dict[str, Any] = {
            "id": name,
            "family": "evm",
            "chain_id": chain_id,
            "endpoints": ["http://127.0.0.1:1"],
            "confirmations": CONFIRMATIONS,
            "reorg_window": REORG_WINDOW,
        }
        networks[name] = config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))
    api = config.Api(admin_key=ADMIN_KEY)
    return config.Settings(api=api).model_copy(update={"networks": networks})


async def _start_networks(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        for name, network in settings().networks.items():
            await connection.execute(
                "insert into network (id, family, identity) values ($1, 'evm', $1)", name
            )
            if name == IDLE:
                continue
            await connection.execute(
                "insert into cursor (network, height, hash) values ($1, $2, $3)",
                name,
                HEIGHT,
                block(name, HEIGHT).hash,
            )
            await coins.register_native_coin(
                connection, name, network.coin, network.symbol, network.decimals, HEIGHT
            )
