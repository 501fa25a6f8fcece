"""The questions that an EVM node is asked, one method each; answers come typed.

Where a node has no such block it answers null, and some an error: both are `Missing`, which another
endpoint may have. All answers of one method call come from one endpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from indexer.chains.answers import Missing, Sized
from indexer.chains.evm_body import Body
from indexer.chains.evm_wire import (
    WireHeader,
    WireLog,
    WireOutline,
    WirePlace,
    WireReceipt,
    octets,
    quantity,
)
from indexer.chains.jsonrpc import Call, JsonRpc, NodeError, decode
from indexer.chains.rpc import Endpoint
from indexer.chains.transfer_event import PADDING, TRANSFER_TOPIC, WORD

TRACE_TIME_LIMIT: Final = "50s"  # of one transaction, at the node

NULL: Final = b"null"  # JSON for what isn't there

# "finalized" before there is a finalized block: geth -32000, Besu and Erigon -39001, others null.
_NOT_YET: Final = (-32000, -39001)

T = TypeVar("T")

_text: Final = msgspec.json.Decoder(str)
_header: Final = msgspec.json.Decoder(WireHeader | None)
_outline: Final = msgspec.json.Decoder(WireOutline | None)
_place: Final = msgspec.json.Decoder(WirePlace | None)
_receipt: Final = msgspec.json.Decoder(WireReceipt | None)
_logs: Final = msgspec.json.Decoder(list[WireLog] | None)


class EvmNode:
    def __init__(self, rpc: JsonRpc) -> None:
        self._rpc = rpc

    async def head(self, endpoint: Endpoint) -> tuple[int, WireHeader]:
        """The chain id and the newest block, in one request: what a URL leads to may change."""
        raws = await self._rpc.batch(
            endpoint, [Call("eth_chainId", []), _get_block("latest", full=False)]
        )
        newest = _present(endpoint, _sized(endpoint, raws[1], _header), "block", "latest")
        return quantity(decode(endpoint, raws[0], _text)), newest.value

    async def header(self, endpoint: Endpoint, block: int | str) -> WireHeader | None:
        """By height, hash or tag; None where the node has no such block."""
        return (await self.headers(endpoint, [block]))[0].value

    async def headers(
        self, endpoint: Endpoint, blocks: Sequence[int | str]
    ) -> list[Sized[WireHeader | None]]:
        raws = await self._rpc.batch(endpoint, [_get_block(each, full=False) for each in blocks])
        return [_sized(endpoint, raw, _header) for raw in raws]

    async def finalized(self, endpoint: Endpoint) -> WireHeader | None:
        """None until the node knows one; NodeError where it can't ever say."""
        try:
            return await self.header(endpoint, "finalized")
        except NodeError as error:
            if error.code in _NOT_YET:
                return None
            raise

    async def outlines(
        self, endpoint: Endpoint, blocks: Sequence[int | str]
    ) -> list[tuple[WireOutline, memoryview]]:
        """Blocks with full transactions, by height or hash: what is read at once, and the JSON."""
        raws = await self._rpc.batch(endpoint, [_get_block(each, full=True) for each in blocks])
        found = [_sized(endpoint, raw, _outline) for raw in raws]
        read = [_present(endpoint, a, "block", b) for a, b in zip(found, blocks, strict=True)]
        return [(each.value, memoryview(raw)) for each, raw in zip(read, raws, strict=True)]

    async def receipts(self, endpoint: Endpoint, hashes: Sequence[str]) -> list[memoryview]:
        """The JSON of each block's receipts."""
        return await self._by_hash(endpoint, "eth_getBlockReceipts", hashes, [])

    async def traces(self, endpoint: Endpoint, hashes: Sequence[str]) -> list[memoryview]:
        """The JSON of each block's traces."""
        options = {"tracer": "callTracer", "timeout": TRACE_TIME_LIMIT}
        return await self._by_hash(endpoint, "debug_traceBlockByHash", hashes, [options])

    async def body(self, endpoint: Endpoint, block: str) -> Body:
        """Of one block, by its hash."""
        [(_, told)] = await self.outlines(endpoint, [block])
        [receipts] = await self.receipts(endpoint, [block])
        return Body(endpoint.name, told, receipts)

    async def logs(
        self, endpoint: Endpoint, hashes: Sequence[str], topics: Sequence[str]
    ) -> list[Sized[list[WireLog]]]:
        """Of each block, with one of the topics first; all of them where none is given."""
        calls = [Call("eth_getLogs", [_filter(topics, blockHash=each)]) for each in hashes]
        raws = await self._rpc.batch(endpoint, calls)
        answers = [_sized(endpoint, raw, _logs) for raw in raws]
        return [_present(endpoint, a, "logs", b) for a, b in zip(answers, hashes, strict=True)]

    async def logs_between(
        self, endpoint: Endpoint, first: int, last: int, topics: Sequence[str]
    ) -> tuple[list[Sized[WireHeader | None]], Sized[list[WireLog]]]:
        """The headers of a range and the range's logs, asked in one batch."""
        between = _filter(topics, fromBlock=hex(first), toBlock=hex(last))
        heights = range(first, last + 1)
        calls = [_get_block(height, full=False) for height in heights]
        *headers, logs = await self._rpc.batch(endpoint, [*calls, Call("eth_getLogs", [between])])
        found = _present(endpoint, _sized(endpoint, logs, _logs), "logs", f"{first} to {last}")
        return [_sized(endpoint, raw, _header) for raw in headers], found

    async def transfers_to(
        self,
        endpoint: Endpoint,
        first: int,
        last: int,
        assets: Sequence[bytes],
        recipients: Sequence[bytes],
    ) -> list[WireLog]:
        """Transfer logs of some contracts that name one of these recipients where the standard
        has them."""
        wanted = {
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "address": ["0x" + asset.hex() for asset in assets],
            "topics": [
                "0x" + TRANSFER_TOPIC.hex(),
                None,
                ["0x" + (PADDING + recipient).hex() for recipient in recipients],
            ],
        }
        [raw] = await self._rpc.batch(endpoint, [Call("eth_getLogs", [wanted])])
        answer = _sized(endpoint, raw, _logs)
        found: Sized[list[WireLog]] = _present(endpoint, answer, "logs", f"{first} to {last}")
        return found.value

    async def balances(
        self, endpoint: Endpoint, wanted: Sequence[tuple[str, str, str]]
    ) -> list[int | None]:
        """What a token's contract says that a holder has at a block named by its hash (EIP-1898).

        Of each (token, holder, block); None where the node or the contract says no number.
        """
        calls = [
            Call("eth_call", [{"to": token, "data": _balance_of(holder)}, {"blockHash": block}])
            for token, holder, block in wanted
        ]
        return [_number(endpoint, answer) for answer in await self._rpc.answers(endpoint, calls)]

    async def transaction(
        self, endpoint: Endpoint, tx: str
    ) -> tuple[WirePlace | None, WireReceipt | None]:
        """Where a transaction is, mined or not, and what became of it; None: it isn't there."""
        methods = ("eth_getTransactionByHash", "eth_getTransactionReceipt")
        place, receipt = await self._rpc.batch(endpoint, [Call(name, [tx]) for name in methods])
        return decode(endpoint, place, _place), decode(endpoint, receipt, _receipt)

    async def nonce(self, endpoint: Endpoint, sender: str) -> int:
        """Of the next transaction that may be mined of a sender."""
        raw = await self._rpc.call(endpoint, "eth_getTransactionCount", [sender, "latest"])
        return quantity(decode(endpoint, raw, _text))

    async def _by_hash(
        self, endpoint: Endpoint, method: str, hashes: Sequence[str], options: list[Any]
    ) -> list[memoryview]:
        calls = [Call(method, [block, *options]) for block in hashes]
        told = [memoryview(raw) for raw in await self._rpc.batch(endpoint, calls)]
        for each, block in zip(told, hashes, strict=True):
            if each.nbytes == len(NULL) and bytes(each) == NULL:
                raise Missing(f"{endpoint.name} has nothing for {method} {block}")
        return told


def _get_block(block: int | str, *, full: bool) -> Call:
    if isinstance(block, int):
        return Call("eth_getBlockByNumber", [hex(block), full])
    by_hash = block.startswith("0x")
    return Call("eth_getBlockByHash" if by_hash else "eth_getBlockByNumber", [block, full])


def _balance_of(holder: str) -> str:
    """The call data of `balanceOf(address)`."""
    return "0x70a08231" + holder.removeprefix("0x").rjust(64, "0")


def _number(endpoint: Endpoint, answer: msgspec.Raw | NodeError) -> int | None:
    """What a call returned, if that is one word."""
    if isinstance(answer, NodeError):
        return None
    returned = octets(decode(endpoint, answer, _text))
    return int.from_bytes(returned, "big") if len(returned) == WORD else None


def _filter(topics: Sequence[str], **where: str) -> dict[str, Any]:
    return {**where, "topics": [list(topics)]} if topics else dict(where)


def _sized(endpoint: Endpoint, raw: msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> Sized[T]:
    return Sized(decode(endpoint, raw, decoder), memoryview(raw).nbytes)


def _present(endpoint: Endpoint, answer: Sized[T | None], what: str, block: int | str) -> Sized[T]:
    if answer.value is None:
        raise Missing(f"{endpoint.name} has nothing for {what} {block}")
    return Sized(answer.value, answer.size)
