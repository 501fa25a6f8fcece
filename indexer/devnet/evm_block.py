"""Sealing a block of the simulated chain: real roots, blooms and hash over what was executed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import rlp

from indexer.chains.evm_proof import Log, bloom
from indexer.chains.evm_trie import keccak, trie_root
from indexer.devnet import evm_json
from indexer.devnet.evm_json import HEADER_FIELDS, Json, text
from indexer.devnet.evm_machine import Frame, Movement
from indexer.devnet.evm_wallet import LEGACY, Transaction

GAS_LIMIT: Final = 60_000_000  # gas a block may use
FEE_CHANGE: Final = 8  # the base fee moves by at most an eighth a block (EIP-1559)

_NO_UNCLES: Final = keccak(rlp.encode([]))
_NO_REQUESTS: Final = hashlib.sha256().digest()  # EIP-7685 over an empty list


@dataclass(frozen=True, slots=True)
class Executed:
    """A transaction and what it did in one block."""

    transaction: Transaction
    status: bool
    gas: int
    logs: list[Log]
    frame: Frame
    movements: list[Movement]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A validator's withdrawal (EIP-4895): a balance rises without a transaction."""

    index: int
    validator: int
    address: bytes
    gwei: int

    def json(self) -> Json:
        return {
            "index": text(self.index),
            "validatorIndex": text(self.validator),
            "address": text(self.address),
            "amount": text(self.gwei),
        }

    def encoded(self) -> bytes:
        return bytes(rlp.encode([self.index, self.validator, self.address, self.gwei]))


@dataclass(frozen=True, slots=True)
class Draft:
    """A block before it is sealed."""

    number: int
    parent: bytes
    time: int  # Unix seconds
    miner: bytes
    randomness: bytes  # 32 bytes: `mixHash`; makes siblings differ
    beacon_root: bytes
    base_fee: int  # wei
    state_root: bytes
    executed: Sequence[Executed]
    withdrawals: Sequence[Withdrawal]


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: bytes
    parent: bytes
    time: int
    base_fee: int
    gas_used: int
    state_root: bytes
    state_mark: int  # the state's journal right after it
    executed: Sequence[Executed]
    json: Json  # with full transactions
    receipts: list[Json]
    traces: list[Json]

    def next_base_fee(self) -> int:
        target = GAS_LIMIT // 2
        change = self.base_fee * (self.gas_used - target) // target // FEE_CHANGE
        return max(1, self.base_fee + change)


def seal(draft: Draft, state_mark: int) -> Block:
    """Compute roots, bloom and hash, and render every answer that a node gives about the block."""
    gas_used = sum(each.gas for each in draft.executed)
    fields = _header(draft, gas_used)
    encoded = rlp.encode(list(fields.values()))
    block_hash = keccak(encoded)
    body = [_in_body(each.transaction) for each in draft.executed]
    withdrawn = [rlp.decode(each.encoded()) for each in draft.withdrawals]
    transactions, receipts, traces = _render(draft, block_hash)
    json: Json = {"hash": text(block_hash)} | {name: text(value) for name, value in fields.items()}
    json |= {
        "size": text(len(rlp.encode([rlp.decode(encoded), body, [], withdrawn]))),
        "uncles": [],
        "transactions": transactions,
        "withdrawals": [each.json() for each in draft.withdrawals],
    }
    return Block(
        number=draft.number,
        hash=block_hash,
        parent=draft.parent,
        time=draft.time,
        base_fee=draft.base_fee,
        gas_used=gas_used,
        state_root=draft.state_root,
        state_mark=state_mark,
        executed=draft.executed,
        json=json,
        receipts=receipts,
        traces=traces,
    )


def _header(draft: Draft, gas_used: int) -> dict[str, int | bytes]:
    """The header's fields by name, in the order of HEADER_FIELDS."""
    logs = [log for each in draft.executed for log in each.logs]
    values = (
        draft.parent,
        _NO_UNCLES,
        draft.miner,
        draft.state_root,
        trie_root([each.transaction.raw for each in draft.executed]),
        trie_root(_receipts(draft.executed)),
        bloom(logs),
        0,
        draft.number,
        GAS_LIMIT,
        gas_used,
        draft.time,
        b"depositd devnet",
        draft.randomness,
        bytes(8),
        draft.base_fee,
        trie_root([each.encoded() for each in draft.withdrawals]),
        0,
        0,
        draft.beacon_root,
        _NO_REQUESTS,
    )
    return dict(zip(HEADER_FIELDS, values, strict=True))


def _receipts(executed: Sequence[Executed]) -> list[bytes]:
    """What the receipts root commits to."""
    encoded, gas = [], 0
    for each in executed:
        gas += each.gas
        logs = [[log.address, list(log.topics), log.data] for log in each.logs]
        body = rlp.encode([int(each.status), gas, bloom(each.logs), logs])
        kind = each.transaction.kind
        encoded.append(bytes(body) if kind == LEGACY else bytes([kind]) + body)
    return encoded


def _in_body(tx: Transaction) -> object:
    """A legacy transaction stands in the body as a list, a typed one as bytes."""
    return rlp.decode(tx.raw) if tx.kind == LEGACY else tx.raw


def _render(draft: Draft, block_hash: bytes) -> tuple[list[Json], list[Json], list[Json]]:
    transactions, receipts, traces = [], [], []
    gas = logs = 0
    for index, each in enumerate(draft.executed):
        tx = each.transaction
        where = evm_json.place(block_hash, draft.number, tx, index)
        gas += each.gas
        transactions.append(evm_json.transaction(tx, where, draft.base_fee))
        receipts.append(
            evm_json.receipt(
                tx,
                where,
                status=each.status,
                gas=each.gas,
                cumulative_gas=gas,
                price=tx.price(draft.base_fee),
                logs=each.logs,
                first_log=logs,
            )
        )
        frame = evm_json.frame(each.frame, tx.gas, each.gas)
        traces.append({"txHash": text(tx.hash), "result": frame})
        logs += len(each.logs)
    return transactions, receipts, traces
