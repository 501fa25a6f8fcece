"""The faults that a Bitcoin-like node can show, each a switch of the proxy before an honest one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_parse import HEADER_BYTES, parse_block
from indexer.chains.utxo_proof import double_sha256, target
from tests.harness.faults import Call, Error, Fault
from tests.harness.rpc import Rpc

BEST: Final = "getbestblockhash"
COUNT: Final = "getblockcount"
HASH: Final = "getblockhash"
HEADER: Final = "getblockheader"
BLOCK: Final = "getblock"  # REST as well

NOT_FOUND: Final = Error(-5, "Block not found")
OUT_OF_RANGE: Final = Error(-8, "Block height out of range")
PRUNED: Final = Error(-1, "Block not available (pruned data)")
WARMING_UP: Final = Error(-28, "Loading block index...")


class Twisted(Fault):
    """One method's results are changed by a function."""

    def __init__(self, method: str, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self._method = method
        self._change = change

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if call["method"] != self._method:
            return result
        changed = self._change(result)
        self.hits += changed != result
        return changed


def body(change: Callable[[bytes], bytes]) -> Twisted:
    """Blocks in other bytes."""
    return Twisted(BLOCK, lambda raw: change(bytes.fromhex(raw)).hex())


def header(change: Callable[[bytes], bytes]) -> Twisted:
    """Headers in other bytes."""
    return Twisted(
        HEADER, lambda raw: change(bytes.fromhex(raw)).hex() if isinstance(raw, str) else raw
    )


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw.replace(old, new)


def without_last(network: Parameters) -> Callable[[bytes], bytes]:
    """A block that leaves out its last transaction; blocks of a coinbase alone stay."""

    def change(raw: bytes) -> bytes:
        starts = parse_block(raw, network).starts
        if len(starts) == 1:
            return raw
        return raw[:HEADER_BYTES] + bytes((len(starts) - 1,)) + raw[starts[0] : starts[-1]]

    return change


def last_doubled(network: Parameters) -> Callable[[bytes], bytes]:
    """A block of three transactions that shows the last one twice: its merkle root stays."""

    def change(raw: bytes) -> bytes:
        starts = parse_block(raw, network).starts
        if len(starts) != 3:
            return raw
        return raw[:HEADER_BYTES] + b"\4" + raw[starts[0] :] + raw[starts[-1] :]

    return change


class Always(Fault):
    """One HTTP answer to everything."""

    def __init__(self, make: Callable[[], web.Response]) -> None:
        super().__init__()
        self._make = make

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        self.hits += 1
        return self._make()


class WithoutRest(Fault):
    """Something else is answered where blocks would be served as they are."""

    def __init__(self, make: Callable[[], web.Response]) -> None:
        super().__init__()
        self._make = make

    async def instead(self, calls: Sequence[Call]) -> web.StreamResponse | None:
        if not calls[0].get("rest"):
            return None
        self.hits += 1
        return self._make()


class Refusing(Fault):
    """An error instead of each result of some methods."""

    def __init__(self, error: Error, *methods: str) -> None:
        super().__init__()
        self._error = error
        self._methods = methods

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        if call["method"] not in self._methods:
            return result
        self.hits += 1
        return self._error


class Lag(Fault):
    """The node is `blocks` behind, and knows nothing above its own head."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self._blocks = blocks

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        head = max(0, await node.call(COUNT) - self._blocks)
        match call["method"]:
            case "getbestblockhash":
                self.hits += 1
                return await node.call(HASH, head)
            case "getblockcount":
                self.hits += 1
                return head
            case "getblockhash" if call["params"][0] > head:
                return OUT_OF_RANGE
            case "getblockheader" | "getblock":
                place = await node.call(HEADER, call["params"][0], True)
                return NOT_FOUND if place["height"] > head else result
        return result


class Private(Fault):
    """A branch that nobody else has: raw blocks from a height on, the newest the node's best."""

    def __init__(self, first: int, *raws: bytes) -> None:
        super().__init__()
        self._raws = {first + number: raw for number, raw in enumerate(raws)}
        self._heights = {name(raw): height for height, raw in self._raws.items()}

    async def question(self, call: Call, node: Rpc) -> Call:
        """What the honest node does not know is not asked of it."""
        if call["method"] == HASH and call["params"][0] in self._raws:
            return {**call, "method": COUNT, "params": []}
        if call["method"] in (HEADER, BLOCK) and call["params"][0] in self._heights:
            return {**call, "method": COUNT, "params": []}
        return call

    async def reply(self, call: Call, result: Any, node: Rpc) -> Any:
        top = max(self._raws)
        match call["method"], call["params"]:
            case "getbestblockhash", _:
                self.hits += 1
                return name(self._raws[top])
            case "getblockcount", _:
                return top
            case "getblockhash", [int(height), *_] if height in self._raws:
                return name(self._raws[height])
            case "getblockheader", [known, verbose] if known in self._heights:
                height = self._heights[known]
                return {"height": height} if verbose else self._raws[height][:HEADER_BYTES].hex()
            case "getblock", [known, *_] if known in self._heights:
                return self._raws[self._heights[known]].hex()
        return result


def name(raw: bytes) -> str:
    """A block's hash as it is shown."""
    return double_sha256(raw[:HEADER_BYTES])[::-1].hex()


def unworked(raw: bytes) -> bytes:
    """The same block with a nonce that does not meet its target."""
    goal = target(int.from_bytes(raw[72:76], "little"))
    nonce = 0
    while True:
        forged = raw[:76] + nonce.to_bytes(4, "little") + raw[80:]
        if int.from_bytes(double_sha256(forged[:80]), "little") > goal:
            return forged
        nonce += 1


def eased(raw: bytes) -> bytes:
    """The same block asking for less work than its network ever does."""
    return raw[:72] + (0x217FFFFF).to_bytes(4, "little") + raw[76:]


def half_json() -> web.Response:
    return web.Response(body=orjson.dumps([{"result": "00"}])[:-4])
