"""What an EVM node's JSON-RPC answers look like, as far as anything here reads them.

Hex text stays text until it is needed. `octets` and `quantity` are the only two ways from it to a
value, for proofs and decoders alike, so that what was proved is what is read. Fields that only some
chains or nodes give are None where absent; a proof that needs one says so.

Source: ethereum/execution-apis, `src/schemas`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from indexer.chains.answers import Malformed


class Wire(msgspec.Struct, rename="camel", gc=False):
    """Base of all answers: camelCase names, unknown fields ignored.

    Answers are trees, so the garbage collector has nothing to find in them: leaving it out saves a
    tenth of a catch-up's CPU.
    """


class AccessEntry(Wire, kw_only=True):
    address: str
    storage_keys: list[str]


class Authorization(Wire, kw_only=True):
    """EIP-7702: one signed delegation of a type-4 transaction."""

    chain_id: str
    address: str
    nonce: str
    y_parity: str | None = None
    v: str | None = None
    r: str
    s: str


class WireTransaction(Wire, kw_only=True):
    hash: str
    block_hash: str
    block_number: str
    transaction_index: str
    type: str = "0x0"
    sender: str = msgspec.field(name="from")
    to: str | None = None
    value: str
    nonce: str = "0x0"
    gas: str
    input: str
    gas_price: str | None = None
    max_priority_fee_per_gas: str | None = None
    max_fee_per_gas: str | None = None
    chain_id: str | None = None
    access_list: list[AccessEntry] | None = None
    max_fee_per_blob_gas: str | None = None
    blob_versioned_hashes: list[str] | None = None
    authorization_list: list[Authorization] | None = None
    v: str | None = None
    y_parity: str | None = None
    r: str | None = None
    s: str | None = None
    source_hash: str | None = None  # these three: OP-stack deposits, type 0x7e
    mint: str | None = None
    is_system_tx: bool | None = None


class WirePlace(Wire, kw_only=True):
    """A transaction as far as `evm_sighting` reads it; in no block while it waits to be mined."""

    sender: str = msgspec.field(name="from")
    nonce: str
    input: str
    block_hash: str | None = None
    block_number: str | None = None


class Withdrawal(Wire, kw_only=True):
    index: str
    validator_index: str
    address: str
    amount: str  # Gwei


class WireHeader(Wire, kw_only=True):
    """A block without its transactions."""

    hash: str
    parent_hash: str
    number: str
    timestamp: str
    logs_bloom: str | None = None
    sha3_uncles: str | None = None
    miner: str | None = None
    state_root: str | None = None
    transactions_root: str | None = None
    receipts_root: str | None = None
    difficulty: str | None = None
    gas_limit: str | None = None
    gas_used: str | None = None
    extra_data: str | None = None
    mix_hash: str | None = None
    nonce: str | None = None
    base_fee_per_gas: str | None = None
    withdrawals_root: str | None = None
    blob_gas_used: str | None = None
    excess_blob_gas: str | None = None
    parent_beacon_block_root: str | None = None
    requests_hash: str | None = None


class WireBlock(WireHeader, kw_only=True):
    """A block with its transactions in full."""

    transactions: list[WireTransaction]
    withdrawals: list[Withdrawal] | None = None


class WireOutline(WireHeader, kw_only=True):
    """A block with its transactions unread."""

    transactions: list[msgspec.Raw]


class WireLog(Wire, kw_only=True):
    address: str
    topics: list[str]
    data: str
    block_hash: str
    block_number: str
    transaction_hash: str
    transaction_index: str
    log_index: str
    removed: bool = False


class WireReceipt(Wire, kw_only=True):
    transaction_hash: str
    transaction_index: str
    block_hash: str
    block_number: str
    type: str = "0x0"
    sender: str = msgspec.field(name="from")
    to: str | None = None
    contract_address: str | None = None
    cumulative_gas_used: str
    status: str | None = None  # absent before Byzantium, where `root` stands (P2)
    root: str | None = None
    logs_bloom: str | None = None
    logs: list[WireLog]
    deposit_nonce: str | None = None  # these two: OP-stack deposits, type 0x7e
    deposit_receipt_version: str | None = None


class WireFrame(Wire, kw_only=True):
    """One call of the call tracer's tree."""

    type: str
    sender: str = msgspec.field(name="from")
    to: str | None = None
    value: str | None = None
    error: str | None = None
    calls: list[WireFrame] | None = None


class WireTrace(Wire, kw_only=True):
    """One transaction's entry of `debug_traceBlockByHash`."""

    tx_hash: str | None = None
    result: WireFrame | None = None
    error: Any = None  # text, or an error object


def octets(text: str) -> bytes:
    """Bytes of `0x…` hex text."""
    if text[:2] != "0x":
        raise Malformed(f"{text[:80]!r} is not hex data")
    try:
        value = bytes.fromhex(text[2:])
    except ValueError:
        value = b""
    if 2 * len(value) != len(text) - 2:  # `fromhex` skips blanks
        raise Malformed(f"{text[:80]!r} is not hex data")
    return value


def sized(text: str, size: int) -> bytes:
    """The same, exactly `size` bytes long."""
    value = octets(text)
    if len(value) != size:
        raise Malformed(f"{text[:80]!r} is {len(value)} bytes long, not {size}")
    return value


def quantity(text: str) -> int:
    """The number of `0x…` hex text; never negative, and of 256 bits at most."""
    try:
        value = int(text[2:], 16) if text[:2] == "0x" and len(text) <= 66 else -1
    except ValueError:
        value = -1
    if value < 0:
        raise Malformed(f"{text[:80]!r} is not a hex number")
    return value
