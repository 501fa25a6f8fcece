"""All that a node says of one block, as it said it, and what is read out of that.

Pure, and in and out of it is what serialises fast: any process may do it (`evm_prover`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from indexer.chains.answers import Missing
from indexer.chains.evm_decode import Content
from indexer.chains.evm_proof import Execution, bind, prove, prove_bloom, read_log
from indexer.chains.evm_trace import Payment, bind_traces
from indexer.chains.evm_wire import WireBlock, WireReceipt, WireTrace

CALL_DEPTH: Final = 1024  # the EVM's limit; each call nests two levels of JSON
DECODER_DEPTH: Final = 4 * CALL_DEPTH  # for `sys.setrecursionlimit`: JSON decoders count depth

_block: Final = msgspec.json.Decoder(WireBlock)
_receipts: Final = msgspec.json.Decoder(list[WireReceipt | None])
_traces: Final = msgspec.json.Decoder(list[WireTrace])


class Body(msgspec.Struct, frozen=True, array_like=True):
    """A block's answers as JSON text."""

    source: str  # the endpoint's name
    block: memoryview  # with full transactions
    receipts: memoryview
    traces: memoryview | None = None  # None where they are off, or the block is empty

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        traces = 0 if self.traces is None else self.traces.nbytes
        return self.block.nbytes + self.receipts.nbytes + traces


def parsed(body: Body) -> tuple[WireBlock, list[WireReceipt]]:
    """The block and its receipts.

    Missing where a receipt is null; msgspec.DecodeError and RecursionError where the shape is
    another one.
    """
    block, receipts = _block.decode(body.block), _receipts.decode(body.receipts)
    present = [each for each in receipts if each is not None]
    if len(present) < len(receipts):
        raise Missing(f"{body.source} lacks receipts of block {block.hash}")
    return block, present


def read(body: Body, verify: str) -> Content:
    """What the block holds, checked as far as `verify` says; also raises what its checks raise."""
    block, receipts = parsed(body)
    full = verify == "full"
    executions = prove(block, receipts) if full else bind(block, receipts)
    if verify == "bloom":
        prove_bloom(block, [read_log(log) for receipt in receipts for log in receipt.logs])
    payments: list[tuple[Payment, ...]] = []
    if body.traces is not None:
        payments = bind_traces(executions, _traces.decode(body.traces))
    return Content([_kept(each) for each in executions], payments, rebuilt=full)


def _kept(execution: Execution) -> Execution:
    """Without a transaction that moves nothing itself: its input is most of what a block weighs."""
    tx = execution.transaction
    if tx is None or tx.value != "0x0" or tx.mint is not None:
        return execution
    return Execution(execution.hash, None, execution.status, execution.logs)
