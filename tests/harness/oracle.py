"""An independent reading of a chain: what must be a deposit, straight from the node's JSON.

Shares no code with the engine, and knows only what the contract says. Reads an honest node: it is
what the engine's table is held against, so it is plain rather than fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.harness.rpc import Rpc

TRANSFER: Final = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
NATIVE: Final = "native"


class Identity(NamedTuple):
    """What makes a deposit that one and no other, within an account and network; all lower case."""

    transaction: str
    address: str
    asset: str
    ordinal: int


class Found(NamedTuple):
    """What the chain says of it."""

    units: int
    sender: str
    height: int
    block: str


@dataclass
class Oracle:
    """Reads what was paid to `watched` in `coins`; both map to the height they are covered from."""

    node: Rpc
    watched: Mapping[str, int]
    coins: Mapping[str, int]  # contracts, and `native`
    traces: bool = False
    deposits: dict[Identity, Found] = field(default_factory=dict)

    async def read(self) -> dict[Identity, Found]:
        """Every deposit of the node's chain, from its first block to its head."""
        self.deposits = {}
        for height in range(await self.node.height() + 1):
            block = await self.node.block(height)
            assert block is not None
            await self._read_block(block)
        return self.deposits

    async def _read_block(self, block: dict[str, Any]) -> None:
        for transaction in block["transactions"]:
            receipt = await self.node.call("eth_getTransactionReceipt", transaction["hash"])
            assert receipt["blockHash"] == block["hash"]
            if int(receipt["status"], 16) == 1:
                movements = [
                    *_own_value(transaction, receipt),
                    *(await self._internal(transaction["hash"]) if self.traces else ()),
                    *_logged(receipt["logs"]),
                ]
                self._count(block, transaction["hash"], movements)

    def _count(
        self, block: dict[str, Any], transaction: str, movements: list[tuple[str, str, str, int]]
    ) -> None:
        """Number the movements of each asset to each recipient; keep those that are deposits."""
        seen: Counter[tuple[str, str]] = Counter()
        height = int(block["number"], 16)
        for asset, sender, recipient, units in movements:
            ordinal = seen[asset, recipient]
            seen[asset, recipient] += 1
            covered = max(self.watched.get(recipient, 2**63), self.coins.get(asset, 2**63))
            if height >= covered and units and sender != recipient:
                identity = Identity(transaction, recipient, asset, ordinal)
                self.deposits[identity] = Found(units, sender, height, block["hash"])

    async def _internal(self, transaction: str) -> list[tuple[str, str, str, int]]:
        """Payments below the top call, in the order of execution, without what was undone."""
        root = await self.node.call("debug_traceTransaction", transaction, {"tracer": "callTracer"})
        return list(_frames(root))


def _own_value(
    transaction: dict[str, Any], receipt: dict[str, Any]
) -> Iterator[tuple[str, str, str, int]]:
    recipient = transaction["to"] or receipt["contractAddress"]
    units = int(transaction["value"], 16)
    if units:
        yield NATIVE, transaction["from"].lower(), recipient.lower(), units


def _frames(frame: dict[str, Any]) -> Iterator[tuple[str, str, str, int]]:
    for call in frame.get("calls", ()):
        if "error" in call:
            continue
        if call["type"] in ("CALL", "CREATE", "CREATE2", "SELFDESTRUCT"):
            units = int(call.get("value", "0x0"), 16)
            if units:
                yield NATIVE, call["from"].lower(), call["to"].lower(), units
        yield from _frames(call)


def _logged(logs: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, int]]:
    """Transfer events of the standard's shape, of any contract."""
    for log in logs:
        topics = log["topics"]
        if len(topics) == 3 and topics[0] == TRANSFER and len(log["data"]) == 2 + 64:
            sender, recipient = ("0x" + topic[26:].lower() for topic in topics[1:])
            yield log["address"].lower(), sender, recipient, int(log["data"], 16)
