"""A range of blocks from one endpoint, asked for and proved as the settings say.

Everything about a block is asked by block hash, which the first answer names: a node that
reorganises between two calls can't give half of each (P57, P122). What each setting asks for:

- `verify = "full"` or any `native`: blocks with full transactions, and their receipts.
- `native = "traces"`: also the call tracer's tree of every transaction.
- `native = "off"`, `verify = "bloom"`: headers, and all logs of each block, which fill its bloom.
- both off: headers, and `Transfer` logs; deep below the tip by range, else by block hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from indexer.chains import Block, Header
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evm_body import Body
from indexer.chains.evm_decode import Content
from indexer.chains.evm_logs import executions_of
from indexer.chains.evm_node import EvmNode
from indexer.chains.evm_proof import Execution, header_hash, prove_bloom, read_log
from indexer.chains.evm_reader import Reader
from indexer.chains.evm_wire import WireHeader, WireLog, WireOutline, octets, quantity, sized
from indexer.chains.provers import Provers
from indexer.chains.rpc import Endpoint
from indexer.chains.transfer_event import TRANSFER_TOPIC

# Providers cut answers off at round counts: an answer of just so many logs may be incomplete (P58).
ROUND_COUNT: Final = 1000

_TRANSFERS: Final = ("0x" + TRANSFER_TOPIC.hex(),)


class Span:
    """Heights to fetch, and their hashes once an endpoint has named them."""

    def __init__(self, first: int, last: int, stretch: int = 0) -> None:
        """`stretch`: how many blocks are read in one go, these among them."""
        self.stretch = stretch or last - first + 1
        self.heights = range(first, last + 1)
        self.hashes: list[str] = []

    @property
    def blocks(self) -> Sequence[int | str]:
        """How to ask for them: by hash as soon as hashes are known."""
        return self.hashes or self.heights


class Fetcher:
    def __init__(
        self, node: EvmNode, *, verify: str, native: str, provers: Provers | None = None
    ) -> None:
        """`provers`: where blocks are read far from the tip; None: here."""
        self._node = node
        self._reader = Reader(verify, provers)
        self._verify = verify
        self._native = native

    @property
    def by_range(self) -> bool:
        """Whether logs may be asked by range, where nothing can be reorganised any more."""
        return self._verify == "off" and self._native == "off"

    async def fetch(self, endpoint: Endpoint, span: Span, settled: int) -> list[Block]:
        """The blocks of a span, proved. Raises Unavailable where the endpoint falls short.

        `settled`: the height at and below which nothing is expected to be reorganised.
        """
        try:
            if self._verify == "full" or self._native != "off":
                return await self._bodies(endpoint, span)
            if self.by_range and span.heights[-1] <= settled:
                return await self._logs_between(endpoint, span.heights[0], span.heights[-1])
            return await self._logs(endpoint, span)
        except (Malformed, NotProved) as error:
            raise type(error)(f"{endpoint.name}: {error}") from None

    def header(self, endpoint: Endpoint, wire: WireHeader) -> Header:
        """A header as the port has it, proved where the settings say so."""
        if self._verify == "full" and header_hash(wire) != octets(wire.hash):
            raise NotProved(
                f"{endpoint.name}: block {wire.hash} does not prove: its header has another hash"
            )
        return _place(endpoint, wire)

    async def _bodies(self, endpoint: Endpoint, span: Span) -> list[Block]:
        told = await self._node.outlines(endpoint, span.blocks)
        outlines = [outline for outline, _ in told]
        hashes = self._name(endpoint, span, outlines)
        receipts = await self._node.receipts(endpoint, hashes)
        traces = await self._traces(endpoint, outlines)
        bodies = [
            Body(endpoint.name, block, of_block, traces.get(outline.hash))
            for (outline, block), of_block in zip(told, receipts, strict=True)
        ]
        contents = await self._reader.contents(endpoint, bodies, span.stretch)
        return [
            Block(_place(endpoint, outline), content, body.size)
            for outline, content, body in zip(outlines, contents, bodies, strict=True)
        ]

    async def _traces(
        self, endpoint: Endpoint, outlines: Sequence[WireOutline]
    ) -> dict[str, memoryview]:
        """By the hash of each block that has transactions: nodes can't trace a genesis block."""
        if self._native != "traces":
            return {}
        busy = [outline.hash for outline in outlines if outline.transactions]
        return dict(zip(busy, await self._node.traces(endpoint, busy), strict=True))

    async def _logs(self, endpoint: Endpoint, span: Span) -> list[Block]:
        headers = await self._node.headers(endpoint, span.blocks)
        wires = [
            _there(endpoint, header.value, height)
            for header, height in zip(headers, span.heights, strict=True)
        ]
        hashes = self._name(endpoint, span, wires)
        complete = self._verify == "bloom"
        logs = await self._node.logs(endpoint, hashes, () if complete else _TRANSFERS)
        return [
            self._of_logs(endpoint, wire, found.value, header.size + found.size)
            for wire, header, found in zip(wires, headers, logs, strict=True)
        ]

    async def _logs_between(self, endpoint: Endpoint, first: int, last: int) -> list[Block]:
        headers, logs = await self._node.logs_between(endpoint, first, last, _TRANSFERS)
        if logs.value and len(logs.value) % ROUND_COUNT == 0:
            return await self._split(endpoint, first, last)
        by_block: defaultdict[str, list[WireLog]] = defaultdict(list)
        for log in logs.value:
            by_block[log.block_hash.lower()].append(log)
        blocks: list[Block] = []
        for header, height in zip(headers, range(first, last + 1), strict=True):
            wire = _there(endpoint, header.value, height)
            found = by_block.pop(wire.hash.lower(), [])
            size = header.size + logs.size // len(headers)
            blocks.append(self._of_logs(endpoint, wire, found, size))
        if by_block:
            strange = next(iter(by_block))
            raise NotProved(f"logs of {first} to {last} name the foreign block {strange[:80]}")
        return blocks

    async def _split(self, endpoint: Endpoint, first: int, last: int) -> list[Block]:
        """Ask again for less; a single block's logs by way of its receipts, which are counted."""
        if first == last:
            return await self._bodies(endpoint, Span(first, last))
        middle = (first + last) // 2
        return [
            *await self._logs_between(endpoint, first, middle),
            *await self._logs_between(endpoint, middle + 1, last),
        ]

    def _of_logs(
        self, endpoint: Endpoint, wire: WireHeader, logs: Sequence[WireLog], size: int
    ) -> Block:
        complete = self._verify == "bloom"
        executions: list[Execution] = executions_of(wire, logs, complete=complete)
        if complete:
            prove_bloom(wire, map(read_log, logs))
        content = Content(executions, [], rebuilt=False)
        return Block(_place(endpoint, wire), content, size)

    def _name(self, endpoint: Endpoint, span: Span, wires: Sequence[WireHeader]) -> list[str]:
        """The span's hashes, once the answers stand at its heights and are what was asked for."""
        for wire, height in zip(wires, span.heights, strict=True):
            if quantity(wire.number) != height:
                raise NotProved(f"block {wire.hash} is at {wire.number}, not at {height}")
        hashes = [wire.hash for wire in wires]
        for asked, got in zip(span.hashes, hashes, strict=False):
            if asked.lower() != got.lower():
                raise NotProved(f"asked for block {asked}, the node answers with {got}")
        span.hashes = hashes
        return hashes


def _place(endpoint: Endpoint, wire: WireHeader) -> Header:
    return Header(
        height=quantity(wire.number),
        hash=sized(wire.hash, 32),
        parent=sized(wire.parent_hash, 32),
        time=quantity(wire.timestamp),
        source=endpoint.name,
    )


def _there(endpoint: Endpoint, header: WireHeader | None, height: int) -> WireHeader:
    if header is None or quantity(header.number) != height:
        raise Missing(f"{endpoint.name} has no block at height {height}")
    return header
