"""What the simulated node says in JSON: the shapes of geth, key for key."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from indexer.chains.evm_proof import Log, bloom
from indexer.devnet.evm_machine import CALL_GAS, Frame
from indexer.devnet.evm_wallet import DYNAMIC_FEE, Transaction

Json: TypeAlias = dict[str, Any]

# Header fields in the order in which the block hash commits to them.
HEADER_FIELDS: Final = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
    "baseFeePerGas",
    "withdrawalsRoot",
    "blobGasUsed",
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",
)


def text(value: int | bytes) -> str:
    """A quantity (shortest hex) or data (every byte)."""
    return hex(value) if isinstance(value, int) else "0x" + value.hex()


def place(block_hash: bytes, number: int, tx: Transaction, index: int) -> Json:
    """The fields by which receipts and logs name where they stand."""
    return {
        "blockHash": text(block_hash),
        "blockNumber": text(number),
        "transactionHash": text(tx.hash),
        "transactionIndex": text(index),
    }


def transaction(tx: Transaction, where: Json, base_fee: int) -> Json:
    shown: Json = {
        "type": text(tx.kind),
        "chainId": text(tx.chain_id),
        "nonce": text(tx.nonce),
        "gas": text(tx.gas),
        "to": text(tx.to),
        "value": text(tx.value),
        "input": text(tx.data),
        "r": text(tx.r),
        "s": text(tx.s),
        "v": text(tx.v),
        "hash": text(tx.hash),
        "from": text(tx.sender),
        "gasPrice": text(tx.price(base_fee)),
        "blockHash": where["blockHash"],
        "blockNumber": where["blockNumber"],
        "transactionIndex": where["transactionIndex"],
    }
    if tx.kind == DYNAMIC_FEE:
        shown |= {
            "accessList": [],
            "maxFeePerGas": text(tx.max_price),
            "maxPriorityFeePerGas": text(tx.tip),
            "yParity": text(tx.v),
        }
    return shown


def waiting(tx: Transaction) -> Json:
    """A transaction that is in no block."""
    nowhere = dict.fromkeys(("blockHash", "blockNumber", "transactionIndex"))
    return transaction(tx, nowhere, 0)


def receipt(
    tx: Transaction,
    where: Json,
    *,
    status: bool,
    gas: int,
    cumulative_gas: int,
    price: int,
    logs: list[Log],
    first_log: int,
) -> Json:
    return where | {
        "type": text(tx.kind),
        "from": text(tx.sender),
        "to": text(tx.to),
        "contractAddress": None,
        "status": text(int(status)),
        "gasUsed": text(gas),
        "cumulativeGasUsed": text(cumulative_gas),
        "effectiveGasPrice": text(price),
        "logsBloom": text(bloom(logs)),
        "logs": [_log(log, where, index) for index, log in enumerate(logs, first_log)],
    }


def _log(log: Log, where: Json, index: int) -> Json:
    return {
        "address": text(log.address),
        "topics": [text(topic) for topic in log.topics],
        "data": text(log.data),
        **where,
        "logIndex": text(index),
        "removed": False,
    }


def frame(call: Frame, gas: int = CALL_GAS, gas_used: int = CALL_GAS) -> Json:
    """A call as geth's `callTracer` shows it: absent keys are absent, not null."""
    shown: Json = {
        "type": call.type,
        "from": text(call.sender),
        "to": text(call.to),
        "gas": text(gas),
        "gasUsed": text(gas_used),
        "input": text(call.data),
        "value": text(call.value),
    }
    if call.output:
        shown["output"] = text(call.output)
    if call.error is not None:
        shown["error"] = call.error
    if call.calls:
        shown["calls"] = [frame(inner) for inner in call.calls]
    return shown
