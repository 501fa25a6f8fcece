"""Keys and signed transactions of the simulated TRON chain: real bytes, ids and signatures.

A contract's fields stand once, in the order of their numbers, so that the signed bytes and the
node's JSON of them say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final, TypeAlias

from coincurve import PrivateKey

from indexer.chains.evm_trie import keccak
from indexer.chains.protobuf import field
from indexer.chains.tron_codec import PREFIX

Value: TypeAlias = int | bytes
Json: TypeAlias = dict[str, object]

TYPE_URL: Final = "type.googleapis.com/protocol."
EXPIRES_MS: Final = 60_000  # after a transaction was made
FEE_LIMIT: Final = 100_000_000  # sun, of a transaction that calls a contract
ENERGY: Final = 1  # Common.ResourceCode

TRANSFER: Final = "TransferContract"
TRANSFER_ASSET: Final = "TransferAssetContract"
TRIGGER: Final = "TriggerSmartContract"
DELEGATE: Final = "DelegateResourceContract"

# Protocol.Transaction.Contract.ContractType, and the contract's fields numbered from 1.
CONTRACTS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = MappingProxyType(
    {
        TRANSFER: (1, ("owner_address", "to_address", "amount")),
        TRANSFER_ASSET: (2, ("asset_name", "owner_address", "to_address", "amount")),
        TRIGGER: (
            31,
            (
                "owner_address",
                "contract_address",
                "call_value",
                "data",
                "call_token_value",
                "token_id",
            ),
        ),
        DELEGATE: (57, ("owner_address", "resource", "balance", "receiver_address")),
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The recent block that a transaction names, and when it was made."""

    number: int
    hash: bytes
    time_ms: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction with one contract."""

    hash: bytes
    raw: bytes
    signature: bytes
    sender: bytes  # 20 bytes
    kind: str
    values: Mapping[str, Value]  # of the contract's fields; addresses with their prefix
    shown: Json  # `raw_data` of the node's JSON

    @property
    def to(self) -> bytes:
        """The 20 bytes of whom it pays or calls."""
        return self.octets("contract_address" if self.kind == TRIGGER else "to_address")[1:]

    def number(self, name: str) -> int:
        value = self.values.get(name, 0)
        return value if isinstance(value, int) else 0

    def octets(self, name: str) -> bytes:
        value = self.values.get(name, b"")
        return value if isinstance(value, bytes) else b""


class Wallet:
    """A key that signs."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.address = keccak(self._key.public_key.format(compressed=False)[1:])[-20:]

    def sign(self, kind: str, values: Mapping[str, Value], reference: Reference) -> Transaction:
        """`values`: of the contract's fields, its owner aside."""
        values = {**values, "owner_address": PREFIX + self.address}
        fee_limit = FEE_LIMIT if kind == TRIGGER else 0
        raw = b"".join(
            (
                field(1, reference.number.to_bytes(8, "big")[6:8]),
                field(4, reference.hash[8:16]),
                field(8, reference.time_ms + EXPIRES_MS),
                field(11, _contract(kind, values)),
                field(14, reference.time_ms),
                field(18, fee_limit),
            )
        )
        shown = _shown(kind, values, reference, fee_limit)
        digest = sha256(raw).digest()
        return Transaction(digest, raw, self.seal(digest), self.address, kind, values, shown)

    def seal(self, digest: bytes) -> bytes:
        """A signature's 65 bytes, the last of them the parity."""
        return bytes(self._key.sign_recoverable(digest, hasher=None))


def _contract(kind: str, values: Mapping[str, Value]) -> bytes:
    number, names = CONTRACTS[kind]
    encoded = b"".join(field(at, values.get(name, 0)) for at, name in enumerate(names, 1))
    parameter = field(1, (TYPE_URL + kind).encode()) + field(2, encoded)
    return field(1, number) + field(2, parameter)


def _shown(kind: str, values: Mapping[str, Value], reference: Reference, fee_limit: int) -> Json:
    value = {name: _text(name, given) for name, given in values.items() if given}
    parameter = {"value": value, "type_url": TYPE_URL + kind}
    shown: Json = {
        "contract": [{"parameter": parameter, "type": kind}],
        "ref_block_bytes": reference.number.to_bytes(8, "big")[6:8].hex(),
        "ref_block_hash": reference.hash[8:16].hex(),
        "expiration": reference.time_ms + EXPIRES_MS,
        "timestamp": reference.time_ms,
    }
    return shown | ({"fee_limit": fee_limit} if fee_limit else {})


def _text(name: str, value: Value) -> object:
    if name == "resource":
        return "ENERGY"
    return value.hex() if isinstance(value, bytes) else value
