"""An installation that follows a simulated TRON node, which may be made to lie or lag."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
from aiohttp import web

from indexer.chains import NATIVE
from indexer.chains.tron_codec import TronCodec
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_node import TronNode
from indexer.devnet.truth import deposits_due
from tests.harness.scene import CONFIRMATIONS, POLL, WINDOW, Scene, installed
from tests.harness.server import serve

NETWORK: Final = "tron"
FINALITY: Final = 12  # blocks between head and solidified block

CODEC: Final = TronCodec()

# Path, question, answer → another answer; a Response goes out as it is.
Twist: TypeAlias = Callable[[str, dict[str, Any], Any], Any]


@dataclass
class Twisted:
    """A node whose answers a test may replace on their way."""

    node: TronNode
    url: str = ""
    paths: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    twist: Twist | None = None
    hits: int = 0  # answers that the twist changed

    @contextmanager
    def twisted(self, twist: Twist) -> Iterator[None]:
        """It answers so inside. A twist that never struck proves nothing."""
        self.twist, self.hits = twist, 0
        try:
            yield
        finally:
            self.twist = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        path = request.path.lstrip("/")
        self.paths.append(path)
        self.questions.append(orjson.loads(body))
        self.headers.append(dict(request.headers))
        *_, side, name = path.split("/")
        said = self.node.answer(side, name, body)
        shown = said
        if self.twist is not None:
            shown = self.twist(path, self.questions[-1], copy.deepcopy(said))
            self.hits += shown != said
        if isinstance(shown, web.StreamResponse):
            return shown
        if shown is None:
            return web.Response(status=404, text="<h2>Not Found</h2>")
        return web.Response(body=orjson.dumps(shown), content_type="application/json")


@asynccontextmanager
async def twisted_nodes(chain: SimulatedTron, number: int = 1) -> AsyncIterator[list[Twisted]]:
    async with AsyncExitStack() as stack:
        nodes = []
        for _ in range(number):
            node = Twisted(TronNode(chain))
            app = web.Application()
            app.router.add_post("/{path:.*}", node.handle)
            node.url = await stack.enter_async_context(serve(app))
            nodes.append(node)
        yield nodes


@dataclass
class TronWorld(Scene):
    """What a scenario acts on and looks at."""

    chain: SimulatedTron
    nodes: list[Twisted]
    first: int = 0  # height that the addresses are covered from
    addresses: list[bytes] = field(default_factory=list)
    assets: list[bytes] = field(default_factory=lambda: [NATIVE])

    async def head(self) -> bytes:
        return self.chain.head.hash

    async def watch(self, *keys: bytes, **fields: Any) -> None:
        entries = [{"address": CODEC.format_address(key), **fields} for key in keys]
        body = {"network": NETWORK, "addresses": entries}
        self.first = (await self.account.post("/v1/addresses", body))["coveredFrom"]
        self.addresses += keys

    async def list_coin(self, asset: bytes, **settings: Any) -> str:
        body = {"network": NETWORK, "contractAddress": CODEC.format_asset(asset), **settings}
        name: str = (await self.admin.post("/v1/coins", body))["coin"]
        self.assets.append(asset)
        return name

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.mine()
        await self.follow()

    async def agree(self) -> list[dict[str, Any]]:
        """Exactly what the chain moved stands, with its amounts and blocks; those rows."""
        rows = await self.nothing_wrong()
        assert {_identity(row) for row in rows} == self._due().keys()
        return rows

    async def nothing_wrong(self) -> list[dict[str, Any]]:
        """All that stands is what the chain moved; those rows."""
        due, rows = self._due(), await self.deposits()
        standing = [row for row in rows if row["status"] != "orphaned"]
        assert [_stated(row) for row in standing] == [due.get(_identity(row)) for row in standing]
        assert len({row["id"] for row in rows}) == len(rows)
        return standing

    def _due(self) -> dict[Any, Any]:
        """What the chain owes, as the API would say it."""
        blocks = self.chain.branch(self.first)
        due = deposits_due(blocks, self.addresses, self.assets, internal=True)
        return {
            (tx.hex(), CODEC.format_address(to), CODEC.format_asset(asset), ordinal): (
                d.units, CODEC.format_address(d.sender), d.height, d.hash.hex(), d.odd
            )
            for (tx, to, asset, ordinal), d in due.items()
        }  # fmt: skip


def _identity(row: dict[str, Any]) -> tuple[str, str, str, int]:
    asset = row["contractAddress"] or "native"
    return row["transactionHash"], row["toAddress"], asset, row["ordinal"]


def _stated(row: dict[str, Any]) -> tuple[int, str, int, str, bool]:
    odd = row["reason"] == "unknown_shape"
    units = int(row["amountUnits"])
    return units, row["fromAddress"], row["blockHeight"], row["blockHash"], odd


@asynccontextmanager
async def tron_world(
    dsn: str,
    folder: Path,
    *,
    nodes: int = 1,
    inside: bool = True,
    fail: float = 0.0,
    delay: float = 0.0,
    seed: int = 1,
    **settings: Any,
) -> AsyncIterator[TronWorld]:
    """A running installation with one account and one endpoint; `settings` are the network's."""
    chain = SimulatedTron(seed, finality=FINALITY)
    chain.mine()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        serving = await enter(twisted_nodes(chain, nodes))
        network = {
            "family": "tron",
            "endpoints": [node.url for node in serving],
            "confirmations": CONFIRMATIONS,
            "reorg_window": WINDOW,
            "poll_interval": POLL,
            **settings,
        }
        parts = await enter(
            installed(dsn, folder, NETWORK, network, inside=inside, fail=fail, delay=delay)
        )
        world = TronWorld(*parts, chain, serving)
        await world.subscribe()
        await world.follow()
        yield world
