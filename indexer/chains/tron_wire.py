"""What a TRON node's HTTP API answers, as far as anything here reads it (`visible` false).

Of a transaction only the signed bytes are read, never the node's own reading of them: they are what
its id commits to. What java-tron leaves out because it is empty or 0 has its default here (P82).

Source: tronprotocol/java-tron, `protocol/src/main/protos/core/Tron.proto` and
`framework/src/main/java/org/tron/core/services/http`.
"""

from __future__ import annotations

import msgspec

from indexer.chains.answers import Malformed
from indexer.chains.tron_codec import account


class Wire(msgspec.Struct, gc=False):
    """Base of all answers; unknown fields are ignored."""


class WireResult(Wire):
    """`Transaction.Result`: what the block producer says became of it."""

    contractRet: str | int | None = None
    ret: str | None = None
    fee: int = 0


class WireTransaction(Wire):
    txID: str
    raw_data_hex: str
    signature: list[str] = []
    ret: list[WireResult] = []


class WireHeaderData(Wire):
    """`BlockHeader.raw`: what a block's id commits to. `timestamp` in milliseconds."""

    timestamp: int = 0
    txTrieRoot: str = ""
    parentHash: str = ""
    number: int = 0
    witness_id: int = 0
    witness_address: str = ""
    version: int = 0
    accountStateRoot: str = ""


class WireHeader(Wire):
    raw_data: WireHeaderData


class WireBlock(Wire):
    """A block; without its transactions where only the header was asked for."""

    blockID: str
    block_header: WireHeader
    transactions: list[WireTransaction] = []

    @property
    def data(self) -> WireHeaderData:
        return self.block_header.raw_data


class WireBlocks(Wire):
    block: list[WireBlock] = []


class WireLog(Wire):
    address: str = ""
    topics: list[str] = []
    data: str = ""


class WireValue(Wire):
    """An amount of TRX in sun, or of a TRC-10 token."""

    callValue: int = 0
    tokenId: str = ""


class WireInternal(Wire):
    """A contract's own transaction. `note` is the hex of what it was."""

    caller_address: str = ""
    transferTo_address: str = ""
    callValueInfo: list[WireValue] = []
    note: str = ""
    rejected: bool = False


class WireReceipt(Wire):
    result: str | int | None = None  # of contracts only


class WireInfo(Wire):
    """`TransactionInfo`: what became of a transaction. No root commits to it (P79)."""

    id: str
    blockNumber: int = 0
    blockTimeStamp: int = 0  # milliseconds
    result: str | int | None = None  # only where it failed
    receipt: WireReceipt | None = None
    log: list[WireLog] = []
    internal_transactions: list[WireInternal] = []


def octets(text: str) -> bytes:
    """Bytes of hex text."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Malformed(f"{text[:80]!r} is not hex data") from None


def sized(text: str, size: int) -> bytes:
    """The same, exactly `size` bytes long."""
    value = octets(text)
    if len(value) != size:
        raise Malformed(f"{text[:80]!r} is {len(value)} bytes long, not {size}")
    return value


def address(value: bytes) -> bytes:
    """The key of an address in any of its binary spellings."""
    key = account(value)
    if key is None:
        raise Malformed(f"{value.hex()[:80]!r} is no address")
    return key
