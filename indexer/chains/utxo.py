"""A Bitcoin-like network as the engine sees it: the port over bitcoind's JSON-RPC and REST."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from indexer.chains import (
    Block,
    Codec,
    Header,
    Holding,
    Sighting,
    Token,
    Transfer,
    Watch,
    utxo_hints,
)
from indexer.chains.evidence import Proof
from indexer.chains.failover import EndpointHealth, Endpoints
from indexer.chains.jsonrpc import JsonRpc
from indexer.chains.lookout import Lookout
from indexer.chains.metrics import PROVE_SECONDS
from indexer.chains.pipeline import Pace, in_order
from indexer.chains.quorum import Verdict, agree
from indexer.chains.rpc import Endpoint, EndpointFailed, Transport
from indexer.chains.turn import give_way
from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_control import NodeFacts, ask_facts
from indexer.chains.utxo_decode import transfers
from indexer.chains.utxo_inclusion import prove_transfer
from indexer.chains.utxo_network import NETWORKS, Parameters
from indexer.chains.utxo_node import UtxoNode
from indexer.chains.utxo_parse import HEADER_BYTES, parse_block, parse_header
from indexer.chains.utxo_proof import NotProved, double_sha256, prove_block, prove_work, work
from indexer.chains.utxo_retarget import prove_target
from indexer.chains.utxo_sighting import find
from indexer.chains.utxo_wire import Malformed
from indexer.model import Refused

PROVED_BLOCKS: Final = 3  # below the tip, that an endpoint must serve before it is used

log = structlog.get_logger()


class EndpointSettings(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def zmq(self) -> str | None: ...  # where it publishes `hashblock`


class UtxoSettings(Protocol):
    """The settings of a Bitcoin-like network that its adapter acts on."""

    @property
    def id(self) -> str: ...  # the network's
    @property
    def coin(self) -> str: ...  # "btc" | "ltc" | "doge"
    @property
    def chain(self) -> str: ...  # "mainnet" | "testnet" | "signet" | "regtest"
    @property
    def endpoints(self) -> Sequence[EndpointSettings]: ...
    @property
    def quorum(self) -> int: ...
    @property
    def reorg_window(self) -> int: ...


class UtxoChain:
    """`indexer.chains.Chain` for the UTXO family."""

    def __init__(self, settings: UtxoSettings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._network: Parameters = NETWORKS[settings.coin, settings.chain]
        self.codec: Codec = UtxoCodec(self._network)
        self.unproved_blocks = 0  # one that does not prove is not taken
        self._transport = transport or Transport()
        self._node = UtxoNode(JsonRpc(self._transport), self._transport)
        self._endpoints = Endpoints(
            [Endpoint(each.url, each.headers, network=settings.id) for each in settings.endpoints],
            self._check,
            self._transport.clock,
        )
        self._pace = Pace()
        self._genesis: bytes | None = None  # of the first endpoint that passed its check
        self._lookout = Lookout(
            self._endpoints, self._head, self._header_at, settings.quorum, self._transport.clock
        )

    async def connect(self) -> str:
        await self._endpoints.check_all()
        genesis = "" if self._genesis is None else self._genesis.hex()
        return f"utxo:{self._settings.coin}:{genesis}"

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
        publishers = [each.zmq for each in self._settings.endpoints if each.zmq is not None]
        if publishers:
            await utxo_hints.listen(publishers, hint)

    async def tip(self) -> Header:
        tip = await self._endpoints.at_followed(self._head)
        self._lookout.look()
        return tip

    async def finalized(self) -> Header | None:
        """Work can always be outdone: no node calls a block irreversible."""
        return None

    async def header(self, height: int) -> Header | None:
        return (await self.headers([height]))[0]

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        return await self._endpoints.at_followed(lambda e: self._headers(e, heights))

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        async def fetch(low: int, high: int) -> list[Block]:
            async def at(endpoint: Endpoint) -> tuple[Endpoint, list[Block]]:
                return endpoint, await self._fetch(endpoint, low, high)

            endpoint, blocks = await self._endpoints.at_any(at)
            await self._agree(endpoint, blocks[-1].header)
            return blocks

        async with aclosing(in_order(first, last, fetch, self._pace)) as stream:
            async for block in stream:
                yield block

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        return transfers(block.payload, self._network, watch)

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        raise Refused("balances at a block can be asked of EVM networks only")

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        return await prove_transfer(self._node, self._endpoints, self._network, block, transfer)

    async def transaction(self, tx: bytes) -> Sighting | None:
        return await find(self._node, self._endpoints, tx)

    async def token(self, asset: bytes) -> Token:
        raise Refused("a Bitcoin-like network has no tokens")

    # ---------------------------------------------------------------- inside

    async def _headers(self, endpoint: Endpoint, heights: Sequence[int]) -> list[Header | None]:
        top = await self._node.height(endpoint)
        there = [height for height in heights if height <= top]
        hashes = await self._node.hashes(endpoint, there)
        raws = await self._node.headers(endpoint, hashes)
        found = {
            height: self._header(endpoint, height, value, raw)
            for height, value, raw in zip(there, hashes, raws, strict=True)
        }
        return [found.get(height) for height in heights]

    def _header(self, endpoint: Endpoint, height: int, value: bytes, raw: bytes) -> Header:
        """A header as the port has it, once its bytes have that hash and its work."""
        try:
            auxpow = parse_header(raw, self._network)
            if double_sha256(raw[:HEADER_BYTES])[::-1] != value:
                raise NotProved(f"the header of block {value.hex()} has another hash")
            prove_work(raw[:HEADER_BYTES], auxpow, self._network)
        except (Malformed, NotProved) as error:
            raise NotProved(f"{endpoint.name}: {error}") from None
        return _place(endpoint, height, value, raw)

    async def _fetch(self, endpoint: Endpoint, first: int, last: int) -> list[Block]:
        """Proved blocks of one endpoint. Raises Unavailable where it falls short."""
        heights = range(first, last + 1)
        hashes = await self._node.hashes(endpoint, heights)
        blocks: list[Block] = []
        parent: bytes | None = None
        for height, value in zip(heights, hashes, strict=True):
            raw = await self._node.block(endpoint, value)
            if parent is None:
                parent = await self._parent(endpoint, height, raw)
            with PROVE_SECONDS.labels(endpoint.network).time():
                blocks.append(self._proved(endpoint, height, value, raw, parent))
            parent = raw[:HEADER_BYTES]
            await give_way()  # proofs keep a core busy
        return blocks

    async def _parent(self, endpoint: Endpoint, height: int, raw: bytes) -> bytes:
        """The header below a block, where its target matters."""
        value = raw[4:36]
        if height == 0 or not self._network.retargets:
            return b""
        (header,) = await self._node.headers(endpoint, [value[::-1]])
        if double_sha256(header[:HEADER_BYTES]) != value:
            raise NotProved(f"{endpoint.name}: the header of {value[::-1].hex()} has another hash")
        return header[:HEADER_BYTES]

    def _proved(
        self, endpoint: Endpoint, height: int, value: bytes, raw: bytes, parent: bytes
    ) -> Block:
        """`parent`: the header below, if that is what the block links to."""
        try:
            parsed = parse_block(raw, self._network)
            prove_block(parsed, value[::-1], self._network)
            if parent and double_sha256(parent) == raw[4:36]:
                prove_target(parsed.header, parent, height, self._network)
        except (Malformed, NotProved) as error:
            raise NotProved(f"{endpoint.name}: block {value.hex()}: {error}") from None
        return Block(_place(endpoint, height, value, raw), parsed, len(raw))

    async def _agree(self, source: Endpoint, last: Header) -> None:
        """Raise Unavailable unless `quorum` endpoints name this block, and so all below it."""

        async def judge(endpoint: Endpoint) -> Verdict:
            (found,) = await self._headers(endpoint, [last.height])
            if found is None:
                return Verdict.NOT_THERE
            return Verdict.SAME if found.hash == last.hash else Verdict.ANOTHER

        name = f"block {last.height}"
        await agree(self._endpoints, source, self._settings.quorum, name, judge)

    async def _head(self, endpoint: Endpoint) -> Header:
        newest, genesis = await self._node.best(endpoint)
        if genesis != self._genesis:
            raise EndpointFailed(f"{endpoint.name} serves another chain now")
        raw, place = await self._node.place(endpoint, newest)
        return self._header(endpoint, place.height, newest, raw)

    async def _header_at(self, endpoint: Endpoint, height: int) -> Header | None:
        return (await self._headers(endpoint, [height]))[0]

    # ---------------------------------------------------------------- checks

    async def _check(self, endpoint: Endpoint) -> None:
        """Refused: the wrong chain, or it can't serve what the settings need."""
        facts = await ask_facts(endpoint)
        self._check_identity(endpoint, facts)
        self._check_service(endpoint, facts)
        self._node.try_rest(endpoint)
        first = max(0, facts.blocks - PROVED_BLOCKS + 1)
        await self._fetch(endpoint, first, facts.blocks)
        log.info(
            "node",
            endpoint=endpoint.name,
            chain=facts.chain,
            software=endpoint.clean(facts.software),
            pruned_to=facts.pruned_to,
        )

    def _check_identity(self, endpoint: Endpoint, facts: NodeFacts) -> None:
        wanted = f"{self._settings.coin} {self._settings.chain}"
        if facts.chain not in self._network.names:
            chain = endpoint.clean(facts.chain)
            raise Refused(f"{endpoint.name} serves the chain {chain!r}, not {wanted}")
        genesis = facts.genesis.lower()
        known = self._network.genesis if self._genesis is None else (self._genesis.hex(),)
        if genesis not in known:
            raise Refused(
                f"{endpoint.name} serves another chain: block 0 is {endpoint.clean(genesis)}, "
                f"not {wanted}'s {' or '.join(known)}"
            )
        self._genesis = bytes.fromhex(genesis)

    def _check_service(self, endpoint: Endpoint, facts: NodeFacts) -> None:
        if facts.version < self._network.oldest:
            raise Refused(
                f"{endpoint.name} runs version {facts.version}, which does not serve whole blocks; "
                f"{self._network.oldest} does"
            )
        # A regtest node calls any chain of old blocks unfinished.
        if facts.downloading and self._settings.chain != "regtest":
            raise EndpointFailed(
                f"{endpoint.name} is still downloading the chain ({facts.blocks} blocks so far)"
            )
        self._lookout.check(endpoint, facts.blocks, facts.headers)
        if facts.pruned_to > max(0, facts.blocks - self._settings.reorg_window):
            raise Refused(
                f"{endpoint.name} keeps no block below {facts.pruned_to}; reorg_window = "
                f"{self._settings.reorg_window} needs older ones"
            )


def _place(endpoint: Endpoint, height: int, value: bytes, raw: bytes) -> Header:
    return Header(
        height=height,
        hash=value,
        parent=raw[4:36][::-1],
        time=int.from_bytes(raw[68:72], "little"),
        source=endpoint.name,
        work=work(raw[:HEADER_BYTES]),
    )
