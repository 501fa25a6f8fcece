"""A whole installation around one EVM chain: node, engine, account, endpoint, receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.harness.anvil import Anvil, anvil
from tests.harness.contracts import Deployed, contracts
from tests.harness.oracle import NATIVE, Found, Identity, Oracle
from tests.harness.proxy import Proxy, proxy
from tests.harness.scene import CONFIRMATIONS, POLL, WINDOW, Scene, installed

NETWORK: Final = "ethereum"


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
class World(Scene):
    """What a scenario acts on and looks at."""

    node: Anvil
    proxy: Proxy
    watched: dict[str, int] = field(default_factory=dict)  # lower-case address: covered from
    coins: dict[str, int] = field(default_factory=dict)  # lower-case contract: covered from

    async def head(self) -> bytes:
        return bytes.fromhex((await self.node.head())["hash"][2:])

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
        parts = await enter(
            installed(
                dsn,
                folder,
                NETWORK,
                network(*urls, **settings),
                inside=inside,
                fail=fail,
                delay=delay,
            )
        )
        made = World(*parts, node, before)
        await made.subscribe(events)
        await made.follow()
        yield made


@asynccontextmanager
async def _chain() -> AsyncIterator[tuple[Anvil, Proxy]]:
    async with anvil() as node, proxy(node.url) as before:
        await node.mine()
        yield node, before
