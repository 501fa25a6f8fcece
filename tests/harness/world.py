"""A whole installation around one chain: node, engine, account, endpoint, receiver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from tests.harness.anvil import Anvil, anvil
from tests.harness.api import Client
from tests.harness.contracts import Deployed, contracts
from tests.harness.engine import ADMIN_KEY, LOG_TAIL, Engine, engine
from tests.harness.oracle import NATIVE, Found, Identity, Oracle
from tests.harness.proxy import Proxy, proxy
from tests.harness.receiver import Receiver, receiver

NETWORK: Final = "ethereum"
PATIENCE: Final = 30.0  # seconds until what must happen has happened
LOOK: Final = 0.03  # seconds between two looks
CONFIRMATIONS: Final = 2
WINDOW: Final = 40  # blocks that may be replaced
POLL: Final = 0.05  # seconds

# Whether the follower is at a block, and has nothing left to activate or to scan.
SETTLED: Final = """
    select c.hash = $2
       and not exists (select from watched_address where network = $1 and state = 'pending')
       and not exists (select from coin where network = $1 and state = 'pending')
       and not exists (select from scan where network = $1 and state = 'open')
      from cursor c where network = $1
"""

# Deliveries that wait for their next attempt, and are not being attempted, are due now.
HURRY: Final = "update delivery set due_at = clock() where lease_token is null"


def network(*urls: str, **settings: Any) -> dict[str, Any]:
    """The table of one EVM network, fast enough for tests."""
    return {
        "family": "evm",
        "chain_id": 31337,
        "coin": "eth",
        "symbol": "ETH",
        "decimals": 18,
        "endpoints": list(urls),
        "confirmations": CONFIRMATIONS,
        "reorg_window": WINDOW,
        "poll_interval": POLL,
        **settings,
    }


@dataclass
class World:
    """What a scenario acts on and looks at."""

    node: Anvil
    proxy: Proxy
    engine: Engine
    receiver: Receiver
    admin: Client
    account: Client
    database: asyncpg.Connection
    watched: dict[str, int] = field(default_factory=dict)  # lower-case address: covered from
    coins: dict[str, int] = field(default_factory=dict)  # lower-case contract: covered from

    async def watch(self, *addresses: str, **fields: Any) -> int:
        """Register addresses; `coveredFrom`."""
        entries = [{"address": address, **fields} for address in addresses]
        made = await self.account.post("/v1/addresses", {"network": NETWORK, "addresses": entries})
        covered: int = made["coveredFrom"]
        if fields.get("role") != "own":
            for address in addresses:
                self.watched.setdefault(address.lower(), covered)
        return covered

    async def list_coin(self, token: Deployed | str, **settings: Any) -> str:
        """Register a contract; the coin's id."""
        address = token if isinstance(token, str) else token.checksummed
        body = {"network": NETWORK, "contractAddress": address, **settings}
        made = await self.admin.post("/v1/coins", body)
        self.coins[address.lower()] = made["coveredFrom"]
        name: str = made["coin"]
        return name

    async def token(self, symbol: str = "USDT", decimals: int = 6, **settings: Any) -> Deployed:
        """A plain token, listed, of which the node's first account has plenty."""
        made = await self.node.deploy(contracts()["Token"], f"{symbol} coin", symbol, decimals)
        await made.send("mint", self.node.accounts[0], 10**30)
        await self.mine()  # below what anything registered from now on covers
        await self.list_coin(made, **settings)
        return made

    async def subscribe(self, events: list[str] | None = None) -> None:
        """An endpoint of the account at the receiver."""
        body: dict[str, Any] = {"url": self.receiver.url}
        if events is not None:
            body["events"] = events
        self.receiver.secrets.append((await self.account.post("/v1/endpoints", body))["secret"])

    async def mine(self, blocks: int = 1) -> int:
        """Mine, and wait until the engine is there; the height."""
        height = await self.node.mine(blocks)
        await self.follow()
        return height

    async def confirm(self) -> None:
        """Mine as much as a deposit in the head needs."""
        await self.mine(CONFIRMATIONS - 1)

    async def swap(self, depth: int, *branch: Sequence[str]) -> int:
        """Replace the last `depth` blocks by others, at one instant; the new height.

        Each of `branch` is a block of signed transactions; empty ones follow it, one block more
        than there was at least.
        """
        async with self.proxy.paused():
            await self.node.rollback(depth)
            for raw in branch:
                await self.node.put(raw)
                await self.node.mine()
            return await self.node.mine(max(1, depth + 1 - len(branch)))

    async def types(self, deposit: str) -> list[str]:
        """The types of a deposit's events so far, without `deposit.`."""
        events = [each for each in await self.account.events() if each["data"]["id"] == deposit]
        numbers = [each["data"]["sequence"] for each in events]
        assert numbers == list(range(1, len(events) + 1)), numbers
        return [each["type"].removeprefix("deposit.") for each in events]

    async def follow(self) -> None:
        """Wait until the engine stands at the node's head and has nothing left to do there."""
        head = bytes.fromhex((await self.node.head())["hash"][2:])

        async def there() -> bool:
            return bool(await self.database.fetchval(SETTLED, NETWORK, head))

        await self.until(there, "the engine did not reach the node's head")

    async def until(
        self, done: Callable[[], Awaitable[bool]], otherwise: str, patience: float = PATIENCE
    ) -> None:
        """Wait until `done`; a failure shows the end of the engine's log."""
        end = time.monotonic() + patience
        while not await done():
            assert time.monotonic() < end, f"{otherwise}\n{self.engine.log[-LOG_TAIL:]}"
            await asyncio.sleep(LOOK)

    async def delivered(self, patience: float = PATIENCE) -> None:
        """Wait until no callback is left to send; a test does not wait out the retry schedule."""

        async def nothing_left() -> bool:
            await self.database.execute(HURRY)
            return not await self.database.fetchval("select count(*) from delivery")

        await self.until(nothing_left, "callbacks are left over", patience)
        self.receiver.check()

    async def deposits(self, **query: str) -> list[dict[str, Any]]:
        """The account's deposits, oldest first."""
        return (await self.account.all("/v1/deposits", **query))[::-1]

    async def until_all(self, status: str) -> None:
        """Wait until every deposit is in a state: finality comes with the poll after a block's."""

        async def in_it() -> bool:
            return {row["status"] for row in await self.deposits()} == {status}

        await self.until(in_it, f"the deposits never were {status}")

    async def state(self) -> str:
        """The network's state by the API."""
        items = (await self.admin.get("/v1/networks"))["items"]
        found: str = next(each["state"] for each in items if each["network"] == NETWORK)
        return found

    async def until_state(self, state: str) -> None:
        async def in_it() -> bool:
            return await self.state() == state

        await self.until(in_it, f"the network never was {state}")

    async def agree(self, *, traces: bool = False) -> dict[Identity, dict[str, Any]]:
        """Promises 1 to 3: exactly the chain's deposits stand, with its amounts and blocks.

        Returns the standing deposits by identity. Ignored and held ones stand as well.
        """
        coins = {NATIVE: 0, **self.coins}
        chain = await Oracle(self.node, self.watched, coins, traces).read()
        rows = await self.deposits()
        standing = {identity(row): row for row in rows if row["status"] != "orphaned"}
        stated = {name: _found(row) for name, row in standing.items()}
        assert stated == chain
        assert len({row["id"] for row in rows}) == len(rows)
        assert len({identity(row) for row in rows}) == len(rows)
        return standing


def identity(row: dict[str, Any]) -> Identity:
    """A deposit's identity as the oracle writes it."""
    asset = (row["contractAddress"] or NATIVE).lower()
    return Identity(row["transactionHash"], row["toAddress"].lower(), asset, row["ordinal"])


def _found(row: dict[str, Any]) -> Found:
    return Found(
        int(row["amountUnits"]), row["fromAddress"].lower(), row["blockHeight"], row["blockHash"]
    )


@asynccontextmanager
async def world(
    dsn: str,
    folder: Path,
    *,
    chain: tuple[Anvil, Proxy] | None = None,
    honest: bool = False,
    inside: bool = True,
    events: list[str] | None = None,
    fail: float = 0.0,
    delay: float = 0.0,
    **settings: Any,
) -> AsyncIterator[World]:
    """A running installation with one account and one endpoint; `settings` are the network's.

    `chain`: a node that runs already, else a fresh one. `honest`: the engine has the node itself as
    its second endpoint, behind the proxy. `inside`: the engine runs in this process. `fail` and
    `delay` are the receiver's.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        node, before = await enter(_chain()) if chain is None else chain
        urls = [before.url, node.url] if honest else [before.url]
        networks = {NETWORK: network(*urls, **settings)}
        running = await enter(engine(folder, dsn, networks, inside=inside))
        calls = await enter(receiver(fail, delay))
        database = await asyncpg.connect(dsn)
        stack.push_async_callback(database.close)
        admin = await enter(Client(running.base, ADMIN_KEY))
        account = await enter(Client(running.base, await open_account(admin)))
        made = World(node, before, running, calls, admin, account, database)
        await made.subscribe(events)
        await made.follow()
        yield made


@asynccontextmanager
async def _chain() -> AsyncIterator[tuple[Anvil, Proxy]]:
    async with anvil() as node, proxy(node.url) as before:
        await node.mine()
        yield node, before


async def started(admin: Client, *networks: str) -> None:
    """Wait until each network follows its chain."""
    async with asyncio.timeout(PATIENCE):
        while True:
            items = (await admin.get("/v1/networks"))["items"]
            following = {each["network"] for each in items if each["state"] == "following"}
            if following >= set(networks):
                return
            await asyncio.sleep(LOOK)


async def open_account(admin: Client, name: str = "shop") -> str:
    """A new account; a key of it that may do everything."""
    made = await admin.post("/v1/accounts", {"name": name, "id": name})
    scopes = {"scopes": ["read", "write"]}
    key: str = (await admin.post(f"/v1/accounts/{made['id']}/keys", scopes))["key"]
    return key
