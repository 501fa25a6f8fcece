"""The simulated TRON node: java-tron's HTTP API, full and solidified side, about a `SimulatedTron`.

Answers are shaped as java-tron's with `visible` false: what it doesn't have is `{}`, of infos `[]`;
what it doesn't understand is `{"Error": …}`; both with HTTP 200.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from aiohttp import web

from indexer.chains.evm_trie import keccak
from indexer.chains.tron_codec import PREFIX
from indexer.devnet.evm_machine import Revert
from indexer.devnet.loopback import Loopback
from indexer.devnet.tron_block import Block, Json, waiting
from indexer.devnet.tron_chain import SimulatedTron

REQUEST_BYTES: Final = 2**20  # of a request's body
RANGE_BLOCKS: Final = 100  # java-tron's limit of getblockbylimitnext


class Fault(Exception):
    """What the node can't make sense of."""


class TronNode(Loopback):
    """Serves a chain on loopback while it is entered: `async with TronNode(chain) as node`.

    `hidden`: blocks at the head that it doesn't have yet. `without_infos`: blocks below them whose
    infos it doesn't have yet. `keeps_internal`: java-tron's `vm.saveInternalTx`.
    """

    def __init__(self, chain: SimulatedTron, port: int = 0, *, keeps_internal: bool = True) -> None:
        self.chain = chain
        self.hidden = 0
        self.without_infos = 0
        self.keeps_internal = keeps_internal
        super().__init__(port, REQUEST_BYTES)
        self._answers: dict[str, Callable[[Json, Block], object]] = {
            "getnowblock": lambda _, head: head.json,
            "getblock": self._block,
            "getblockbynum": self._block_by_number,
            "getblockbylimitnext": self._range,
            "gettransactioncountbyblocknum": self._count,
            "gettransactioninfobyblocknum": self._infos,
            "gettransactionbyid": self._transaction,
            "gettransactionfrompending": self._pending,
            "gettransactioninfobyid": self._info,
            "triggerconstantcontract": self._call,
            "getcontract": self._contract,
            "getassetissuebyid": self._asset,
        }

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/{side:wallet|walletsolidity}/{name}", self._serve)

    def head(self, side: str) -> Block:
        """The newest block that a side shows."""
        number = max(0, self.chain.head.number - self.hidden)
        if side == "walletsolidity":
            number = min(number, self.chain.finalized.number)
        return self.chain.branch(number)[0]

    def answer(self, side: str, name: str, body: bytes) -> object:
        """What it says to a question; None where it has no such method."""
        method = self._answers.get(name)
        if method is None:
            return None
        try:
            question = _object(body)
            if question.get("visible"):
                raise Fault("only hex addresses are simulated")
            return method(question, self.head(side))
        except Fault as fault:
            return {"Error": f"class java.lang.IllegalArgumentException : {fault}"}

    async def _serve(self, request: web.Request) -> web.Response:
        place = request.match_info
        shown = self.answer(place["side"], place["name"], await request.read())
        if shown is None:
            return web.Response(status=404, text="<h2>HTTP ERROR 404 Not Found</h2>")
        return web.Response(body=orjson.dumps(shown), content_type="application/json")

    # ---------------------------------------------------------------- answers

    def _at(self, number: int, head: Block) -> Block | None:
        return self.chain.block_at(number) if number <= head.number else None

    def _block(self, question: Json, head: Block) -> Json:
        named = question.get("id_or_num", "")
        block = self._at(_decimal(named), head) if named else head
        if block is None:
            return {}
        if question.get("detail"):
            return block.json
        return {name: block.json[name] for name in ("blockID", "block_header")}

    def _block_by_number(self, question: Json, head: Block) -> Json:
        block = self._at(_number(question, "num"), head)
        return {} if block is None else block.json

    def _range(self, question: Json, head: Block) -> Json:
        first, end = _number(question, "startNum"), _number(question, "endNum")
        if not 0 <= first < end <= first + RANGE_BLOCKS:
            return {}
        found = self.chain.branch(first, min(end - 1, head.number))
        return {"block": [block.json for block in found]} if found else {}

    def _count(self, question: Json, head: Block) -> Json:
        block = self._at(_number(question, "num"), head)
        return {"count": -1 if block is None else len(block.executed)}

    def _infos(self, question: Json, head: Block) -> list[Json]:
        number = _number(question, "num")
        block = self._at(number, head)
        if block is None or number > head.number - self.without_infos:
            return []
        return [self._kept(info) for info in block.infos]

    def _kept(self, info: Json) -> Json:
        kept = "internal_transactions"
        return info if self.keeps_internal else {k: v for k, v in info.items() if k != kept}

    def _transaction(self, question: Json, head: Block) -> Json:
        return next(
            (
                tx
                for block in self.chain.branch(0, head.number)
                for tx in block.json.get("transactions", [])
                if tx["txID"] == question.get("value")
            ),
            {},
        )

    def _info(self, question: Json, head: Block) -> Json:
        return next(
            (
                self._kept(info)
                for block in self.chain.branch(0, head.number - self.without_infos)
                for info in block.infos
                if info["id"] == question.get("value")
            ),
            {},
        )

    def _pending(self, question: Json, head: Block) -> Json:
        name = question.get("value")
        return next((waiting(tx) for tx in self.chain.waiting if tx.hash.hex() == name), {})

    def _call(self, question: Json, head: Block) -> Json:
        to, selector = _address(question, "contract_address"), question.get("function_selector")
        if to not in self.chain.contracts or not isinstance(selector, str):
            message = b"No contract or not a valid smart contract"
            return {"result": {"code": "CONTRACT_VALIDATE_ERROR", "message": message.hex()}}
        data = keccak(selector.encode())[:4] + _octets(question, "parameter")
        try:
            result, more = self.chain.call(to, data), {}
        except Revert:
            result, more = b"", {"message": b"REVERT opcode executed".hex()}
        return {
            "result": {"result": True, **more},
            "energy_used": 1,
            "constant_result": [result.hex()],
        }

    def _contract(self, question: Json, head: Block) -> Json:
        address = _address(question, "value")
        if address not in self.chain.contracts:
            return {}
        shown = (PREFIX + address).hex()
        return {"bytecode": "fe", "contract_address": shown, "origin_address": shown, "abi": {}}

    def _asset(self, question: Json, head: Block) -> Json:
        number = str(question.get("value", ""))
        found = self.chain.trc10.get(number.encode())
        if found is None:
            return {}
        name, decimals = found[0].encode().hex(), found[1]
        shown: Json = {"name": name, "abbr": name, "id": number, "total_supply": 10**18}
        return shown | ({"precision": decimals} if decimals else {})


def _object(body: bytes) -> Json:
    try:
        question: Any = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise Fault("INVALID JSON") from None
    if not isinstance(question, dict):
        raise Fault("Not a JSON Object")
    return question


def _number(question: Json, name: str) -> int:
    value = question.get(name, 0)
    if not isinstance(value, int):
        raise Fault(f"Not an int64 value : {value}")
    return value


def _decimal(text: object) -> int:
    if not isinstance(text, str) or not text.isdecimal():
        raise Fault("Illegal block number or block id")
    return int(text)


def _octets(question: Json, name: str) -> bytes:
    try:
        return bytes.fromhex(question.get(name, ""))
    except (ValueError, TypeError):
        raise Fault(f"INVALID hex String: {name}") from None


def _address(question: Json, name: str) -> bytes:
    octets = _octets(question, name)
    if len(octets) != 21 or octets[:1] != PREFIX:
        raise Fault(f"Invalid address: {name}")
    return octets[1:]
