"""The faults that a node can show, each a switch of the proxy. `hits` counts how often it struck.

Faults of contents alter honest answers; the honest node stays as it is, so that after the fault all
is as it should have been. Which pitfall a fault is stands in the tests.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from aiohttp import web

from tests.harness.rpc import Rpc

RECEIPTS: Final = "eth_getBlockReceipts"
LOGS: Final = "eth_getLogs"
BY_NUMBER: Final = "eth_getBlockByNumber"
BY_HASH: Final = "eth_getBlockByHash"
BLOCKS: Final = (BY_NUMBER, BY_HASH)
TAGS: Final = ("latest", "pending", "safe", "finalized", "earliest")

Call = dict[str, Any]


@dataclass(frozen=True)
class Error:
    """An error object in place of a result."""

    code: int
    message: str


class Fault:
    """Does nothing. Each subclass overrides one of the four ways to interfere."""

    Error: ClassVar = Error

    def __init__(self) -> None:
        self.hits = 0

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        """An HTTP answer without asking the node, or None."""
        return None

    async def question(self, call: Call, node: Rpc) -> Call:
        """What the node is asked instead."""
        return call

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        """What is answered instead of the node's result."""
        return result

    def batch(self, replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The replies as they are sent."""
        return replies


class Receipts(Fault):
    """Alters a block's receipts, and the logs of a `eth_getLogs` answer, in place."""

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if not result or call["method"] not in (RECEIPTS, LOGS):
            return result
        before = copy.deepcopy(result)
        change = self.receipts if call["method"] == RECEIPTS else self.logs
        result = change(result)
        self.hits += result != before
        return result

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for receipt in receipts:
            receipt["logs"] = self.logs(receipt["logs"])
        return receipts

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return logs


class EmptyLogs(Receipts):
    """A node that lags behind its own head: no logs, no error."""

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return []


class LogDropped(Receipts):
    """The last log of each block or answer is missing; no number tells."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = next((each for each in reversed(receipts) if each["logs"]), None)
        if last is not None:
            last["logs"] = self.logs(last["logs"])
        return receipts

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return logs[:-1]


class ReceiptMissing(Receipts):
    """The last receipt of a block is missing."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return receipts[:-1]


class AmountAltered(Receipts):
    """A log's amount is a million times what it was."""

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for log in logs:
            if len(log["data"]) == 2 + 64:
                log["data"] = f"0x{int(log['data'], 16) * 10**6 % 2**256:064x}"
        return logs


class StatusFlipped(Receipts):
    """What failed is said to have succeeded, and the other way round."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for receipt in receipts:
            receipt["status"] = hex(1 - int(receipt["status"], 16))
        return receipts


class ReceiptsSwapped(Receipts):
    """A block's receipts stand in the opposite order, each under the other's name and number."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        contents = [(each["status"], each["logs"], each["logsBloom"]) for each in receipts]
        number = 0
        for receipt, (status, logs, bloom) in zip(receipts, reversed(contents), strict=True):
            receipt.update(status=status, logs=logs, logsBloom=bloom)
            for log in logs:
                log["transactionHash"] = receipt["transactionHash"]
                log["transactionIndex"] = receipt["transactionIndex"]
                log["logIndex"] = hex(number)
                number += 1
        return receipts


class ForeignBlockHash(Receipts):
    """Receipts and logs that say they belong to another block."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for receipt in receipts:
            receipt["blockHash"] = _other(receipt["blockHash"])
        return super().receipts(receipts)

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for log in logs:
            log["blockHash"] = _other(log["blockHash"])
        return logs


class ReceiptOfAnother(Receipts):
    """A receipt under the hash of a transaction that was replaced (P23)."""

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for receipt in receipts:
            receipt["transactionHash"] = _other(receipt["transactionHash"])
        return receipts


class Capped(Receipts):
    """`eth_getLogs` silently ends after exactly `limit` logs."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def receipts(self, receipts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return receipts

    def logs(self, logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return logs[: self._limit]


class ValueAltered(Fault):
    """Transactions in a block carry more value than was signed."""

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if result and call["method"] in BLOCKS:
            for transaction in result["transactions"]:
                if isinstance(transaction, dict) and int(transaction["value"], 16):
                    transaction["value"] = hex(int(transaction["value"], 16) * 1000)
                    self.hits += 1
        return result


class BloomZero(Fault):
    """Blocks without their bloom, as some nodes show them too early."""

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if result and call["method"] in BLOCKS:
            self.hits += int(result["logsBloom"], 16) > 0
            result["logsBloom"] = "0x" + "00" * 256
        return result


class WrongChain(Fault):
    """Another network answers at this URL."""

    def __init__(self, chain_id: int) -> None:
        super().__init__()
        self._chain_id = chain_id

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        match call["method"]:
            case "eth_chainId":
                self.hits += 1
                return hex(self._chain_id)
            case "net_version":
                self.hits += 1
                return str(self._chain_id)
        return result


class NullBlock(Fault):
    """The node names a head, and says null for the block."""

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if call["method"] == BY_HASH or (
            call["method"] == BY_NUMBER and call["params"][0] not in TAGS
        ):
            self.hits += 1
            return None
        return result


class Lag(Fault):
    """The node is `blocks` behind, and knows nothing above its own head."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self._blocks = blocks

    async def question(self, call: Call, node: Rpc) -> Call:
        if call["method"] == BY_NUMBER and call["params"][0] == "latest":
            self.hits += 1
            head = max(0, await node.height() - self._blocks)
            return {**call, "params": [hex(head), *call["params"][1:]]}
        return call

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        head = max(0, await node.height() - self._blocks)
        if call["method"] == "eth_blockNumber":
            self.hits += 1
            return hex(head)
        if call["method"] in (*BLOCKS, RECEIPTS) and result:
            one = result[0]["blockNumber"] if call["method"] == RECEIPTS else result["number"]
            if int(one, 16) > head:
                self.hits += 1
                return None
        return result


class Shuffled(Fault):
    """Replies of a batch in another order."""

    def batch(self, replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self.hits += len(replies) > 1
        return replies[::-1]


class PartlyErrors(Fault):
    """Every other reply of a batch is an error that asks for patience."""

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        self.hits += 1
        return Error(-32005, "limit exceeded") if self.hits % 2 else result


class Html(Fault):
    """A gateway's error page, with a status that says all is well."""

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        self.hits += 1
        return web.Response(text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")


class TooMany(Fault):
    """HTTP 429, with the time to wait."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__()
        self._headers = {"Retry-After": str(retry_after)}

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        self.hits += 1
        return web.Response(status=429, headers=self._headers)


class Dead(Fault):
    """No answer worth the name to the `methods`: all of them, if none is named."""

    def __init__(self, *methods: str) -> None:
        super().__init__()
        self._methods = methods

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        if self._methods and not any(call["method"] in self._methods for call in calls):
            return None
        self.hits += 1
        return web.Response(status=500, text="")


class Silence(Fault):
    """The connection stays open for `seconds`, and nothing comes."""

    def __init__(self, seconds: float, *methods: str) -> None:
        super().__init__()
        self._seconds = seconds
        self._methods = methods

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        if self._methods and not any(call["method"] in self._methods for call in calls):
            return None
        self.hits += 1
        await asyncio.sleep(self._seconds)
        return web.Response(status=504)


class FieldLost(Fault):
    """One field of each answer is missing, chosen by a seeded rule, however deep it stands."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if call["method"] not in (*BLOCKS, RECEIPTS):
            return result
        fields = list(_fields(result))
        if fields:
            holder, name = self._random.choice(fields)
            del holder[name]
            self.hits += 1
        return result


class Scripted(Fault):
    """Whatever a test needs once: a function from (call, result) to a result."""

    def __init__(self, change: Callable[[Call, Any], Any]) -> None:
        super().__init__()
        self._change = change

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        before = copy.deepcopy(result)
        result = self._change(call, result)
        self.hits += result != before
        return result


def _fields(value: Any) -> list[tuple[dict[str, Any], str]]:
    """Every field of every object in a JSON value, as (the object, the field's name)."""
    found: list[tuple[dict[str, Any], str]] = []
    if isinstance(value, dict):
        found += [(value, name) for name in value]
    for each in value.values() if isinstance(value, dict) else value or ():
        if isinstance(each, dict | list):
            found += _fields(each)
    return found


def _other(digest: str) -> str:
    """Another hash of the same length."""
    return f"0x{int(digest, 16) ^ 1:064x}"
