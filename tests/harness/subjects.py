"""A network of each family as the conformance suite sees it: an adapter, and a node behind it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, ClassVar, Final, Generic, TypeVar

from indexer import config
from indexer.chains import NATIVE, Chain
from indexer.chains.evm import EvmChain
from indexer.chains.rpc import Endpoint, Transport
from indexer.chains.tron import TronChain
from indexer.chains.utxo import UtxoChain
from indexer.devnet.chain import MemoryChain
from indexer.devnet.contract_chain import ContractChain
from indexer.devnet.evm_chain import CHAIN_ID, SimulatedChain
from indexer.devnet.evm_contracts import Disperser, Token, call_data
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_node import TronNode
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from tests.harness import faults, utxo, utxo_faults, world
from tests.harness.bitcoind import Bitcoind
from tests.harness.proxy import Proxy, proxy
from tests.rpc_server import FakeTime

FINALITY: Final = 8  # blocks behind the head, where a network has it
FUNDS: Final = 10**12  # base units that the payer has
DISPERSE: Final = "disperseToken(address,address[],uint256[])"

C = TypeVar("C", bound=MemoryChain[Any, Any])
K = TypeVar("K", bound=ContractChain[Any, Any, Any])


class Interrupted(Transport):
    """Something happens between two requests: they go one after the other, whoever sends them.

    No time passes between attempts.
    """

    def __init__(self) -> None:
        time = FakeTime()
        super().__init__(clock=time.clock, sleep=time.sleep)
        self._one = asyncio.Lock()
        self._left = 0
        self._act: Callable[[], Awaitable[None]] | None = None

    @contextmanager
    def interrupted(self, after: int, act: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """`act` inside, once `after` requests were answered, if there are more."""
        self._left, self._act = after, act
        try:
            yield
        finally:
            self._act = None

    async def post(self, endpoint: Endpoint, body: bytes, path: str = "") -> bytes:
        async with self._one:
            await self._count()
            return await super().post(endpoint, body, path)

    async def get(self, endpoint: Endpoint, path: str) -> bytes:
        async with self._one:
            await self._count()
            return await super().get(endpoint, path)

    async def _count(self) -> None:
        self._left -= 1
        if self._left < 0 and self._act is not None:
            act, self._act = self._act, None
            await act()


class Subject(ABC):
    """`adapter` is connected to nothing yet."""

    adapter: Chain
    family: ClassVar[str]
    final: ClassVar[bool] = True  # whether its node calls blocks irreversible
    worked: ClassVar[bool] = False  # whether its headers prove work
    finds_all: ClassVar[bool] = True  # whether its node keeps an index of all transactions
    asset: bytes = NATIVE  # what `pay` pays
    alice: bytes  # whom
    foreign: ClassVar[tuple[str, ...]]  # addresses of other networks

    @abstractmethod
    def make(self, transport: Interrupted) -> Chain:
        """An adapter of the node."""

    @asynccontextmanager
    async def connected(self, transport: Interrupted) -> AsyncIterator[Chain]:
        """Another adapter, which has seen nothing yet."""
        adapter = self.make(transport)
        try:
            await adapter.connect()
            yield adapter
        finally:
            await adapter.close()

    @abstractmethod
    async def mine(self, blocks: int = 1) -> None: ...

    @abstractmethod
    async def pay(self, units: int, times: int = 1) -> bytes:
        """One transaction that pays Alice so often, to be mined; its id."""

    @abstractmethod
    async def reorganise(self, depth: int) -> None:
        """Replace as many blocks by one more; what they had is mined again."""

    @abstractmethod
    async def hashes(self) -> list[bytes]:
        """Of the blocks on the node's chain, by height."""

    @abstractmethod
    def lagging(self, blocks: int) -> AbstractContextManager[object]:
        """The node knows nothing of the last blocks inside."""


class Simulated(Subject, Generic[C]):
    """On a chain in memory."""

    def __init__(self, chain: C) -> None:
        self.chain = chain

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.mine()

    async def reorganise(self, depth: int) -> None:
        self.chain.reorg(depth, longer=1)

    async def hashes(self) -> list[bytes]:
        return [block.hash for block in self.chain.branch()]


class Contracts(Simulated[K]):
    """Pays tokens by a contract."""

    alice = b"\xa1" * 20

    def __init__(self, chain: K) -> None:
        super().__init__(chain)
        self.asset = chain.deploy("token", Token("Token", "TKN", 6))
        self._vault = chain.deploy("vault", Disperser())
        chain.endow(self.asset, self._vault, FUNDS)

    async def pay(self, units: int, times: int = 1) -> bytes:
        data = call_data(DISPERSE, self.asset, [self.alice] * times, [units] * times)
        sent: bytes = self.chain.send(self.chain.wallet("payer"), self._vault, 0, data).hash
        return sent


class Evm(Contracts[SimulatedChain]):
    family = "evm"
    foreign = ("TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")

    def __init__(self, before: Proxy, chain: SimulatedChain) -> None:
        super().__init__(chain)
        self._before = before
        table = {"id": "x", **world.network(before.url, chain_id=CHAIN_ID)}
        self._settings = config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))
        self.adapter = self.make(Interrupted())

    def make(self, transport: Interrupted) -> Chain:
        return EvmChain(self._settings, transport)

    def lagging(self, blocks: int) -> AbstractContextManager[object]:
        return self._before.fault(faults.Lag(blocks))


class Tron(Contracts[SimulatedTron]):
    family = "tron"
    foreign = ("0x" + "a1" * 20, "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080")

    def __init__(self, node: TronNode) -> None:
        super().__init__(node.chain)
        self._node = node
        table = {"id": "x", "family": "tron", "endpoints": [node.url], "confirmations": 2}
        self._settings = config.TronNetwork.model_validate(config.TronNetwork.filled(table))
        self.adapter = self.make(Interrupted())

    def make(self, transport: Interrupted) -> Chain:
        return TronChain(self._settings, transport)

    @contextmanager
    def lagging(self, blocks: int) -> Iterator[None]:
        self._node.hidden = blocks
        try:
            yield
        finally:
            self._node.hidden = 0


class Utxo(Subject):
    """Behind a proxy, whatever is there."""

    family = "utxo"
    final = False
    worked = True
    foreign = ("0x" + "a1" * 20, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")

    def open(self, before: Proxy, coin: str) -> None:
        self._before = before
        table = {"id": "x", **utxo.settings(coin, before.url)}
        self._settings = config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table))
        self.adapter = self.make(Interrupted())

    def make(self, transport: Interrupted) -> Chain:
        return UtxoChain(self._settings, transport)

    def lagging(self, blocks: int) -> AbstractContextManager[object]:
        return self._before.fault(utxo_faults.Lag(blocks))


class SimulatedUtxo(Utxo, Simulated[SimulatedUtxoChain]):
    def __init__(self, before: Proxy, chain: SimulatedUtxoChain, coin: str) -> None:
        super().__init__(chain)
        self.open(before, coin)
        self.alice = chain.wallet("alice").script

    async def pay(self, units: int, times: int = 1) -> bytes:
        return self.chain.pay(self.chain.wallet("payer"), *[(self.alice, units)] * times).hash


class RealUtxo(Utxo):
    finds_all = False

    def __init__(self, before: Proxy, node: Bitcoind, coin: str, alice: bytes) -> None:
        self.open(before, coin)
        self._node = node
        self.alice = alice

    async def mine(self, blocks: int = 1) -> None:
        await self._node.mine(blocks)

    async def pay(self, units: int, times: int = 1) -> bytes:
        coins = f"{units // 10**8}.{units % 10**8:08}"
        return bytes.fromhex(await self._node.pay(*[(self.alice, coins)] * times))

    async def reorganise(self, depth: int) -> None:
        first = await self._node.height() - depth + 1
        await self._node.call("invalidateblock", await self._node.hash(first))
        await self._node.mine(depth + 1)

    async def hashes(self) -> list[bytes]:
        top = await self._node.height()
        return [bytes.fromhex(await self._node.hash(height)) for height in range(top + 1)]


@asynccontextmanager
async def evm() -> AsyncIterator[Subject]:
    chain = SimulatedChain(1, finality=FINALITY)
    async with EvmNode(chain) as node, proxy(node.url) as before:
        yield Evm(before, chain)


@asynccontextmanager
async def tron() -> AsyncIterator[Subject]:
    async with TronNode(SimulatedTron(1, finality=FINALITY)) as node:
        yield Tron(node)


@asynccontextmanager
async def simulated_utxo(coin: str) -> AsyncIterator[Subject]:
    chain = SimulatedUtxoChain(1, coin)
    async with UtxoNode(chain) as node, proxy(node.url) as before:
        yield SimulatedUtxo(before, chain, coin)


@asynccontextmanager
async def real_utxo(coin: str, url: str) -> AsyncIterator[Subject]:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Bitcoind(url))
        before = await stack.enter_async_context(proxy(url))
        alice = await node.script(await node.address("legacy"))
        yield RealUtxo(before, node, coin, alice)
