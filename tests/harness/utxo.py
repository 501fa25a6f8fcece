"""Installations that follow a Bitcoin-like node: a real one, or simulated ones behind proxies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from indexer.chains.utxo_codec import UtxoCodec
from indexer.devnet.utxo_block import Transaction
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_wallet import UtxoWallet
from tests.harness.bitcoind import Bitcoind
from tests.harness.proxy import Proxy, proxy
from tests.harness.scene import CONFIRMATIONS, POLL, WINDOW, Scene, installed

NETWORK: Final = "coins"


class Identity(NamedTuple):
    """What makes a deposit that one and no other, within an account and network."""

    transaction: str
    output: int
    address: str


class Found(NamedTuple):
    """What the chain says of it."""

    units: int
    height: int
    block: str
    odd: bool  # P2PK


class Output(NamedTuple):
    """Of a transaction in a block."""

    transaction: str
    number: int
    script: bytes
    units: int
    height: int
    block: str


class Watched(NamedTuple):
    """Whom a script pays."""

    address: str
    covered_from: int
    odd: bool = False


@dataclass
class UtxoWorld(Scene):
    """What a scenario acts on and looks at."""

    watched: dict[bytes, Watched] = field(default_factory=dict)  # by script

    @abstractmethod
    async def outputs(self, first: int) -> list[Output]:
        """Every output on the honest node's chain from a height, by a reading of the test's own."""

    async def register(self, scripts: Mapping[bytes, str], **fields: Any) -> None:
        """Watch the addresses that these scripts pay."""
        entries = [{"address": address, **fields} for address in dict.fromkeys(scripts.values())]
        body = {"network": NETWORK, "addresses": entries}
        covered = (await self.account.post("/v1/addresses", body))["coveredFrom"]
        if fields.get("role") != "own":
            for script, address in scripts.items():
                odd = script[-1:] == b"\xac" and len(script) in (35, 67)
                self.watched.setdefault(script, Watched(address, covered, odd))

    async def agree(self) -> list[dict[str, Any]]:
        """Exactly what the chain pays stands, with its amounts and blocks; those rows in order."""
        rows = await self.nothing_wrong()
        assert {_identity(row) for row in rows} == (await self._due()).keys()
        return rows

    async def nothing_wrong(self) -> list[dict[str, Any]]:
        """All that stands is what the chain pays; those rows."""
        due, rows = await self._due(), await self.deposits()
        standing = [row for row in rows if row["status"] != "orphaned"]
        assert [_found(row) for row in standing] == [due.get(_identity(row)) for row in standing]
        assert len({row["id"] for row in rows}) == len({_identity(row) for row in rows})
        return sorted(standing, key=lambda row: (row["blockHeight"], *_identity(row)))

    async def _due(self) -> dict[Identity, Found]:
        first = min((each.covered_from for each in self.watched.values()), default=0)
        due = {}
        for output in await self.outputs(first):
            watched = self.watched.get(output.script)
            if watched and output.units and output.height >= watched.covered_from:
                identity = Identity(output.transaction, output.number, watched.address)
                due[identity] = Found(output.units, output.height, output.block, watched.odd)
        return due


def _identity(row: dict[str, Any]) -> Identity:
    return Identity(row["transactionHash"], row["ordinal"], row["toAddress"])


def _found(row: dict[str, Any]) -> Found:
    units, odd = int(row["amountUnits"]), row["reason"] == "unknown_shape"
    return Found(units, row["blockHeight"], row["blockHash"], odd)


@dataclass
class RealWorld(UtxoWorld):
    """Around a node that runs already."""

    node: Bitcoind = field(kw_only=True)

    async def head(self) -> bytes:
        found: str = await self.node.call("getbestblockhash")
        return bytes.fromhex(found)

    async def outputs(self, first: int) -> list[Output]:
        """As the node itself decodes its blocks."""
        found: list[Output] = []
        for height in range(first, await self.node.height() + 1):
            block = await self.node.call("getblock", await self.node.hash(height), 2)
            for tx in block["tx"]:
                for each in tx["vout"]:
                    script = bytes.fromhex(each["scriptPubKey"].get("hex", ""))
                    units = round(each["value"] * 10**8)
                    output = Output(tx["txid"], each["n"], script, units, height, block["hash"])
                    found.append(output)
        return found

    async def watch(self, *addresses: str, **fields: Any) -> None:
        scripts = {await self.node.script(address): address for address in addresses}
        await self.register(scripts, **fields)

    async def mine(self, blocks: int = 1) -> None:
        """Mine, and wait until the engine is there."""
        await self.node.mine(blocks)
        await self.follow()


@dataclass
class SimulatedWorld(UtxoWorld):
    """Around simulated nodes of one chain, each behind a proxy."""

    chain: SimulatedUtxoChain = field(kw_only=True)
    nodes: list[UtxoNode] = field(kw_only=True)
    proxies: list[Proxy] = field(kw_only=True)

    def __post_init__(self) -> None:
        self.codec = UtxoCodec(self.chain.network)

    async def head(self) -> bytes:
        return self.chain.head.hash

    async def outputs(self, first: int) -> list[Output]:
        return [
            Output(
                tx.hash.hex(), index, output.script, output.units, block.number, block.hash.hex()
            )
            for block in self.chain.branch(first)
            for tx in block.transactions
            for index, output in enumerate(tx.outputs)
            if not self._is_change(tx, output.script)
        ]

    def _is_change(self, tx: Transaction, script: bytes) -> bool:
        """Whether one address sends it to itself."""
        spenders = [self.chain.spender(each) for each in tx.inputs]
        return all(each is not None and each.address == script for each in spenders)

    async def watch(self, *wallets: UtxoWallet, **fields: Any) -> None:
        """A wallet with a bare key is paid by its address as well."""
        shown = {each: self.codec.format_address(each.address) for each in wallets}
        by_key = {each.address: address for each, address in shown.items()}
        by_script = {each.script: address for each, address in shown.items()}
        await self.register(by_key | by_script, **fields)

    async def mine(self, blocks: int = 1) -> None:
        """Mine, and wait until the engine is there."""
        for _ in range(blocks):
            self.chain.mine()
        await self.follow()


def settings(coin: str, *urls: str, **more: Any) -> dict[str, Any]:
    """The table of one network, fast enough for tests."""
    return {
        "family": "utxo",
        "coin": coin,
        "chain": "regtest",
        "endpoints": list(urls),
        "confirmations": CONFIRMATIONS,
        "reorg_window": WINDOW,
        "poll_interval": POLL,
        **more,
    }


@asynccontextmanager
async def real_world(
    dsn: str, folder: Path, coin: str, node: Bitcoind, **more: Any
) -> AsyncIterator[RealWorld]:
    """A running installation that follows `node`; `more` are the network's settings."""
    table = settings(coin, node.url, **more)
    async with installed(dsn, folder, NETWORK, table) as parts:
        world = RealWorld(*parts, node=node)
        await world.subscribe()
        await world.follow()
        yield world


@asynccontextmanager
async def simulated_world(
    dsn: str,
    folder: Path,
    *,
    coin: str = "btc",
    nodes: int = 1,
    inside: bool = True,
    fail: float = 0.0,
    delay: float = 0.0,
    seed: int = 1,
    **more: Any,
) -> AsyncIterator[SimulatedWorld]:
    """A running installation that follows simulated nodes; `more` are the network's settings."""
    chain = SimulatedUtxoChain(seed, coin)
    chain.mine()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        serving = [await enter(UtxoNode(chain)) for _ in range(nodes)]
        proxies = [await enter(proxy(node.url)) for node in serving]
        table = settings(coin, *(each.url for each in proxies), **more)
        parts = await enter(
            installed(dsn, folder, NETWORK, table, inside=inside, fail=fail, delay=delay)
        )
        world = SimulatedWorld(*parts, chain=chain, nodes=serving, proxies=proxies)
        await world.subscribe()
        await world.follow()
        yield world
