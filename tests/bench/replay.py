"""A node that serves a recording: JSON-RPC over HTTP, batches, every result serialised before.

Only ids are written into replies while it serves. It is a node at rest: its tip is the recording's
last block, and what lies `FINAL_DEPTH` below is final.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from tests.bench.http import Answer, Piece
from tests.bench.recording import Recording, Slice

FINAL_DEPTH: Final = 32  # blocks
INVALID_PARAMS: Final = -32602
UNKNOWN_METHOD: Final = -32601
TOO_LARGE: Final = -32003  # geth: "response too large"
NO_CAP: Final = 0


class Replay:
    def __init__(self, recording: Recording, chain_id: int, response_cap: int = NO_CAP) -> None:
        """`response_cap`: bytes of results in one response; what is above it is an error."""
        self._recording = recording
        self._chain_id = orjson.dumps(hex(chain_id))
        self._cap = response_cap
        self._methods: dict[str, Callable[..., list[Piece]]] = {
            "eth_chainId": lambda: [self._chain_id],
            "eth_blockNumber": lambda: [orjson.dumps(hex(recording.tip))],
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBlockReceipts": self._receipts,
            "eth_getLogs": self._logs,
        }

    def answer(self, _head: bytes, body: bytes) -> Sequence[Piece]:
        question = orjson.loads(body)
        if not isinstance(question, list):
            return self._reply(question, 0)
        pieces: list[Piece] = [b"["]
        size = 0
        for call in question:
            reply = self._reply(call, size)
            size += sum(len(piece) for piece in reply)
            pieces += [*reply, b","]
        pieces[-1] = b"]"
        return pieces

    def _reply(self, call: dict[str, Any], size: int) -> list[Piece]:
        start = b'{"jsonrpc":"2.0","id":%b,' % orjson.dumps(call["id"])
        method = self._methods.get(call["method"])
        if method is None:
            return [start, _error(UNKNOWN_METHOD, "the method does not exist")]
        try:
            result = method(*call.get("params", ()))
        except (TypeError, ValueError, KeyError):
            return [start, _error(INVALID_PARAMS, "invalid argument")]
        if self._cap and size + sum(len(piece) for piece in result) > self._cap:
            return [start, _error(TOO_LARGE, "response too large")]
        return [start, b'"result":', *result, b"}"]

    # ---------------------------------------------------------------- methods

    def _block_by_number(self, number: str, full: bool) -> list[Piece]:
        return self._block(self._height(number), full)

    def _block_by_hash(self, block_hash: str, full: bool) -> list[Piece]:
        return self._block(self._recording.heights.get(block_hash), full)

    def _block(self, height: int | None, full: bool) -> list[Piece]:
        if height is None or height > self._recording.tip:
            return [b"null"]
        entry = self._recording.entries[height]
        return [self._recording.read(entry.full if full else entry.header)]

    def _receipts(self, block_hash: str) -> list[Piece]:
        height = self._recording.heights.get(block_hash)
        if height is None:
            return [b"null"]
        return [self._recording.read(self._recording.entries[height].receipts)]

    def _logs(self, query: dict[str, Any]) -> list[Piece]:
        if "blockHash" in query:
            heights = [self._recording.heights[query["blockHash"]]]
        else:
            first, last = self._height(query["fromBlock"]), self._height(query["toBlock"])
            heights = list(range(first, last + 1))
        entries = [self._recording.entries[height] for height in heights]
        return self._array([e.transfers if "topics" in query else e.logs for e in entries])

    def _array(self, slices: Sequence[Slice]) -> list[Piece]:
        pieces: list[Piece] = [b"["]
        for where in slices:
            if where.end > where.start:
                pieces += [self._recording.read(where), b","]
        if len(pieces) > 1:
            pieces.pop()
        return [*pieces, b"]"]

    def _height(self, number: str) -> int:
        tip = self._recording.tip
        named = {"earliest": 0, "latest": tip, "finalized": max(0, tip - FINAL_DEPTH)}
        return named[number] if number in named else int(number, 16)


def replay(directory: Path, chain_id: int, response_cap: int = NO_CAP) -> Answer:
    """What answers as a node does, for `process.Served`."""
    return Replay(Recording(directory), chain_id, response_cap).answer


def _error(code: int, message: str) -> bytes:
    return b'"error":%b}' % orjson.dumps({"code": code, "message": message})
