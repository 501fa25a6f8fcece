"""What a TRON transaction itself moves, read from its signed bytes.

Native TRX: `TransferContract`, and the `call_value` of calling or creating a contract. TRC-10: the
same with a token id. Everything else that changes balances (votes, stakes, rewards, exchanges)
belongs to its owner already, and is no transfer (P71, P84). A transparent output of a shielded
transfer is in a token that only the node's configuration names: held, not silent.

Source: tronprotocol/java-tron, `protocol/src/main/protos/core/Tron.proto` and `contract/*.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from indexer.chains import NATIVE
from indexer.chains.evm_trie import keccak
from indexer.chains.protobuf import Message
from indexer.chains.transfer_event import ADDRESS
from indexer.chains.tron_wire import address

# Protocol.Transaction.Contract.ContractType
TRANSFER: Final = 1
TRANSFER_ASSET: Final = 2
CREATE_CONTRACT: Final = 30
TRIGGER_CONTRACT: Final = 31
SHIELDED_TRANSFER: Final = 51
EXECUTED: Final = (CREATE_CONTRACT, TRIGGER_CONTRACT)  # by the virtual machine
MOVING: Final = (TRANSFER, TRANSFER_ASSET, *EXECUTED, SHIELDED_TRANSFER)


class Payment(NamedTuple):
    """TRX in sun, or a TRC-10 token's base units."""

    asset: bytes
    sender: bytes | None
    recipient: bytes
    units: int
    odd: bool = False


class Order(NamedTuple):
    """What a transaction asks for."""

    executed: bool  # by the virtual machine: then its receipt says how it went
    payments: tuple[Payment, ...]


def read_order(raw: bytes, tx: bytes) -> Order:
    """What the signed bytes of a transaction ask for; `tx` is their id."""
    contracts = [Message(each) for each in Message(raw).every(11)]
    payments = [
        payment if len(contracts) == 1 else payment._replace(odd=True)  # no node takes several
        for contract in contracts
        if contract.signed(1) in MOVING
        for payment in _payments(contract.signed(1), Message(contract.message(2).octets(2)), tx)
    ]
    executed = any(contract.signed(1) in EXECUTED for contract in contracts)
    return Order(executed, tuple(payments))


def created_address(tx: bytes, owner: bytes) -> bytes:
    """Where a creation puts its contract: the owner's 21 bytes are hashed behind the id."""
    return keccak(tx + owner)[-20:]


def trc10(name: bytes) -> bytes | None:
    """A TRC-10 token's id; None where it is a name, as before ids were given, or nothing."""
    return name if name.isdigit() and len(name) < ADDRESS else None


def _payments(kind: int, contract: Message, tx: bytes) -> Iterator[Payment]:
    """Amounts of 0 are none."""
    if kind == TRANSFER:
        owner, to = address(contract.octets(1)), address(contract.octets(2))
        yield from _paid(NATIVE, owner, to, contract.signed(3))
    elif kind == TRANSFER_ASSET:
        owner, to = address(contract.octets(2)), address(contract.octets(3))
        yield from _paid(trc10(contract.octets(1)), owner, to, contract.signed(4))
    elif kind == TRIGGER_CONTRACT:
        owner, to = address(contract.octets(1)), address(contract.octets(2))
        yield from _paid(NATIVE, owner, to, contract.signed(3))
        yield from _paid(_token(contract.signed(6)), owner, to, contract.signed(5))
    elif kind == CREATE_CONTRACT:
        owner, to = address(contract.octets(1)), created_address(tx, contract.octets(1))
        yield from _paid(NATIVE, owner, to, contract.message(2).signed(5))
        yield from _paid(_token(contract.signed(4)), owner, to, contract.signed(3))
    elif contract.octets(6):
        yield Payment(NATIVE, None, address(contract.octets(6)), contract.signed(7), odd=True)


def _paid(asset: bytes | None, owner: bytes, to: bytes, units: int) -> Iterator[Payment]:
    if asset is not None and units > 0:
        yield Payment(asset, owner, to, units)


def _token(number: int) -> bytes:
    """A TRC-10 id as its text."""
    return str(number).encode()
