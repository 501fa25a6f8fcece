"""An EVM network as the engine sees it: the chain port over JSON-RPC endpoints."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from indexer.chains import (
    Block,
    Codec,
    Header,
    Holding,
    Sighting,
    Token,
    Transfer,
    Watch,
    evm_hints,
)
from indexer.chains.answers import NotProved
from indexer.chains.evidence import Proof
from indexer.chains.evm_balance import balances_agree
from indexer.chains.evm_body import DECODER_DEPTH
from indexer.chains.evm_codec import EvmCodec
from indexer.chains.evm_decode import transfers
from indexer.chains.evm_fetch import Fetcher, Span
from indexer.chains.evm_inclusion import prove_transfer
from indexer.chains.evm_named import blocks_of
from indexer.chains.evm_node import EvmNode
from indexer.chains.evm_sighting import find
from indexer.chains.evm_wire import quantity, sized
from indexer.chains.failover import EndpointHealth, Endpoints
from indexer.chains.jsonrpc import UNSUPPORTED_CODES, JsonRpc, NodeError, decode
from indexer.chains.lookout import Lookout
from indexer.chains.pipeline import Pace, in_order
from indexer.chains.provers import Provers
from indexer.chains.quorum import Verdict, agree
from indexer.chains.rpc import Endpoint, EndpointFailed, Transport
from indexer.model import Refused, Unavailable

PROVED_BLOCKS: Final = 3  # below the tip, that an endpoint must serve before it is used

# Hashes of block 0, so that a fork or a testnet is never taken for the chain (P39).
GENESIS: Final[Mapping[int, str]] = {
    1: "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",  # Ethereum
    10: "0x7ca38a1916c42007829c55e69d3e9a73265554b586a499015373241b8a3fa48b",  # OP Mainnet
    56: "0x0d21840abff46b96c84b2ac9e10e4f5cdaeb5693cb665db62a2f3b02d2d57b5b",  # BNB Smart Chain
    100: "0x4f1dd23188aab3a76b463e4af801b52b1248ef073c648cbdc4c9333d3da79756",  # Gnosis
    137: "0xa9c28ce2141b56c474f1dc504bee9b01eb1bd7d1a507580d5519d4437a97de1b",  # Polygon
    8453: "0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd",  # Base
    17000: "0xb5f7f912443c940f21fd611f12828d75b534364ed9e95ca4e307729a4661bde4",  # Holesky
    42161: "0x7ee576b35482195fc49205cec9af72ce14f003b9ae69f6ba0faef4514be8b442",  # Arbitrum One
    43114: "0x31ced5b9beb7f8782b014660da0cb18cc409f121f408186886e1ca3e8eeca96b",  # Avalanche C
    560048: "0xbbe312868b376a3001692a646dd2d7d1e4406380dfd86b98aa8a34d1557c971b",  # Hoodi
    11155111: "0x25a5cc106eea7138acab33231d7160d69cb777ee0c2c553fcddf5138993e6dd9",  # Sepolia
}

_any: Final = msgspec.json.Decoder()


class EndpointSettings(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def ws(self) -> str | None: ...  # where it tells of new blocks


class EvmSettings(Protocol):
    """The settings of an EVM network that its adapter acts on."""

    @property
    def id(self) -> str: ...  # the network's
    @property
    def chain_id(self) -> int: ...
    @property
    def endpoints(self) -> Sequence[EndpointSettings]: ...
    @property
    def native(self) -> str: ...  # "off" | "transactions" | "traces"
    @property
    def verify(self) -> str: ...  # "full" | "bloom" | "off"
    @property
    def quorum(self) -> int: ...
    @property
    def finality(self) -> str: ...  # "network" | "depth"
    @property
    def reorg_window(self) -> int: ...


class EvmChain:
    """`indexer.chains.Chain` for the EVM family."""

    def __init__(
        self,
        settings: EvmSettings,
        transport: Transport | None = None,
        provers: Provers | None = None,
    ) -> None:
        """`provers`: its owner's, for blocks far from the tip; None: they are proved here."""
        self.codec: Codec = EvmCodec()
        self.unproved_blocks = 0  # one that does not prove is not taken
        self._settings = settings
        self._transport = transport or Transport()
        self._rpc = JsonRpc(self._transport)
        self._node = EvmNode(self._rpc)
        self._fetcher = Fetcher(
            self._node, verify=settings.verify, native=settings.native, provers=provers
        )
        self._endpoints = Endpoints(
            [Endpoint(each.url, each.headers, network=settings.id) for each in settings.endpoints],
            self._check,
            self._transport.clock,
        )
        self._pace = Pace()
        self._genesis: str | None = None  # of the first endpoint that passed its check
        self._lookout = Lookout(
            self._endpoints, self._head, self._header, settings.quorum, self._transport.clock
        )
        self._unproved: dict[str, set[str]] = {}  # by endpoint: last blocks that do not prove
        if settings.native == "traces":
            # A transaction may nest its calls as deep as the EVM allows; JSON decoders count depth.
            sys.setrecursionlimit(max(sys.getrecursionlimit(), DECODER_DEPTH))

    async def connect(self) -> str:
        self._unproved.clear()
        try:
            await self._endpoints.check_all()
        except Unavailable as error:
            same = set.intersection(*self._unproved.values()) if self._unproved else set()
            if same and len(self._unproved) == len(self._settings.endpoints):
                raise Refused(
                    f'no endpoint\'s last blocks prove under verify = "{self._settings.verify}", '
                    f"although all name the same: this chain may need another `verify` ({error})"
                ) from None
            raise
        return f"evm:{self._settings.chain_id}:{self._genesis}"

    async def close(self) -> None:
        await self._lookout.close()
        await self._transport.close()

    def endpoints(self) -> list[EndpointHealth]:
        """How each endpoint does, for operators."""
        return self._endpoints.health()

    @property
    def disagreement(self) -> str | None:
        return self._endpoints.disagreement

    async def listen(self, hint: Callable[[], None]) -> None:
        told = [
            Endpoint(each.ws, each.headers, evm_hints.SCHEMES)
            for each in self._settings.endpoints
            if each.ws is not None
        ]
        if told:
            await evm_hints.listen(told, hint)

    async def tip(self) -> Header:
        tip = await self._endpoints.at_followed(self._head)
        self._lookout.look()
        return tip

    async def finalized(self) -> Header | None:
        async def ask(endpoint: Endpoint) -> Header | None:
            wire = await self._node.finalized(endpoint)
            return None if wire is None else self._fetcher.header(endpoint, wire)

        return await self._endpoints.at_followed(ask)

    async def header(self, height: int) -> Header | None:
        return (await self.headers([height]))[0]

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        return await self._endpoints.at_followed(lambda e: self._headers(e, heights))

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        settled = await self._settled() if self._fetcher.by_range else -1

        async def fetch(low: int, high: int) -> list[Block]:
            span = Span(low, high, stretch=last - first + 1)

            async def at(endpoint: Endpoint) -> tuple[Endpoint, list[Block]]:
                return endpoint, await self._fetcher.fetch(endpoint, span, settled)

            endpoint, blocks = await self._endpoints.at_any(at)
            await self._agree(endpoint, [block.header for block in blocks])
            return blocks

        async with aclosing(in_order(first, last, fetch, self._pace)) as stream:
            async for block in stream:
                yield block

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        return transfers(block.payload, watch, native=self._settings.native != "off")

    async def paying(
        self, first: int, last: int, assets: Sequence[bytes], recipients: Sequence[bytes]
    ) -> Mapping[int, bytes]:
        """Height and hash of the blocks first..last that a node says have such a transfer."""

        async def ask(endpoint: Endpoint) -> Mapping[int, bytes]:
            logs = await self._node.transfers_to(endpoint, first, last, assets, recipients)
            return blocks_of(endpoint, logs, range(first, last + 1))

        return await self._endpoints.at_any(ask)

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        return await balances_agree(self._node, self._endpoints, holdings)

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        return await prove_transfer(self._node, self._endpoints, block, transfer)

    async def transaction(self, tx: bytes) -> Sighting | None:
        return await find(self._node, self._endpoints, tx, self._settings.native)

    async def token(self, asset: bytes) -> Token:
        from indexer.chains.evm_token import read_token  # web3: slow to import, rarely needed

        async def ask(method: str, params: Any) -> Any:
            async def at(endpoint: Endpoint) -> Any:
                raw = await self._rpc.call(endpoint, method, params)
                return decode(endpoint, raw, _any)

            return await self._endpoints.at_followed(at)

        return await read_token(ask, self.codec.format_address(asset))

    # ---------------------------------------------------------------- inside

    async def _head(self, endpoint: Endpoint) -> Header:
        chain_id, wire = await self._node.head(endpoint)
        if chain_id != self._settings.chain_id:
            raise EndpointFailed(f"{endpoint.name} serves chain {chain_id} now")
        return self._fetcher.header(endpoint, wire)

    async def _header(self, endpoint: Endpoint, height: int) -> Header | None:
        return (await self._headers(endpoint, [height]))[0]

    async def _headers(self, endpoint: Endpoint, heights: Sequence[int]) -> list[Header | None]:
        answers = await self._node.headers(endpoint, list(heights))
        found = [
            None if answer.value is None else self._fetcher.header(endpoint, answer.value)
            for answer in answers
        ]
        for header, height in zip(found, heights, strict=True):
            if header is not None and header.height != height:
                raise EndpointFailed(f"{endpoint.name} names {header.height} as {height}")
        return found

    async def _settled(self) -> int:
        """The height at and below which no block is expected to be replaced."""
        tip, finalized = await self.tip(), await self.finalized()
        deep = tip.height - self._settings.reorg_window
        return deep if finalized is None else min(deep, finalized.height)

    async def _agree(self, source: Endpoint, headers: Sequence[Header]) -> None:
        """Raise Unavailable unless `quorum` endpoints name these blocks.

        Proved headers name their parents, so there the last one speaks for all.
        """
        asked = headers[-1:] if self._settings.verify == "full" else headers
        heights, hashes = [h.height for h in asked], [h.hash for h in asked]

        async def judge(endpoint: Endpoint) -> Verdict:
            theirs = await self._headers(endpoint, heights)
            if None in theirs:
                return Verdict.NOT_THERE
            same = [h.hash for h in theirs if h is not None] == hashes
            return Verdict.SAME if same else Verdict.ANOTHER

        await agree(self._endpoints, source, self._settings.quorum, f"block {heights[-1]}", judge)

    # ---------------------------------------------------------------- checks

    async def _check(self, endpoint: Endpoint) -> None:
        """Refused: the wrong chain, or it can't serve what the settings need."""
        try:
            chain_id, newest = await self._node.head(endpoint)
            await self._check_identity(endpoint, chain_id)
            await self._check_service(endpoint, quantity(newest.number))
        except NodeError as error:
            if error.code not in UNSUPPORTED_CODES:
                raise
            raise Refused(
                f'{error}; verify = "{self._settings.verify}" and native = '
                f'"{self._settings.native}" need it'
            ) from None

    async def _check_identity(self, endpoint: Endpoint, chain_id: int) -> None:
        wanted = self._settings.chain_id
        if chain_id != wanted:
            raise Refused(f"{endpoint.name} serves chain {chain_id}, not {wanted}")
        block = await self._node.header(endpoint, 0)
        if block is None:
            raise EndpointFailed(f"{endpoint.name} has no block 0 to tell its chain by")
        genesis = block.hash.lower()
        known = GENESIS.get(wanted, self._genesis)
        if known is not None and genesis != known:
            raise Refused(
                f"{endpoint.name} serves another chain: block 0 is {genesis[:66]}, not {known}"
            )
        self._genesis = self.codec.format_hash(sized(genesis, 32))

    async def _check_service(self, endpoint: Endpoint, tip: int) -> None:
        self._lookout.check(endpoint, tip)
        span = Span(max(0, tip - PROVED_BLOCKS + 1), tip)
        try:
            await self._fetcher.fetch(endpoint, span, settled=-1)
        except NotProved:
            self._unproved[endpoint.name] = set(span.hashes)
            raise
        if self._settings.native == "traces" and tip > 0:
            await self._node.traces(endpoint, span.hashes[-1:])  # though the blocks may be empty
        if self._settings.finality == "network":
            await self._check_finality(endpoint)

    async def _check_finality(self, endpoint: Endpoint) -> None:
        try:
            await self._node.finalized(endpoint)
        except NodeError as error:
            raise Refused(
                f'{endpoint.name} can\'t say what is final, which finality = "network" needs '
                f"({error})"
            ) from None
