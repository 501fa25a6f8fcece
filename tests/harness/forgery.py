"""A block that proves by itself and never was: only another node can tell (P62).

The forger raises the amount of every token transfer in one block and rebuilds what commits to it:
receipts root and block hash. It keeps to its story, whether asked by height, by tag or by hash, and
has no newer block: a child would name the honest parent.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from indexer.chains.evm_proof import header_hash, receipts_root
from indexer.chains.evm_wire import WireHeader, WireReceipt
from tests.harness.faults import BLOCKS, BY_HASH, BY_NUMBER, RECEIPTS, Call, Fault
from tests.harness.rpc import Rpc

TIMES: Final = 10**6


class Forged(Fault):
    """The block at `height` carries a million times the money."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self._height = height
        self._honest = ""  # its true hash
        self._forged = ""

    async def question(self, call: Call, node: Rpc) -> Call:
        """Asked for the forged hash, the node behind must be asked for the true one."""
        await self._forge(node)
        if call["method"] in (BY_HASH, RECEIPTS) and call["params"][0] == self._forged:
            return {**call, "params": [self._honest, *call["params"][1:]]}
        if call["method"] == BY_NUMBER and call["params"][0] == "latest":
            return {**call, "params": [hex(self._height), *call["params"][1:]]}
        return call

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if call["method"] == "eth_blockNumber":
            return hex(self._height)
        if call["method"] in BLOCKS and result and int(result["number"], 16) >= self._height:
            if int(result["number"], 16) > self._height:
                return None
            self.hits += 1
            return {**result, **self._header, "transactions": self._own(result["transactions"])}
        if call["method"] == RECEIPTS and result and result[0]["blockHash"] == self._honest:
            self.hits += 1
            return _inflate(result, self._forged)
        return result

    def _own(self, transactions: list[Any]) -> list[Any]:
        return [
            {**each, "blockHash": self._forged} if isinstance(each, dict) else each
            for each in transactions
        ]

    async def _forge(self, node: Rpc) -> None:
        if self._forged:
            return
        block = await node.block(self._height)
        assert block is not None
        self._honest = block["hash"]
        receipts = await node.call(RECEIPTS, self._honest)
        root = receipts_root(msgspec.convert(_inflate(receipts, self._honest), list[WireReceipt]))
        header = {**block, "receiptsRoot": "0x" + root.hex()}
        self._forged = "0x" + header_hash(msgspec.convert(header, WireHeader)).hex()
        self._header = {"receiptsRoot": header["receiptsRoot"], "hash": self._forged}


def _inflate(receipts: list[dict[str, Any]], block: str) -> list[dict[str, Any]]:
    return [
        {**receipt, "blockHash": block, "logs": [_raise(log, block) for log in receipt["logs"]]}
        for receipt in receipts
    ]


def _raise(log: dict[str, Any], block: str) -> dict[str, Any]:
    amount = int(log["data"], 16) * TIMES
    return {**log, "blockHash": block, "data": f"0x{amount:064x}"}
