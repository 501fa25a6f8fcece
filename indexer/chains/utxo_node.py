"""The questions that a Bitcoin-like node is asked about its chain, and the shape of its answers.

Blocks are asked for by hash, after their hashes were asked for by height: a stale block is served
as readily as any (P99), and who has followed a chain links each to the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from indexer.chains.jsonrpc import Call, JsonRpc, NodeError, decode
from indexer.chains.rpc import Endpoint, EndpointFailed, NotServed, Transport
from indexer.chains.utxo_parse import HEADER_BYTES
from indexer.chains.utxo_proof import double_sha256

NO_SUCH_HEIGHT: Final = -8  # Core's RPC_INVALID_PARAMETER
NO_SUCH_TRANSACTION: Final = -5
INDEXED: Final = "mempool or blockchain"  # where it looked in vain, if it has an index of all
NO_SUCH_BLOCK: Final = (-1, -5)  # RPC_MISC_ERROR, of a pruned one; RPC_INVALID_ADDRESS_OR_KEY

_text: Final = msgspec.json.Decoder(str)
_number: Final = msgspec.json.Decoder(int)


class Place(msgspec.Struct):
    """`getblockheader` in words: all that the header's own bytes don't say."""

    height: int


class Found(msgspec.Struct):
    """`getrawtransaction` in words: without a block it waits to be mined."""

    blockhash: str | None = None


class Unspent(msgspec.Struct):
    """`gettxout`."""

    bestblock: str
    confirmations: int


_place: Final = msgspec.json.Decoder(Place)
_found: Final = msgspec.json.Decoder(Found)
_unspent: Final = msgspec.json.Decoder(Unspent | None)


class Missing(EndpointFailed):
    """The node has no block there, though it should."""


class UtxoNode:
    """Data calls of one network's endpoints."""

    def __init__(self, rpc: JsonRpc, transport: Transport) -> None:
        self._rpc = rpc
        self._transport = transport
        self._without_rest: set[Endpoint] = set()

    async def best(self, endpoint: Endpoint) -> tuple[bytes, bytes]:
        """Hashes of the newest block and of block 0, at one moment."""
        newest, first = await self._rpc.batch(
            endpoint, [Call("getbestblockhash", []), Call("getblockhash", [0])]
        )
        return _hash(endpoint, newest), _hash(endpoint, first)

    async def height(self, endpoint: Endpoint) -> int:
        return decode(endpoint, await self._rpc.call(endpoint, "getblockcount", []), _number)

    async def hashes(self, endpoint: Endpoint, heights: Sequence[int]) -> list[bytes]:
        """By height on the node's best chain; Missing where it has not come so far."""
        try:
            answers = await self._rpc.batch(endpoint, [Call("getblockhash", [h]) for h in heights])
        except NodeError as error:
            if error.code != NO_SUCH_HEIGHT:
                raise
            raise Missing(f"{endpoint.name} has no block at one of these heights yet") from None
        return [_hash(endpoint, answer) for answer in answers]

    async def headers(self, endpoint: Endpoint, hashes: Sequence[bytes]) -> list[bytes]:
        """The bytes of headers: 80, and for merge-mined ones their parent's work."""
        calls = [Call("getblockheader", [value.hex(), False]) for value in hashes]
        return [_bytes(endpoint, answer) for answer in await self._rpc.batch(endpoint, calls)]

    async def place(self, endpoint: Endpoint, block: bytes) -> tuple[bytes, Place]:
        """A header, and where the node says it stands."""
        raw, words = await self._rpc.batch(
            endpoint,
            [Call("getblockheader", [block.hex(), verbose]) for verbose in (False, True)],
        )
        return _bytes(endpoint, raw), decode(endpoint, words, _place)

    def try_rest(self, endpoint: Endpoint) -> None:
        """Ask for blocks by REST, half the bytes, until the node is seen not to serve it."""
        self._without_rest.discard(endpoint)

    async def block(self, endpoint: Endpoint, block: bytes) -> bytes:
        if endpoint not in self._without_rest:
            with suppress(NotServed):
                raw = await self._transport.get(endpoint, f"rest/block/{block.hex()}.bin")
                if double_sha256(raw[:HEADER_BYTES])[::-1] == block:
                    return raw
            self._without_rest.add(endpoint)  # nothing is served there, or a page of a gateway
        raw = await self._rpc.call(endpoint, "getblock", [block.hex(), 0])
        return _bytes(endpoint, raw)

    async def kept_block(self, endpoint: Endpoint, block: bytes) -> bytes:
        """A block that a pruned node may have dropped: Missing then. Only a call says so."""
        try:
            raw = await self._rpc.call(endpoint, "getblock", [block.hex(), 0])
        except NodeError as error:
            if error.code not in NO_SUCH_BLOCK:
                raise
            raise Missing(f"{endpoint.name} does not have block {block.hex()}") from None
        return _bytes(endpoint, raw)

    async def transaction(self, endpoint: Endpoint, tx: bytes) -> tuple[Found | None, bool]:
        """Where a transaction is, and whether the node would find any that there is."""
        try:
            raw = await self._rpc.call(endpoint, "getrawtransaction", [tx.hex(), True])
        except NodeError as error:
            if error.code != NO_SUCH_TRANSACTION:
                raise
            return None, INDEXED in error.said
        return decode(endpoint, raw, _found), True

    async def height_of_unspent(
        self, endpoint: Endpoint, tx: bytes, outputs: Iterable[int]
    ) -> int | None:
        """The block that holds a transaction, by the first of these outputs that is unspent."""
        calls = [Call("gettxout", [tx.hex(), each, False]) for each in outputs]
        for raw in await self._rpc.batch(endpoint, calls):
            found = decode(endpoint, raw, _unspent)
            if found is not None:
                _, best = await self.place(endpoint, bytes.fromhex(found.bestblock))
                height: int = best.height - found.confirmations + 1
                return height
        return None


def _hash(endpoint: Endpoint, answer: msgspec.Raw) -> bytes:
    value = _bytes(endpoint, answer)
    if len(value) != 32:
        raise EndpointFailed(f"{endpoint.name} answered a hash of {len(value)} bytes")
    return value


def _bytes(endpoint: Endpoint, answer: msgspec.Raw) -> bytes:
    try:
        return bytes.fromhex(decode(endpoint, answer, _text))
    except ValueError:
        raise EndpointFailed(f"{endpoint.name} answered what is no hex") from None
