"""The simulated bitcoind: JSON-RPC and REST over HTTP about a `SimulatedUtxoChain`.

Answers and errors are shaped as Bitcoin Core's of the time before JSON-RPC 2.0: a result beside a
null error, HTTP 500 with an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp import web

from indexer.devnet.loopback import Loopback
from indexer.devnet.utxo_block import Transaction
from indexer.devnet.utxo_chain import CHAIN, Block, SimulatedUtxoChain

REQUEST_BYTES: Final = 2**20  # of a request's body
VERSION: Final = 280100

PARSE_ERROR: Final = -32700
UNKNOWN_METHOD: Final = -32601
MISC_ERROR: Final = -1  # Core's answer to wrong arguments: the method's help
NOT_FOUND: Final = -5  # RPC_INVALID_ADDRESS_OR_KEY
INVALID_PARAMETER: Final = -8

Json = dict[str, Any]


class RpcError(Exception):
    """What the node answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class UtxoNode(Loopback):
    """Serves a chain on loopback while it is entered: `async with UtxoNode(chain) as node`.

    `rest`: whether blocks are served at `/rest/block/HASH.bin`. `indexed`: Core's `txindex`.
    """

    def __init__(
        self,
        chain: SimulatedUtxoChain,
        port: int = 0,
        *,
        rest: bool = True,
        indexed: bool = True,
    ) -> None:
        self.chain = chain
        self.rest = rest
        self.indexed = indexed
        super().__init__(port, REQUEST_BYTES)
        self._methods: dict[str, Callable[..., Any]] = {
            "getblockchaininfo": self._chain_info,
            "getnetworkinfo": self._network_info,
            "getbestblockhash": lambda: self.chain.head.hash.hex(),
            "getblockcount": lambda: self.chain.head.number,
            "getblockhash": self._block_hash,
            "getblockheader": self._header,
            "getblock": self._block,
            "getrawtransaction": self._transaction,
            "gettxout": self._unspent,
        }

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/", self._serve)
        router.add_get("/rest/block/{name}.bin", self._serve_block)

    def answer(self, request: object) -> Json:
        """The reply to one JSON-RPC call."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _reply(None, None, RpcError(PARSE_ERROR, "Missing method"))
        call_id, params = request.get("id"), request.get("params") or []
        method = self._methods.get(request["method"])
        if method is None:
            return _reply(call_id, None, RpcError(UNKNOWN_METHOD, "Method not found"))
        try:
            inspect.signature(method).bind(*params)
        except TypeError:
            return _reply(call_id, None, RpcError(MISC_ERROR, request["method"]))
        try:
            return _reply(call_id, method(*params), None)
        except RpcError as error:
            return _reply(call_id, None, error)

    async def _serve(self, request: web.Request) -> web.Response:
        try:
            calls = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _json(_reply(None, None, RpcError(PARSE_ERROR, "Parse error")))
        if isinstance(calls, list):
            return _json([self.answer(call) for call in calls])
        return _json(self.answer(calls))

    async def _serve_block(self, request: web.Request) -> web.Response:
        if not self.rest:
            raise web.HTTPNotFound
        try:
            raw = self._known(request.match_info["name"]).raw
        except RpcError as error:
            raise web.HTTPNotFound(text=str(error)) from None
        return web.Response(body=raw, content_type="application/octet-stream")

    # ---------------------------------------------------------------- methods

    def _chain_info(self) -> Json:
        head = self.chain.head
        return {
            "chain": CHAIN,
            "blocks": head.number,
            "headers": head.number,
            "bestblockhash": head.hash.hex(),
            "initialblockdownload": False,
            "chainwork": f"{head.work:064x}",
            "pruned": False,
            "warnings": "",
        }

    def _network_info(self) -> Json:
        return {"version": VERSION, "subversion": "/depositd-devnet:1.0/", "networkactive": True}

    def _block_hash(self, height: object) -> str:
        block = self.chain.block_at(height) if type(height) is int else None
        if block is None:
            raise RpcError(INVALID_PARAMETER, "Block height out of range")
        return block.hash.hex()

    def _header(self, name: object, verbose: bool = True) -> str | Json:
        block = self._known(name)
        if not verbose:
            return block.header.hex()
        confirmations = -1
        if self.chain.is_canonical(block):
            confirmations = self.chain.head.number - block.number + 1
        return {
            "hash": block.hash.hex(),
            "confirmations": confirmations,
            "height": block.number,
            "time": block.time,
            "chainwork": f"{block.work:064x}",
            "previousblockhash": block.parent.hex(),
        }

    def _block(self, name: object, verbosity: int = 1) -> str:
        if verbosity != 0:
            raise RpcError(INVALID_PARAMETER, "only verbosity 0 is simulated")
        return self._known(name).raw.hex()

    def _transaction(self, name: object, verbose: bool = False) -> str | Json:
        mined = self._mined(name) if self.indexed else None
        found = next((tx for tx in self.chain.waiting if tx.hash.hex() == name), None)
        if mined is not None:
            found = mined[1]
        if found is None:
            where = "or blockchain transaction" if self.indexed else "transaction. Use -txindex"
            raise RpcError(NOT_FOUND, f"No such mempool {where}")
        if not verbose:
            return found.raw.hex()
        shown: Json = {"txid": found.hash.hex(), "hex": found.raw.hex()}
        if mined is not None:
            shown["blockhash"] = mined[0].hash.hex()
            shown["confirmations"] = self.chain.head.number - mined[0].number + 1
        return shown

    def _unspent(self, name: object, index: object, _mempool: bool = True) -> Json | None:
        """Of what nobody spends again: what payers spend here is invented."""
        mined = self._mined(name)
        if mined is None or type(index) is not int or index >= len(mined[1].outputs):
            return None
        confirmations = self.chain.head.number - mined[0].number + 1
        return {"bestblock": self.chain.head.hash.hex(), "confirmations": confirmations}

    def _mined(self, name: object) -> tuple[Block, Transaction] | None:
        """A transaction of the chain as it stands, and its block."""
        for block in self.chain.branch():
            for tx in block.transactions:
                if tx.hash.hex() == name:
                    return block, tx
        return None

    def _known(self, name: object) -> Block:
        """Any block there ever was, stale ones too (P99)."""
        try:
            wanted = bytes.fromhex(name) if isinstance(name, str) else b""
        except ValueError:
            wanted = b""
        block = self.chain.block(wanted)
        if block is None:
            raise RpcError(NOT_FOUND, "Block not found")
        return block


def _reply(call_id: object, result: object, error: RpcError | None) -> Json:
    fault = None if error is None else {"code": error.code, "message": str(error)}
    return {"result": result, "error": fault, "id": call_id}


def _json(reply: Json | list[Json]) -> web.Response:
    failed = isinstance(reply, dict) and reply["error"] is not None
    return web.Response(
        body=orjson.dumps(reply), content_type="application/json", status=500 if failed else 200
    )
