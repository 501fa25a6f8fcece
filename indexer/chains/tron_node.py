"""The questions that a TRON node is asked over its HTTP API, one method each; answers come typed.

A node that doesn't have a block says `{}`, and `[]` of its infos, without any error (P76, P86).
Headers are asked without transactions (`getblock`), blocks one by one or by range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from indexer.chains.answers import Missing, Sized
from indexer.chains.jsonrpc import decode
from indexer.chains.rpc import Endpoint, EndpointFailed, Transport
from indexer.chains.tron_wire import WireBlock, WireBlocks, WireInfo, WireTransaction

EMPTY: Final = (b"{}", b"[]", b"{ }", b"[ ]")

T = TypeVar("T")


class _Fault(msgspec.Struct):
    Error: str | None = None


class _Count(msgspec.Struct):
    count: int = -1


_any: Final = msgspec.json.Decoder()
_fault: Final = msgspec.json.Decoder(_Fault)
_block: Final = msgspec.json.Decoder(WireBlock)
_blocks: Final = msgspec.json.Decoder(WireBlocks)
_count: Final = msgspec.json.Decoder(_Count)
_transaction: Final = msgspec.json.Decoder(WireTransaction)
_info: Final = msgspec.json.Decoder(WireInfo)
_infos: Final = msgspec.json.Decoder(list[WireInfo])


class TronNode:
    """`solidity`: where an endpoint's solidified side is, if it has another URL."""

    def __init__(self, transport: Transport, solidity: Mapping[str, Endpoint]) -> None:
        self._transport = transport
        self._solidity = solidity

    async def head(self, endpoint: Endpoint) -> WireBlock:
        """The newest block's header."""
        found = await self._header(endpoint, "wallet", {})
        if found is None:
            raise Missing(f"{endpoint.name} has no block at all")
        return found

    async def header(self, endpoint: Endpoint, height: int) -> WireBlock | None:
        """None where the node has no such block."""
        found = await self._header(endpoint, "wallet", {"id_or_num": str(height)})
        if found is not None and found.data.number != height:
            raise EndpointFailed(f"{endpoint.name} names {found.data.number} as {height}")
        return found

    async def solid(self, endpoint: Endpoint) -> WireBlock | None:
        """The newest solidified block's header; None before there is one."""
        side = self._solidity.get(endpoint.name, endpoint)
        return await self._header(side, "walletsolidity", {})

    async def blocks(self, endpoint: Endpoint, first: int, last: int) -> Sized[list[WireBlock]]:
        """Blocks first..last, all of them."""
        if first == last:
            body = await self.ask(endpoint, "wallet/getblockbynum", {"num": first})
        else:
            asked = {"startNum": first, "endNum": last + 1}
            body = await self.ask(endpoint, "wallet/getblockbylimitnext", asked)
        if body.strip() in EMPTY:
            found = []
        elif first == last:
            found = [_decoded(endpoint, body, _block)]
        else:
            found = _decoded(endpoint, body, _blocks).block
        heights = [block.data.number for block in found]
        if heights != list(range(first, last + 1)):
            raise Missing(f"{endpoint.name} gave {len(found)} of the blocks {first} to {last}")
        return Sized(found, len(body))

    async def count(self, endpoint: Endpoint, height: int) -> int:
        """How many transactions the node says a block has; -1 where it doesn't say."""
        body = await self.ask(endpoint, "wallet/gettransactioncountbyblocknum", {"num": height})
        return _decoded(endpoint, body, _count).count

    async def infos(self, endpoint: Endpoint, height: int) -> Sized[list[WireInfo]]:
        """What became of a block's transactions; `[]` where the node doesn't know yet."""
        body = await self.ask(endpoint, "wallet/gettransactioninfobyblocknum", {"num": height})
        found = [] if body.strip() in EMPTY else _decoded(endpoint, body, _infos)
        return Sized(found, len(body))

    async def transaction(self, endpoint: Endpoint, tx: str) -> WireTransaction | None:
        """One of a block, by its id; None where the node has none."""
        return await self._named(endpoint, "gettransactionbyid", tx, _transaction)

    async def pending(self, endpoint: Endpoint, tx: str) -> WireTransaction | None:
        """One that waits to be mined."""
        return await self._named(endpoint, "gettransactionfrompending", tx, _transaction)

    async def info(self, endpoint: Endpoint, tx: str) -> WireInfo | None:
        """What became of one transaction."""
        return await self._named(endpoint, "gettransactioninfobyid", tx, _info)

    async def read(self, endpoint: Endpoint, path: str, question: Mapping[str, Any]) -> Any:
        """Any other question's answer, as plain JSON values."""
        return _decoded(endpoint, await self.ask(endpoint, path, question), _any)

    async def ask(self, endpoint: Endpoint, path: str, question: Mapping[str, Any]) -> bytes:
        """The JSON text that a path answers; addresses always in hex (P82)."""
        body = msgspec.json.encode({**question, "visible": False})
        answer = await self._transport.post(endpoint, body, path)
        if b'"Error"' in answer[:64]:
            said = endpoint.clean(_decoded(endpoint, answer, _fault).Error or "")
            raise EndpointFailed(f"{endpoint.name} answered {path} with an error: {said}")
        return answer

    async def _named(
        self, endpoint: Endpoint, method: str, tx: str, decoder: msgspec.json.Decoder[T]
    ) -> T | None:
        body = await self.ask(endpoint, f"wallet/{method}", {"value": tx})
        return None if body.strip() in EMPTY else _decoded(endpoint, body, decoder)

    async def _header(
        self, endpoint: Endpoint, side: str, question: Mapping[str, Any]
    ) -> WireBlock | None:
        body = await self.ask(endpoint, f"{side}/getblock", {**question, "detail": False})
        return None if body.strip() in EMPTY else _decoded(endpoint, body, _block)


def _decoded(endpoint: Endpoint, body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    return decode(endpoint, msgspec.Raw(body), decoder)
