"""Proof that a node's answers are the block that its hash names: nothing left out, nothing altered.

header hash → transactions root → every transaction's bytes, hash and order
            → receipts root     → every status, log and bloom, bound to its transaction by position
            → withdrawals root

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

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from indexer.chains import evm_rlp as rlp
from indexer.chains.answers import Malformed, NotProved
from indexer.chains.evm_transaction import OP_DEPOSIT, created_address, raw_transaction
from indexer.chains.evm_trie import keccak, trie_root
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
from indexer.chains.transfer_event import TRANSFER_TOPIC

BLOOM_BYTES: Final = 256
_PLACE: Final = ("transactionHash", "transactionIndex", "blockHash", "blockNumber")
ADDRESS_DIGITS: Final = 40
TOPIC_DIGITS: Final = 64
_TRANSFER: Final = TRANSFER_TOPIC.hex()
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
    # None where only logs were asked for, or it moves nothing by itself: `evm_body`.
    transaction: WireTransaction | None
    status: bool | None  # None before Byzantium: the receipt doesn't say (P2)
    logs: tuple[Log, ...]  # its `Transfer` events: nothing else is ever read
    created: bytes | None = None  # the new contract, as the receipt says


def prove(block: WireBlock, receipts: Sequence[WireReceipt]) -> list[Execution]:
    """The block's executions, if all of it matches its hash; else NotProved names what doesn't."""
    _match("header", block, header_hash(block), block.hash)
    raw = [raw_transaction(tx) for tx in block.transactions]
    _match("transactions root", block, trie_root(raw), block.transactions_root)
    for tx, data in zip(block.transactions, raw, strict=True):
        _match(f"transaction {tx.transaction_index}", block, keccak(data), tx.hash)
    _prove_withdrawals(block)
    _match("receipts root", block, receipts_root(receipts), block.receipts_root)
    return bind(block, receipts)


def prove_bloom(header: WireHeader, logs: Iterable[Log]) -> None:
    """That the logs fill the header's bloom. An omission may pass: half do at 700 logs a block."""
    _match("logs bloom", header, bloom(logs), header.logs_bloom)


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
        bind_logs(tx, receipt.logs, logs_before)
        logs_before += len(receipt.logs)
        created = receipt.contract_address
        executions.append(
            Execution(
                hash=sized(tx.hash, 32),
                transaction=tx,
                status=None if receipt.status is None else bool(quantity(receipt.status)),
                logs=transfer_logs(receipt.logs),
                created=None if created is None else sized(created, 20),
            )
        )
    return executions


def bind_logs(tx: WireTransaction, logs: Iterable[WireLog], first_index: int) -> None:
    """That the logs are the transaction's; block-wide indexes count on from `first_index` (P22)."""
    place = (tx.hash, tx.transaction_index, tx.block_hash, tx.block_number)
    for log_index, log in enumerate(logs, first_index):
        said = (log.transaction_hash, log.transaction_index, log.block_hash, log.block_number)
        if said != place:
            _agree(f"log {log_index} of transaction {tx.hash}", _PLACE, said, place)
        if log.removed or not _is(log.log_index, log_index):
            raise NotProved(
                f"log {log_index} of transaction {tx.hash} has the logIndex {log.log_index[:80]}"
                f"{' and is marked as removed' if log.removed else ''}"
            )


def transfer_logs(logs: Iterable[WireLog]) -> tuple[Log, ...]:
    """Those whose first topic is Transfer, of whatever contract."""
    return tuple([read_log(log) for log in logs if log.topics and _is_transfer(log.topics[0])])


def _is_transfer(topic: str) -> bool:
    digits = topic[2:]
    return digits == _TRANSFER or digits.lower() == _TRANSFER


def read_log(log: WireLog) -> Log:
    (address,) = _digits((log.address,), ADDRESS_DIGITS)
    digits = address + "".join(_digits(log.topics, TOPIC_DIGITS))
    raw = octets("0x" + digits)  # at once: there are hundreds
    topics = tuple([raw[at : at + 32] for at in range(20, len(raw), 32)])
    return Log(raw[:20], topics, octets(log.data))


def header_hash(header: WireHeader) -> bytes:
    """The block hash that the header's fields give."""
    return keccak(header_bytes(header))


def header_bytes(header: WireHeader) -> bytes:
    """RLP of the header's fields.

    A field that a fork left out before a later one counts as empty, as in geth. A header with
    fields that are unknown here hashes to something else and so fails its proof.
    """
    fields: list[str] = []
    for attribute, name in _FIRST_FIELDS:
        text = getattr(header, attribute)
        if text is None:
            raise NotProved(f"block {header.hash} lacks {name}: its hash can't be checked")
        fields.append(_field(attribute, text))
    later = [(attribute, getattr(header, attribute)) for attribute in _LATER_FIELDS]
    while later and later[-1][1] is None:
        later.pop()
    fields += [rlp.EMPTY if text is None else _field(attribute, text) for attribute, text in later]
    return octets("0x" + rlp.listed(fields))


def transactions_root(transactions: Iterable[WireTransaction]) -> bytes:
    return trie_root([raw_transaction(tx) for tx in transactions])


def receipts_root(receipts: Iterable[WireReceipt]) -> bytes:
    return trie_root([receipt_bytes(receipt) for receipt in receipts])


def receipt_bytes(receipt: WireReceipt) -> bytes:
    """What the receipts root commits to."""
    if receipt.status is not None:
        outcome = rlp.number(receipt.status)
    elif receipt.root is not None:
        outcome = rlp.data(receipt.root)
    else:
        raise NotProved(f"receipt of {receipt.transaction_hash} has neither status nor root")
    bits = receipt.logs_bloom
    if bits is None:
        bits = "0x" + bloom(map(read_log, receipt.logs)).hex()
    body = [
        outcome,
        rlp.number(receipt.cumulative_gas_used),
        rlp.data(bits),
        rlp.listed([_encode_log(log) for log in receipt.logs]),
    ]
    kind = quantity(receipt.type)
    if kind == OP_DEPOSIT and receipt.deposit_receipt_version is not None:
        # Before Canyon nodes show depositNonce, but no root commits to it (P51).
        body.append(rlp.number(receipt.deposit_nonce or "0x0"))
        body.append(rlp.number(receipt.deposit_receipt_version))
    return rlp.envelope(kind, body)


def _encode_log(log: WireLog) -> str:
    topics = _digits(log.topics, TOPIC_DIGITS)
    (address,) = _digits((log.address,), ADDRESS_DIGITS)
    within = "".join(["a0" + topic for topic in topics])
    return rlp.listed(("94", address, rlp.listed((within,)), rlp.data(log.data)))


def _digits(texts: Sequence[str], count: int) -> list[str]:
    """The digits of hex texts, so many of each.

    The proof's prefixes say how long each is: with other lengths the same bytes could be read as
    another log.
    """
    digits = [text[2:] for text in texts]
    for each in digits:
        if len(each) != count:
            raise Malformed(f"0x{each[:80]!r} has {len(each)} digits, not {count}")
    return digits


def withdrawals_root(withdrawals: Iterable[Withdrawal]) -> bytes:
    return trie_root([octets("0x" + _encode_withdrawal(each)) for each in withdrawals])


def _encode_withdrawal(each: Withdrawal) -> str:
    index, validator = rlp.number(each.index), rlp.number(each.validator_index)
    return rlp.listed((index, validator, rlp.data(each.address), rlp.number(each.amount)))


def bloom(logs: Iterable[Log]) -> bytes:
    """The 2048-bit filter over the logs' addresses and topics."""
    bits = 0
    for log in logs:
        for item in (log.address, *log.topics):
            bits |= _item_bits(item)
    return bits.to_bytes(BLOOM_BYTES, "big")


@lru_cache(maxsize=BLOOM_CACHE)
def _item_bits(item: bytes) -> int:
    digest = keccak(item)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def _field(attribute: str, text: str) -> str:
    return rlp.number(text) if attribute in _NUMBERS else rlp.data(text)


def _prove_withdrawals(block: WireBlock) -> None:
    # An empty list proves nothing and hides nothing that is read; OP-stack chains since Isthmus
    # keep another root in the header's field.
    if block.withdrawals:
        root = withdrawals_root(block.withdrawals)
        _match("withdrawals root", block, root, block.withdrawals_root)


def _bind_transaction(block: WireHeader, tx: WireTransaction, index: int) -> None:
    if tx.value != "0x0":  # then these three are read by decoders, which don't fail
        quantity(tx.value)
        sized(tx.sender, 20)
        if tx.to is not None:
            sized(tx.to, 20)
    said, place = (tx.block_hash, tx.block_number), (block.hash, block.number)
    if said != place:
        _agree(f"transaction {tx.hash}", _PLACE[2:], said, place)
    if not _is(tx.transaction_index, index):
        raise NotProved(f"transaction {tx.hash} stands at {index} but says {tx.transaction_index}")


def _bind_receipt(tx: WireTransaction, receipt: WireReceipt) -> None:
    said = (
        receipt.transaction_hash,
        receipt.transaction_index,
        receipt.block_hash,
        receipt.block_number,
        receipt.type,
        receipt.sender,
        receipt.to or "",
    )
    due = (
        tx.hash,
        tx.transaction_index,
        tx.block_hash,
        tx.block_number,
        tx.type,
        tx.sender,
        tx.to or "",
    )
    if said != due:
        _agree(f"receipt of transaction {tx.hash}", (*_PLACE, "type", "from", "to"), said, due)
    if tx.to is None or receipt.contract_address is not None:
        _bind_creation(f"receipt of transaction {tx.hash}", tx, receipt)


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


def _is(text: str, number: int) -> bool:
    """Whether hex text says a number; nodes spell it in one way, so that reading it is rare."""
    return text == f"{number:#x}" or quantity(text) == number


def _agree(what: str, names: Iterable[str], said: Iterable[str], due: Iterable[str]) -> None:
    """Hex texts of the same values, said twice by one node; case is a matter of taste."""
    for name, one, other in zip(names, said, due, strict=True):
        if one.lower() != other.lower():
            raise NotProved(f"{what} has the {name} {one[:80]}, not {other[:80]}")


def _match(what: str, header: WireHeader, computed: bytes, said: str | None) -> None:
    if said is None or octets(said) != computed:
        raise NotProved(
            f"block {header.hash} (height {quantity(header.number)}) does not prove: "
            f"its {what} gives 0x{computed.hex()[:64]}, the node says {(said or 'nothing')[:66]}"
        )
