"""EVM blocks for tests: recorded mainnet ones, and small ones made by hand."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from indexer.chains import NATIVE, Transfer
from indexer.chains.evm_decode import Content, transfers
from indexer.chains.evm_proof import Execution, Log, prove
from indexer.chains.evm_trace import Payment, bind_traces
from indexer.chains.evm_wire import WireBlock, WireReceipt, WireTrace, WireTransaction
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic

USDT = bytes.fromhex("dac17f958d2ee523a2206206994597c13d831ec7")
USDC = bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48")
TOKEN = b"\x70" * 20
ALICE, BOB, CAROL = b"\xa1" * 20, b"\xb0" * 20, b"\xca" * 20

BLOCK = "eth_getBlockByNumber"
RECEIPTS = "eth_getBlockReceipts"
FRAMES = "debug_traceBlock_callTracer_frames"


class Watching:
    """A watch set for tests: some assets, and all or some recipients."""

    def __init__(self, assets: Collection[bytes], keys: Collection[bytes] | None = None) -> None:
        self.assets = frozenset(assets)
        self._keys = keys

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        return [self._keys is None or key in self._keys for key in keys]


def recorded(name: str = "*") -> list[Any]:
    """Parameters: files of recorded mainnet blocks, skipped where there are none."""
    root = os.environ.get("CHAIN_FIXTURES")
    if root is None:
        skip = pytest.mark.skip(reason="CHAIN_FIXTURES names no folder of recorded blocks")
        return [pytest.param(None, marks=skip, id="none")]
    return [
        pytest.param(path, id=path.name.split(".")[0].removeprefix("mainnet_"))
        for path in sorted((Path(root) / "ethereum").glob(f"mainnet_{name}_block_receipts*"))
    ]


def load(path: Path) -> dict[str, Any]:
    """A recorded block: JSON objects by the method that answers them."""
    with gzip.open(path) as stored:
        answers: dict[str, Any] = json.load(stored)
    return answers


def simulated() -> dict[str, Any]:
    """The same of a simulated block with transactions of several kinds, and withdrawals."""
    chain = SimulatedChain(21)
    traffic = EvmTraffic(chain, [chain.wallet("watched").address], Random(21))
    for _ in range(12):
        traffic.step()
    node = EvmNode(chain)
    busiest = max(chain.branch(), key=lambda block: len(block.executed))

    def ask(method: str, *params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return json.loads(json.dumps(node.answer(call)["result"]))

    name = "0x" + busiest.hash.hex()
    traces = ask("debug_traceBlockByHash", name, {"tracer": "callTracer"})
    return {
        BLOCK: ask(BLOCK, hex(busiest.number), True),
        RECEIPTS: ask(RECEIPTS, name),
        FRAMES: [trace["result"] for trace in traces],
    }


def read(answers: dict[str, Any]) -> Content:
    """What the adapter makes of a node's answers; raises what it raises."""
    block = msgspec.convert(answers[BLOCK], WireBlock)
    receipts = msgspec.convert(answers[RECEIPTS], list[WireReceipt])
    executions = prove(block, receipts)
    payments: Sequence[Sequence[Payment]] = []
    if FRAMES in answers:
        traces = [{"result": frame} for frame in answers[FRAMES]]
        payments = bind_traces(executions, msgspec.convert(traces, list[WireTrace]))
    return Content(executions, payments, rebuilt=True)


def transaction(**fields: Any) -> WireTransaction:
    """A wire transaction whose interesting fields are given, in the node's own spelling."""
    given = {
        "hash": "0x" + "11" * 32,
        "blockHash": "0x" + "22" * 32,
        "blockNumber": "0x1",
        "transactionIndex": "0x0",
        "from": "0x" + ALICE.hex(),
        "to": "0x" + BOB.hex(),
        "value": "0x0",
        "gas": "0x5208",
        "input": "0x",
        **fields,
    }
    return msgspec.convert(given, WireTransaction)


def execution(
    *logs: Log,
    status: bool | None = True,
    tx: WireTransaction | None = None,
    created: bytes | None = None,
) -> Execution:
    tx = tx or transaction()
    return Execution(bytes.fromhex(tx.hash[2:]), tx, status, logs, created)


def word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def transfer_log(
    recipient: bytes, units: int, *, sender: bytes = ALICE, token: bytes = TOKEN
) -> Log:
    return Log(token, (TRANSFER_TOPIC, word(sender), word(recipient)), word(units))


def decode(
    *executions: Execution,
    payments: Sequence[Sequence[Payment]] = (),
    assets: Collection[bytes] = (NATIVE, TOKEN),
    keys: Collection[bytes] | None = None,
    rebuilt: bool = False,
) -> list[Transfer]:
    content = Content(executions, payments, rebuilt)
    return transfers(content, Watching(assets, keys))
