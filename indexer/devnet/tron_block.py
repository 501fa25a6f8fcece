"""Sealing a block of the simulated TRON chain: real ids, root and signature over what was done.

The JSON of blocks and infos is shaped as java-tron's: what is empty or 0 is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

from indexer.chains.evm_proof import Log
from indexer.chains.evm_trie import keccak
from indexer.chains.tron_codec import PREFIX
from indexer.chains.tron_proof import (
    header_bytes,
    header_id,
    merkle_root,
    result_bytes,
    transaction_bytes,
)
from indexer.chains.tron_wire import WireHeaderData, WireResult
from indexer.devnet.evm_machine import Frame, Movement
from indexer.devnet.tron_wallet import TRIGGER, Transaction, Wallet

VERSION: Final = 32  # of blocks, in 2026
SUCCESS: Final = "SUCCESS"
CALL_NOTE: Final = b"call".hex()
ENERGY_FEE: Final = 100  # sun for a unit
BYTE_FEE: Final = 1000  # sun for a byte

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction and what it did in one block."""

    transaction: Transaction
    result: str  # `contractRet`
    energy: int
    logs: list[Log]
    frame: Frame | None  # of contracts
    movements: list[Movement]


@dataclass(frozen=True, slots=True)
class Draft:
    """A block before it is sealed."""

    number: int
    parent: bytes
    time: int  # Unix seconds
    witness: Wallet
    executed: Sequence[Executed]


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: bytes  # its id
    parent: bytes
    time: int  # Unix seconds
    state_mark: int  # the state's journal right after it
    executed: Sequence[Executed]
    json: Json  # with its transactions
    infos: list[Json]


def seal(draft: Draft, state_mark: int) -> Block:
    """Compute ids, root and signature, and render every answer that a node gives of the block."""
    root = merkle_root([_leaf(each) for each in draft.executed])
    data = WireHeaderData(
        timestamp=draft.time * 1000,
        txTrieRoot=root.hex(),
        parentHash=draft.parent.hex(),
        number=draft.number,
        witness_address=(PREFIX + draft.witness.address).hex(),
        version=VERSION,
    )
    block_id = header_id(data)
    json: Json = {
        "blockID": block_id.hex(),
        "block_header": {
            "raw_data": _header(data),
            "witness_signature": draft.witness.seal(sha256(header_bytes(data)).digest()).hex(),
        },
    }
    if draft.executed:
        json["transactions"] = [_transaction(each) for each in draft.executed]
    return Block(
        number=draft.number,
        hash=block_id,
        parent=draft.parent,
        time=draft.time,
        state_mark=state_mark,
        executed=draft.executed,
        json=json,
        infos=[_info(each, draft) for each in draft.executed],
    )


def _leaf(each: Executed) -> bytes:
    result = result_bytes(WireResult(contractRet=each.result))
    tx = each.transaction
    return sha256(transaction_bytes(tx.raw, [tx.signature], [result])).digest()


def _header(data: WireHeaderData) -> Json:
    shown = {
        "number": data.number,
        "txTrieRoot": data.txTrieRoot,
        "witness_address": data.witness_address,
        "parentHash": data.parentHash,
        "version": data.version,
        "timestamp": data.timestamp,
    }
    return {name: value for name, value in shown.items() if value}


def _transaction(each: Executed) -> Json:
    return {"ret": [{"contractRet": each.result}], **waiting(each.transaction)}


def waiting(tx: Transaction) -> Json:
    """A transaction as it is sent: in no block."""
    return {
        "signature": [tx.signature.hex()],
        "txID": tx.hash.hex(),
        "raw_data": tx.shown,
        "raw_data_hex": tx.raw.hex(),
    }


def _info(each: Executed, draft: Draft) -> Json:
    """What became of a transaction, as `gettransactioninfobyblocknum` says it."""
    tx, frame = each.transaction, each.frame
    net = len(tx.raw) + len(tx.signature)
    shown: Json = {
        "id": tx.hash.hex(),
        "blockNumber": draft.number,
        "blockTimeStamp": draft.time * 1000,
        "contractResult": ["" if frame is None else frame.output.hex()],
        "receipt": {"net_usage": net},
    }
    if tx.kind != TRIGGER or frame is None:
        return shown
    shown["fee"] = each.energy * ENERGY_FEE + net * BYTE_FEE
    shown["contract_address"] = (PREFIX + tx.to).hex()
    shown["receipt"] = {
        "energy_fee": each.energy * ENERGY_FEE,
        "energy_usage_total": each.energy,
        "net_fee": net * BYTE_FEE,
        "result": each.result,
    }
    if each.logs:
        shown["log"] = [_log(log) for log in each.logs]
    if each.result != SUCCESS:
        shown["result"] = "FAILED"
        shown["resMessage"] = (frame.error or "").encode().hex()
    internal = list(_internal(frame, rejected=frame.error is not None))
    if internal:
        shown["internal_transactions"] = [
            {"hash": keccak(tx.hash + at.to_bytes(8, "big")).hex(), **call}
            for at, call in enumerate(internal)
        ]
    return shown


def _log(log: Log) -> Json:
    shown: Json = {"address": log.address.hex(), "topics": [topic.hex() for topic in log.topics]}
    return shown | ({"data": log.data.hex()} if log.data else {})


def _internal(frame: Frame, *, rejected: bool) -> Iterator[Json]:
    """The calls below a frame, in their order; what failed is rejected with all below it.

    A DELEGATECALL is one of the caller to itself, without value.
    """
    for call in frame.calls:
        borrowed = call.type == "DELEGATECALL"
        refused = rejected or call.error is not None
        shown: Json = {
            "caller_address": (PREFIX + call.sender).hex(),
            "transferTo_address": (PREFIX + (call.sender if borrowed else call.to)).hex(),
            "callValueInfo": [{"callValue": call.value} if call.value and not borrowed else {}],
            "note": CALL_NOTE,
        }
        yield shown | ({"rejected": True} if refused else {})
        yield from _internal(call, rejected=refused)
