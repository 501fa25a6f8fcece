"""Proof that a node's answers are the block that its hash names: nothing left out, nothing altered.

header hash → transactions root → every transaction's bytes, hash and order
            → receipts root     → every status and log, bound to its transaction by position
            → blooms, withdrawals root

A proof says that an answer is *consistent with a hash*, not that the hash is canonical: that is
what `quorum` and the parent links are for (P62). Never read, because nothing commits to them: a
receipt's `gasUsed` and `effectiveGasPrice`, a transaction's `gasPrice` (types 2 to 4). A `from` is
compared but not believed: where a signer is used, it is recovered. Not provable here: Arbitrum's
own transaction types, Polygon's state-sync receipts before Madhugiri, Avalanche's header: such
networks are followed with another `verify`.

Sources: the Yellow Paper 4.3; EIPs 658, 1559, 2718, 4788, 4844, 4895, 7685; for type 0x7e
ethereum-optimism/specs `specs/protocol/deposits.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from indexer.chains.answers import NotProved
from indexer.chains.evm_transaction import OP_DEPOSIT, created_address, raw_transaction
from indexer.chains.evm_trie import keccak, rlp_bytes, rlp_int, rlp_list, trie_root
from indexer.chains.evm_wire import (
    WireBlock,
    WireHeader,
    WireLog,
    WireReceipt,
    WireTransaction,
    Withdrawal,
    octets,
    quantity,
    sized,
)

BLOOM_BYTES: Final = 256
BLOOM_CACHE: Final = 8192  # addresses and topics whose bloom bits are remembered: about 4 MB

# In the order of the header's list; those after `nonce` came with forks and may be absent.
_FIRST_FIELDS: Final = (
    ("parent_hash", "parentHash"),
    ("sha3_uncles", "sha3Uncles"),
    ("miner", "miner"),
    ("state_root", "stateRoot"),
    ("transactions_root", "transactionsRoot"),
    ("receipts_root", "receiptsRoot"),
    ("logs_bloom", "logsBloom"),
    ("difficulty", "difficulty"),
    ("number", "number"),
    ("gas_limit", "gasLimit"),
    ("gas_used", "gasUsed"),
    ("timestamp", "timestamp"),
    ("extra_data", "extraData"),
    ("mix_hash", "mixHash"),
    ("nonce", "nonce"),
)
_LATER_FIELDS: Final = (
    "base_fee_per_gas",
    "withdrawals_root",
    "blob_gas_used",
    "excess_blob_gas",
    "parent_beacon_block_root",
    "requests_hash",
)
_NUMBERS: Final = {
    "difficulty",
    "number",
    "gas_limit",
    "gas_used",
    "timestamp",
    "base_fee_per_gas",
    "blob_gas_used",
    "excess_blob_gas",
}


class Log(msgspec.Struct, frozen=True, gc=False):
    """One event: exactly the bytes that the receipts root commits to."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


class Execution(msgspec.Struct, frozen=True, gc=False):
    """A transaction and what became of it."""

    hash: bytes
    transaction: WireTransaction | None  # None where only logs were asked for
    status: bool | None  # None before Byzantium: the receipt doesn't say (P2)
    logs: tuple[Log, ...]
    created: bytes | None = None  # the new contract, as the receipt says


def prove(block: WireBlock, receipts: Sequence[WireReceipt]) -> list[Execution]:
    """The block's executions, if all of it matches its hash; else NotProved names what doesn't."""
    _match("header", block, header_hash(block), block.hash)
    raw = [raw_transaction(tx) for tx in block.transactions]
    _match("transactions root", block, trie_root(raw), block.transactions_root)
    for tx, data in zip(block.transactions, raw, strict=True):
        _match(f"transaction {tx.transaction_index}", block, keccak(data), tx.hash)
    _prove_withdrawals(block)
    executions = bind(block, receipts)
    blooms = [_bloom_bits(execution.logs) for execution in executions]
    encoded = [
        _encode_receipt(receipt, execution.logs, bits)
        for receipt, execution, bits in zip(receipts, executions, blooms, strict=True)
    ]
    _match("receipts root", block, trie_root(encoded), block.receipts_root)
    for receipt, bits in zip(receipts, blooms, strict=True):
        if receipt.logs_bloom is not None:
            where = f"bloom of receipt {receipt.transaction_index}"
            _match(where, block, _to_bytes(bits), receipt.logs_bloom)
    _match_bloom(block, blooms)
    return executions


def prove_bloom(header: WireHeader, logs: Iterable[Log]) -> None:
    """That the logs fill the header's bloom. An omission may pass: half do at 700 logs a block."""
    _match_bloom(header, [_bloom_bits(logs)])


def bind(block: WireBlock, receipts: Sequence[WireReceipt]) -> list[Execution]:
    """Each transaction with its receipt, if all references between them and the block agree.

    Roots commit to contents and order only; hashes, indexes and addresses in receipts are claims.
    """
    if len(receipts) != len(block.transactions):
        raise NotProved(
            f"block {block.hash} has {len(block.transactions)} transactions "
            f"but {len(receipts)} receipts"
        )
    executions: list[Execution] = []
    logs_before = 0
    for index, (tx, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        _bind_transaction(block, tx, index)
        _bind_receipt(tx, receipt)
        logs = tuple(bind_logs(tx, receipt.logs, logs_before))
        logs_before += len(logs)
        status = None if receipt.status is None else bool(quantity(receipt.status))
        created = receipt.contract_address
        executions.append(
            Execution(
                hash=sized(tx.hash, 32),
                transaction=tx,
                status=status,
                logs=logs,
                created=None if created is None else sized(created, 20),
            )
        )
    return executions


def bind_logs(tx: WireTransaction, logs: Iterable[WireLog], first_index: int) -> Iterator[Log]:
    """The logs of one transaction; block-wide indexes must count on from `first_index` (P22)."""
    place = (tx.hash, tx.transaction_index, tx.block_hash, tx.block_number)
    for log_index, log in enumerate(logs, first_index):
        said = (log.transaction_hash, log.transaction_index, log.block_hash, log.block_number)
        if said != place:
            what = f"log {log_index} of transaction {tx.hash}"
            names = ("transactionHash", "transactionIndex", "blockHash", "blockNumber")
            for name, one, other in zip(names, said, place, strict=True):
                _same(what, name, one, other)
        if quantity(log.log_index) != log_index or log.removed:
            raise NotProved(
                f"log {log_index} of transaction {tx.hash} has the logIndex {log.log_index[:80]}"
                f"{' and is marked as removed' if log.removed else ''}"
            )
        yield read_log(log)


def read_log(log: WireLog) -> Log:
    topics = tuple([sized(topic, 32) for topic in log.topics])
    return Log(sized(log.address, 20), topics, octets(log.data))


def header_hash(header: WireHeader) -> bytes:
    """The block hash that the header's fields give."""
    return keccak(header_bytes(header))


def header_bytes(header: WireHeader) -> bytes:
    """RLP of the header's fields.

    A field that a fork left out before a later one counts as empty, as in geth. A header with
    fields that are unknown here hashes to something else and so fails its proof.
    """
    fields: list[bytes] = []
    for attribute, name in _FIRST_FIELDS:
        text = getattr(header, attribute)
        if text is None:
            raise NotProved(f"block {header.hash} lacks {name}: its hash can't be checked")
        fields.append(_field(attribute, text))
    later = [(attribute, getattr(header, attribute)) for attribute in _LATER_FIELDS]
    while later and later[-1][1] is None:
        later.pop()
    fields += [b"\x80" if text is None else _field(attribute, text) for attribute, text in later]
    return rlp_list(fields)


def transactions_root(transactions: Iterable[WireTransaction]) -> bytes:
    return trie_root([raw_transaction(tx) for tx in transactions])


def receipts_root(receipts: Iterable[WireReceipt]) -> bytes:
    return trie_root([receipt_bytes(receipt) for receipt in receipts])


def receipt_bytes(receipt: WireReceipt) -> bytes:
    """What the receipts root commits to."""
    logs = [read_log(log) for log in receipt.logs]
    return _encode_receipt(receipt, logs, _bloom_bits(logs))


def withdrawals_root(withdrawals: Iterable[Withdrawal]) -> bytes:
    return trie_root(
        [
            rlp_list(
                (
                    rlp_int(quantity(each.index)),
                    rlp_int(quantity(each.validator_index)),
                    rlp_bytes(octets(each.address)),
                    rlp_int(quantity(each.amount)),
                )
            )
            for each in withdrawals
        ]
    )


def bloom(logs: Iterable[Log]) -> bytes:
    """The 2048-bit filter over the logs' addresses and topics."""
    return _to_bytes(_bloom_bits(logs))


@lru_cache(maxsize=BLOOM_CACHE)
def _item_bits(item: bytes) -> int:
    digest = keccak(item)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def _bloom_bits(logs: Iterable[Log]) -> int:
    bits = 0
    for log in logs:
        bits |= _item_bits(log.address)
        for topic in log.topics:
            bits |= _item_bits(topic)
    return bits


def _to_bytes(bits: int) -> bytes:
    return bits.to_bytes(BLOOM_BYTES, "big")


def _encode_receipt(receipt: WireReceipt, logs: Sequence[Log], bits: int) -> bytes:
    """What the receipts root commits to; a typed one is prefixed, not wrapped (EIP-2718)."""
    if receipt.status is not None:
        outcome = rlp_int(quantity(receipt.status))
    elif receipt.root is not None:
        outcome = rlp_bytes(octets(receipt.root))
    else:
        raise NotProved(f"receipt of {receipt.transaction_hash} has neither status nor root")
    body = [
        outcome,
        rlp_int(quantity(receipt.cumulative_gas_used)),
        rlp_bytes(_to_bytes(bits)),
        rlp_list([_encode_log(log) for log in logs]),
    ]
    kind = quantity(receipt.type)
    if kind == OP_DEPOSIT and receipt.deposit_receipt_version is not None:
        # Before Canyon nodes show depositNonce, but no root commits to it (P51).
        body.append(rlp_int(quantity(receipt.deposit_nonce or "0x0")))
        body.append(rlp_int(quantity(receipt.deposit_receipt_version)))
    return rlp_list(body) if kind == 0 else bytes([kind]) + rlp_list(body)


def _encode_log(log: Log) -> bytes:
    topics = rlp_list([b"\xa0" + topic for topic in log.topics])
    return rlp_list((b"\x94" + log.address, topics, rlp_bytes(log.data)))


def _field(attribute: str, text: str) -> bytes:
    return rlp_int(quantity(text)) if attribute in _NUMBERS else rlp_bytes(octets(text))


def _prove_withdrawals(block: WireBlock) -> None:
    # An empty list proves nothing and hides nothing that is read; OP-stack chains since Isthmus
    # keep another root in the header's field.
    if block.withdrawals:
        root = withdrawals_root(block.withdrawals)
        _match("withdrawals root", block, root, block.withdrawals_root)


def _bind_transaction(block: WireHeader, tx: WireTransaction, index: int) -> None:
    what = f"transaction {tx.hash}"
    sized(tx.sender, 20)  # these three are read by decoders, which don't fail
    quantity(tx.value)
    if tx.to is not None:
        sized(tx.to, 20)
    _same(what, "blockHash", tx.block_hash, block.hash)
    _same(what, "blockNumber", tx.block_number, block.number)
    if quantity(tx.transaction_index) != index:
        raise NotProved(f"{what} stands at {index} but says {tx.transaction_index}")


def _bind_receipt(tx: WireTransaction, receipt: WireReceipt) -> None:
    what = f"receipt of transaction {tx.hash}"
    _same(what, "transactionHash", receipt.transaction_hash, tx.hash)
    _same(what, "transactionIndex", receipt.transaction_index, tx.transaction_index)
    _same(what, "blockHash", receipt.block_hash, tx.block_hash)
    _same(what, "blockNumber", receipt.block_number, tx.block_number)
    _same(what, "type", receipt.type, tx.type)
    _same(what, "from", receipt.sender, tx.sender)
    _same(what, "to", receipt.to or "", tx.to or "")
    _bind_creation(what, tx, receipt)


def _bind_creation(what: str, tx: WireTransaction, receipt: WireReceipt) -> None:
    said = receipt.contract_address
    if tx.to is not None:
        if said is not None:
            raise NotProved(f"{what} says that it created a contract, which it did not")
        return
    if said is None:
        if receipt.status is not None and quantity(receipt.status) == 1:
            raise NotProved(f"{what} doesn't say which contract it created")
        return  # some nodes name the address of a failed creation, some don't
    nonce = receipt.deposit_nonce or tx.nonce  # an OP-stack deposit's own bytes have none
    if octets(said) != created_address(sized(tx.sender, 20), quantity(nonce)):
        raise NotProved(f"{what} says that it created {said[:80]}, which it can't have")


def _same(what: str, name: str, one: str, other: str) -> None:
    """Hex text of one value, said twice by one node; case is a matter of taste."""
    if one != other and one.lower() != other.lower():
        raise NotProved(f"{what} has the {name} {one[:80]}, not {other[:80]}")


def _match(what: str, header: WireHeader, computed: bytes, said: str | None) -> None:
    if said is None or octets(said) != computed:
        raise NotProved(
            f"block {header.hash} (height {quantity(header.number)}) does not prove: "
            f"its {what} gives 0x{computed.hex()[:64]}, the node says {(said or 'nothing')[:66]}"
        )


def _match_bloom(header: WireHeader, blooms: Sequence[int]) -> None:
    bits = 0
    for each in blooms:
        bits |= each
    _match("logs bloom", header, _to_bytes(bits), header.logs_bloom)
