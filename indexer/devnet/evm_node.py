"""The simulated EVM node: real JSON-RPC over HTTP and WebSocket about a `SimulatedChain`.

Answers are shaped as geth's, errors too: an unknown block is null by hash or number, -32000 where a
method needs it; -39001 for `finalized` before the chain can say.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp import web

from indexer.chains import NATIVE
from indexer.devnet import evm_socket
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_json import Json, text, waiting
from indexer.devnet.evm_logs import block_logs, matches
from indexer.devnet.evm_machine import Revert
from indexer.devnet.loopback import Loopback

REQUEST_BYTES: Final = 8 * 2**20  # of a request's body
BATCH_ITEMS: Final = 1000  # calls in one batch; geth's own limit

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
UNKNOWN_METHOD: Final = -32601
INVALID_PARAMS: Final = -32602
SERVER_ERROR: Final = -32000
REVERTED: Final = 3  # geth's code for a reverted call
NOT_FINAL: Final = -39001  # execution-apis: "Unknown block" for safe and finalized


HEX_NUMBER: Final = re.compile(r"0x(0|[1-9a-f][0-9a-f]{0,15})", re.IGNORECASE)
HEX_DATA: Final = re.compile(r"0x([0-9a-f]{2})*", re.IGNORECASE)


class RpcError(Exception):
    """What the node answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class EvmNode(Loopback):
    """Serves a chain on loopback while it is entered: `async with EvmNode(chain) as node`."""

    def __init__(self, chain: SimulatedChain, port: int = 0) -> None:
        self.chain = chain
        super().__init__(port, REQUEST_BYTES)
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "depositd-devnet/v1",
            "net_version": lambda: str(chain.chain_id),
            "eth_chainId": lambda: text(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_blockNumber": lambda: text(chain.head.number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionCount": self._nonce,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "eth_call": self._call,
            "eth_getCode": self._code,
            "eth_getBalance": self._balance,
            "debug_traceBlockByHash": self._trace_by_hash,
            "debug_traceBlockByNumber": self._trace_by_number,
        }

    @property
    def ws(self) -> str:
        """Where it answers over WebSocket, and tells of new blocks."""
        return self.url.replace("http", "ws", 1)

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/", self._serve)
        router.add_get("/", evm_socket.handler(self.chain, self.answer))

    def answer(self, request: object) -> Json:
        """The reply to one JSON-RPC call."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _error(None, INVALID_REQUEST, "invalid request")
        call_id, name = request.get("id"), request["method"]
        params = request.get("params") or []
        method = self._methods.get(name)
        if method is None:
            message = f"the method {name} does not exist/is not available"
            return _error(call_id, UNKNOWN_METHOD, message)
        if not isinstance(params, list) or not _fit(method, params):
            return _error(call_id, INVALID_PARAMS, "missing or too many arguments")
        try:
            return {"jsonrpc": "2.0", "id": call_id, "result": method(*params)}
        except RpcError as error:
            return _error(call_id, error.code, str(error))
        except Revert as error:
            return _error(call_id, REVERTED, str(error))

    async def _serve(self, request: web.Request) -> web.Response:
        try:
            calls = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _json(_error(None, PARSE_ERROR, "parse error"))
        if not isinstance(calls, list):
            return _json(self.answer(calls))
        if not calls:
            return _json(_error(None, INVALID_REQUEST, "empty batch"))
        if len(calls) > BATCH_ITEMS:
            return _json([_error(None, INVALID_REQUEST, "batch too large")])
        return _json([self.answer(call) for call in calls])

    # ---------------------------------------------------------------- which block

    def _at(self, name: object) -> Block | None:
        """The block of a number or tag."""
        if not isinstance(name, str):
            raise RpcError(INVALID_PARAMS, "invalid argument: not a block number or tag")
        if name == "earliest":
            return self.chain.block_at(0)
        if name in ("latest", "pending"):
            return self.chain.head
        if name in ("finalized", "safe"):
            if self.chain.finalized is None:
                raise RpcError(NOT_FINAL, "Unknown block")
            return self.chain.finalized
        return self.chain.block_at(_quantity(name))

    def _named(self, name: object) -> Block | None:
        """The block of a number, a tag, a hash, or an EIP-1898 object."""
        if isinstance(name, dict):
            if "blockHash" in name:
                return self.chain.block(_octets(name["blockHash"], 32))
            return self._at(name["blockNumber"]) if "blockNumber" in name else self.chain.head
        if isinstance(name, str) and len(name) == 66:
            return self.chain.block(_octets(name, 32))
        return self._at(name)

    def _known(self, name: object) -> Block:
        block = self._named(name)
        if block is None:
            raise RpcError(SERVER_ERROR, "header not found")
        return block

    def _with_state(self, name: object) -> Block:
        block = self._known(name)
        if not self.chain.is_canonical(block):
            raise RpcError(SERVER_ERROR, "missing trie node")
        return block

    # ---------------------------------------------------------------- methods

    def _block_by_number(self, number: object, full: object) -> Json | None:
        return _shown(self._at(number), full)

    def _block_by_hash(self, block_hash: object, full: object) -> Json | None:
        return _shown(self.chain.block(_octets(block_hash, 32)), full)

    def _block_receipts(self, name: object) -> list[Json] | None:
        block = self._named(name)
        return None if block is None else block.receipts

    def _transaction(self, tx_hash: object) -> Json | None:
        name = _octets(tx_hash, 32)
        position = self.chain.position(name)
        if position is None:
            return next((waiting(tx) for tx in self.chain.waiting if tx.hash == name), None)
        found: Json = position[0].json["transactions"][position[1]]
        return found

    def _nonce(self, address: object, at: object = "latest") -> str:
        self._with_state(at)
        return text(self.chain.nonce(_octets(address, 20)))

    def _receipt(self, tx_hash: object) -> Json | None:
        position = self.chain.position(_octets(tx_hash, 32))
        return None if position is None else position[0].receipts[position[1]]

    def _logs(self, query: object) -> list[Json]:
        asked = _object(query)
        addresses, topics = asked.get("address"), asked.get("topics")
        if not isinstance(addresses, str | list | None) or not isinstance(topics, list | None):
            raise RpcError(INVALID_PARAMS, "invalid address or topics in query")
        blocks = self._range(asked)
        logs = (log for block in blocks for log in block_logs(block))
        return [log for log in logs if matches(log, addresses, topics)]

    def _range(self, query: Json) -> list[Block]:
        if "blockHash" in query:
            if "fromBlock" in query or "toBlock" in query:
                raise RpcError(
                    INVALID_PARAMS, "cannot specify both BlockHash and FromBlock/ToBlock"
                )
            block = self.chain.block(_octets(query["blockHash"], 32))
            if block is None:
                raise RpcError(SERVER_ERROR, "unknown block")
            return [block]
        first, last = (self._height(query.get(name, "latest")) for name in ("fromBlock", "toBlock"))
        if first > last:
            raise RpcError(INVALID_PARAMS, "invalid block range params")
        return list(self.chain.branch(first, last))

    def _height(self, name: object) -> int:
        if isinstance(name, str) and name.startswith("0x"):
            return _quantity(name)
        return self._known(name).number

    def _call(self, request: object, at: object = "latest") -> str:
        block, call = self._with_state(at), _object(request)
        to = _octets(call.get("to"), 20)
        data = _octets(call.get("input") or call.get("data") or "0x")
        sender = _octets(call["from"], 20) if "from" in call else bytes(20)
        return text(self.chain.call(to, data, block, sender))

    def _code(self, address: object, at: object = "latest") -> str:
        self._known(at)
        return text(self.chain.code(_octets(address, 20)))

    def _balance(self, address: object, at: object = "latest") -> str:
        block = self._with_state(at)
        return text(self.chain.balance(NATIVE, _octets(address, 20), block))

    def _trace_by_hash(self, block_hash: object, config: object = None) -> list[Json]:
        return self._trace(self.chain.block(_octets(block_hash, 32)), config, block_hash)

    def _trace_by_number(self, number: object, config: object = None) -> list[Json]:
        return self._trace(self._at(number), config, number)

    def _trace(self, block: Block | None, config: object, name: object) -> list[Json]:
        if _object(config or {}).get("tracer") != "callTracer":
            raise RpcError(SERVER_ERROR, "only callTracer is simulated")
        if block is None:
            raise RpcError(SERVER_ERROR, f"block {name} not found")
        if block.number == 0:
            raise RpcError(SERVER_ERROR, "genesis is not traceable")
        return block.traces


def _shown(block: Block | None, full: object) -> Json | None:
    if not isinstance(full, bool):
        raise RpcError(INVALID_PARAMS, "invalid argument 1: not a boolean")
    if block is None or full:
        return None if block is None else block.json
    return block.json | {"transactions": [text(e.transaction.hash) for e in block.executed]}


def _fit(method: Callable[..., Any], params: list[object]) -> bool:
    try:
        inspect.signature(method).bind(*params)
    except TypeError:
        return False
    return True


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, "invalid argument: not an object")
    return value


def _quantity(value: object) -> int:
    if not isinstance(value, str) or HEX_NUMBER.fullmatch(value) is None:
        raise RpcError(INVALID_PARAMS, "invalid argument: not a hex number")
    return int(value, 16)


def _octets(value: object, size: int | None = None) -> bytes:
    if not isinstance(value, str) or HEX_DATA.fullmatch(value) is None:
        raise RpcError(INVALID_PARAMS, "invalid argument: not hex data")
    octets = bytes.fromhex(value[2:])
    if size is not None and len(octets) != size:
        raise RpcError(INVALID_PARAMS, f"invalid argument: {len(octets)} bytes, want {size}")
    return octets


def _error(call_id: object, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}


def _json(reply: object) -> web.Response:
    return web.Response(body=orjson.dumps(reply), content_type="application/json")
