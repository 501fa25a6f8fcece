"""The floor of catch-up: the bytes that it needs, downloaded and parsed, and nothing else.

A bare aiohttp session asks for the same blocks in batches of the same size, with as many requests
under way; a msgspec decoder of the adapter's own types reads each response in one pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import msgspec

from indexer.chains.evm_wire import WireBlock, WireHeader, WireLog, WireReceipt
from indexer.chains.pipeline import REQUESTS
from indexer.chains.transfer_event import TRANSFER_TOPIC
from tests.bench.process import Clock
from tests.bench.results import Run, check_count

BODIES: Final = "bodies"  # full blocks and their receipts
LOGS: Final = "logs"  # headers, and Transfers by range

BLOCKS_AT_ONCE: Final = {BODIES: 6, LOGS: 20}  # what the adapter's pace comes to


class _Block(msgspec.Struct):
    result: WireBlock


class _Receipts(msgspec.Struct):
    result: list[WireReceipt]


class _HeaderOrLogs(msgspec.Struct):
    result: WireHeader | list[WireLog]


_blocks: Final = msgspec.json.Decoder(list[_Block])
_receipts: Final = msgspec.json.Decoder(list[_Receipts])
_headers_and_logs: Final = msgspec.json.Decoder(list[_HeaderOrLogs])


async def measure(url: str, kind: str, blocks: int) -> Run:
    """Blocks 1..`blocks` from a node."""
    size = BLOCKS_AT_ONCE[kind]
    spans = iter([range(at, min(at + size, blocks + 1)) for at in range(1, blocks + 1, size)])
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as session:
        clock = Clock()
        worker = _bodies if kind == BODIES else _logs
        parsed = await asyncio.gather(*(worker(session, url, spans) for _ in range(REQUESTS)))
        run = Run.of(clock, blocks)
    check_count("blocks", sum(parsed), blocks)
    return run


async def _bodies(session: aiohttp.ClientSession, url: str, spans: Iterator[range]) -> int:
    """Work off spans; returns the blocks that came with their receipts."""
    parsed = 0
    for span in spans:
        asked = [_call("eth_getBlockByNumber", hex(height), True) for height in span]
        blocks = _blocks.decode(await _post(session, url, asked))
        asked = [_call("eth_getBlockReceipts", block.result.hash) for block in blocks]
        parsed += len(_receipts.decode(await _post(session, url, asked)))
    return parsed


async def _logs(session: aiohttp.ClientSession, url: str, spans: Iterator[range]) -> int:
    """Work off spans; returns the headers that came with the spans' logs."""
    parsed = 0
    for span in spans:
        between = {"fromBlock": hex(span[0]), "toBlock": hex(span[-1])}
        asked = [_call("eth_getBlockByNumber", hex(height), False) for height in span]
        asked.append(_call("eth_getLogs", between | {"topics": [["0x" + TRANSFER_TOPIC.hex()]]}))
        parsed += len(_headers_and_logs.decode(await _post(session, url, asked))) - 1
    return parsed


def _call(method: str, *params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def _post(session: aiohttp.ClientSession, url: str, calls: list[dict[str, Any]]) -> bytes:
    async with session.post(url, data=msgspec.json.encode(calls)) as response:
        return await response.read()
