"""A TRON network as the engine sees it: the chain port over a node's HTTP API."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import structlog

from indexer.chains import Block, Codec, Header, Holding, Sighting, Token, Transfer, Watch
from indexer.chains.answers import Missing, NotProved
from indexer.chains.evidence import Proof
from indexer.chains.failover import EndpointHealth, Endpoints
from indexer.chains.lookout import Lookout
from indexer.chains.metrics import UNPROVED
from indexer.chains.pipeline import Pace, in_order
from indexer.chains.quorum import Verdict, agree
from indexer.chains.rpc import Endpoint, EndpointFailed, Transport
from indexer.chains.tron_codec import TronCodec
from indexer.chains.tron_decode import Content, transfers
from indexer.chains.tron_fetch import Fetcher, header_of
from indexer.chains.tron_inclusion import prove_transfer
from indexer.chains.tron_node import TronNode
from indexer.chains.tron_sighting import find
from indexer.chains.tron_token import read_token
from indexer.model import Refused, Unavailable

PROVED_BLOCKS: Final = 3  # below the tip, that an endpoint must serve before it is used
SECOND_OPINION: Final = 2  # endpoints that must have a block whose root JSON can't rebuild
# Of mainnet's calls, more than one in ten make internal transactions: so many in a row without any
# come from a node that doesn't keep them.
CALLS_WITHOUT_NESTED: Final = 2000

log = structlog.get_logger()


class EndpointSettings(Protocol):
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def solidity(self) -> str | None: ...  # URL of the solidified side; None: the same


class TronSettings(Protocol):
    """The settings of a TRON network that its adapter acts on."""

    @property
    def id(self) -> str: ...  # the network's
    @property
    def endpoints(self) -> Sequence[EndpointSettings]: ...
    @property
    def quorum(self) -> int: ...
    @property
    def finality(self) -> str: ...  # "network" | "depth"


class TronChain:
    """`indexer.chains.Chain` for the TRON family."""

    def __init__(self, settings: TronSettings, transport: Transport | None = None) -> None:
        self.codec: Codec = TronCodec()
        self.unproved_blocks = 0
        self._settings = settings
        self._transport = transport or Transport()
        members = [
            Endpoint(each.url, each.headers, network=settings.id) for each in settings.endpoints
        ]
        self._endpoints = Endpoints(members, self._check, self._transport.clock)
        self._node = TronNode(
            self._transport,
            {
                member.name: Endpoint(each.solidity, each.headers, network=settings.id)
                for member, each in zip(members, settings.endpoints, strict=True)
                if each.solidity is not None
            },
        )
        self._fetcher = Fetcher(self._node)
        self._pace = Pace()
        self._genesis: bytes | None = None  # of the first endpoint that passed at first connect
        self._named: dict[str, bytes] = {}  # by endpoint: the genesis that it has
        self._lookout = Lookout(
            self._endpoints, self._head, self._header, settings.quorum, self._transport.clock
        )
        self._calls: Counter[str] = Counter()  # by endpoint: in a row without a nested one

    async def connect(self) -> str:
        await self._endpoints.check_all()
        if self._genesis is None:
            self._genesis = self._named[self._endpoints.followed.name]
            if set(self._named.values()) != {self._genesis}:
                await self._endpoints.check_all()  # the others can be told by now
        return f"tron:{self.codec.format_hash(self._genesis)}"

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
        """No endpoint tells of blocks by itself."""

    async def tip(self) -> Header:
        tip = await self._endpoints.at_followed(self._head)
        self._lookout.look()
        return tip

    async def finalized(self) -> Header | None:
        async def ask(endpoint: Endpoint) -> Header | None:
            found = await self._node.solid(endpoint)
            return None if found is None else header_of(endpoint, found)

        return await self._endpoints.at_followed(ask)

    async def header(self, height: int) -> Header | None:
        return (await self.headers([height]))[0]

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        return await self._endpoints.at_followed(lambda e: self._fetcher.headers(e, heights))

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        async def at(endpoint: Endpoint, low: int, high: int) -> tuple[Endpoint, list[Block]]:
            return endpoint, await self._fetcher.fetch(endpoint, low, high)

        async def fetch(low: int, high: int) -> list[Block]:
            source, blocks = await self._endpoints.at_any(lambda e: at(e, low, high))
            self._notice_nested(source, [block.payload for block in blocks])
            await self._agree(source, blocks, self._settings.quorum)
            for block in blocks:
                if not block.payload.complete:
                    await self._second_opinion(source, block)
            return blocks

        async with aclosing(in_order(first, last, fetch, self._pace)) as stream:
            async for block in stream:
                yield block

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        return transfers(block.payload, watch)

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        raise Refused("balances at a block can be asked of EVM networks only")

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        return await prove_transfer(self._node, self._endpoints, height, block, transfer)

    async def transaction(self, tx: bytes) -> Sighting | None:
        return await find(self._node, self._endpoints, tx)

    async def token(self, asset: bytes) -> Token:
        async def ask(path: str, question: Mapping[str, Any]) -> Any:
            return await self._endpoints.at_followed(lambda e: self._node.read(e, path, question))

        return await read_token(ask, asset, self.codec.format_asset(asset))

    async def _head(self, endpoint: Endpoint) -> Header:
        return header_of(endpoint, await self._node.head(endpoint))

    async def _header(self, endpoint: Endpoint, height: int) -> Header | None:
        return (await self._fetcher.headers(endpoint, [height]))[0]

    # ---------------------------------------------------------------- agreement

    async def _agree(self, source: Endpoint, blocks: Sequence[Block], quorum: int) -> None:
        """Raise Unavailable unless so many endpoints say the same of these blocks.

        The same blocks, and in them the same ends, logs and internal transactions, which no root
        commits to (P79).
        """
        first, last = blocks[0].header.height, blocks[-1].header.height

        async def judge(endpoint: Endpoint) -> Verdict:
            try:
                theirs = await self._fetcher.fetch(endpoint, first, last)
            except Missing:
                return Verdict.NOT_THERE
            return _compare(blocks, theirs)

        await agree(self._endpoints, source, quorum, f"block {last}", judge)

    async def _second_opinion(self, source: Endpoint, block: Block) -> None:
        """A block whose root JSON can't rebuild counts if another endpoint gives the same (P80).

        Where `quorum` is 2, one did. Where there is no other, the only one must have given as many
        transactions as it counts: a partial answer is no proof that fields are missing.
        """
        height, endpoints = block.header.height, len(self._settings.endpoints)
        if endpoints == 1:
            given, counted = len(block.payload.leaves), await self._node.count(source, height)
            if given != counted:
                raise NotProved(
                    f"{source.name} gave {given} of the {counted} transactions of block {height}"
                )
        elif self._settings.quorum < SECOND_OPINION:
            await self._agree(source, [block], SECOND_OPINION)
        self.unproved_blocks += 1
        UNPROVED.labels(source.network).inc()
        log.warning(
            "block_not_provable",
            height=height,
            block=self.codec.format_hash(block.header.hash),
            reason="its JSON can't rebuild its transactions' root",
            asked=min(SECOND_OPINION, endpoints),
            count=self.unproved_blocks,
        )

    def _notice_nested(self, source: Endpoint, contents: Sequence[Content]) -> None:
        """Warn once of a node that looks healthy and shows no internal transactions (P73)."""
        before = self._calls[source.name]
        if any(content.nested for content in contents):
            self._calls[source.name] = 0
            return
        now = self._calls[source.name] = before + sum(content.calls for content in contents)
        if before < CALLS_WITHOUT_NESTED <= now:
            log.warning(
                "no_internal_transactions",
                endpoint=source.name,
                reason="the node seems not to keep them (vm.saveInternalTx): what contracts pay "
                "in TRX or TRC-10 is not seen",
            )

    # ---------------------------------------------------------------- checks

    async def _check(self, endpoint: Endpoint) -> None:
        """Refused: another chain, or it can't serve what the settings need."""
        genesis, newest = await self._node.header(endpoint, 0), await self._node.head(endpoint)
        if genesis is None:
            raise EndpointFailed(f"{endpoint.name} has no block 0 to tell its chain by")
        named = header_of(endpoint, genesis).hash
        if self._genesis not in (None, named):
            raise Refused(
                f"{endpoint.name} serves another chain: its block 0 is {genesis.blockID[:64]}"
            )
        tip = newest.data.number
        self._lookout.check(endpoint, tip)
        await self._fetcher.fetch(endpoint, max(0, tip - PROVED_BLOCKS + 1), tip)
        if self._settings.finality == "network":
            await self._check_finality(endpoint)
        self._named[endpoint.name] = named

    async def _check_finality(self, endpoint: Endpoint) -> None:
        try:
            await self._node.solid(endpoint)
        except Unavailable as error:
            raise EndpointFailed(
                f'{endpoint.name} doesn\'t say what is solidified, which finality = "network" '
                f"needs: is its `solidity` URL right? ({error})"
            ) from None


def _compare(ours: Sequence[Block], theirs: Sequence[Block]) -> Verdict:
    if [block.header.hash for block in ours] != [block.header.hash for block in theirs]:
        return Verdict.ANOTHER
    said: list[Content] = [block.payload for block in ours]
    same = said == [block.payload for block in theirs]
    return Verdict.SAME if same else Verdict.OTHER_CONTENT
