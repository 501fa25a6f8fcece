"""An EVM transaction's own bytes, rebuilt from a node's JSON: its hash, signer and new contract.

`transactionsRoot` commits to these bytes and receipts commit to none of them, so that nothing a
node says of `to` or `value` can be believed without rebuilding them (P65). Types: legacy with and
without EIP-155, 1 (EIP-2930), 2 (EIP-1559), 3 (EIP-4844), 4 (EIP-7702), 0x7e (OP-stack deposits).
"""

from __future__ import annotations

from typing import Final

import coincurve

from indexer.chains.answers import NotProved
from indexer.chains.evm_rlp import EMPTY, data, envelope, listed, number
from indexer.chains.evm_trie import keccak, rlp_bytes, rlp_int, rlp_list
from indexer.chains.evm_wire import (
    AccessEntry,
    Authorization,
    WireTransaction,
    quantity,
    sized,
)

LEGACY: Final = 0
ACCESS_LIST: Final = 1
DYNAMIC_FEE: Final = 2
BLOB: Final = 3
SET_CODE: Final = 4
OP_DEPOSIT: Final = 0x7E
SIGNED: Final = (LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE)
EIP155_FIRST_V: Final = 35  # v = 35 + 2 * chain id + parity
PRE_155_V: Final = (27, 28)


def raw_transaction(tx: WireTransaction) -> bytes:
    """The bytes that the transaction's hash and the transactions root are made of."""
    kind = quantity(tx.type)
    if kind == OP_DEPOSIT:
        return envelope(kind, _deposit(tx))
    if kind == LEGACY:
        return envelope(kind, [*_legacy(tx), _number(tx.v, tx, "v"), *_signature(tx)])
    return envelope(kind, [*_typed(tx, kind), _digit(_parity(tx)), *_signature(tx)])


def recover_sender(tx: WireTransaction) -> bytes:
    """The address whose key signed it. A node's `from` is a claim; this is what it must equal."""
    if quantity(tx.type) == OP_DEPOSIT:
        return sized(tx.sender, 20)  # unsigned; `from` is part of its bytes
    message, parity = _signed_message(tx)
    try:
        signature = b"".join(
            quantity(_given(part, tx, name)).to_bytes(32, "big")
            for part, name in ((tx.r, "r"), (tx.s, "s"))
        ) + bytes([parity])
        key = coincurve.PublicKey.from_signature_and_message(
            signature, keccak(message), hasher=None
        )
    except ValueError:
        raise NotProved(f"transaction {tx.hash} carries no valid signature") from None
    return keccak(key.format(compressed=False)[1:])[12:]


def created_address(sender: bytes, nonce: int) -> bytes:
    """Where a creation transaction puts its contract."""
    return keccak(rlp_list((rlp_bytes(sender), rlp_int(nonce))))[12:]


def _signed_message(tx: WireTransaction) -> tuple[bytes, int]:
    """What was signed, and the parity bit of the signature."""
    kind = quantity(tx.type)
    if kind != LEGACY:
        return envelope(kind, _typed(tx, kind)), _parity(tx)
    v = quantity(_given(tx.v, tx, "v"))
    if v in PRE_155_V:
        return envelope(kind, _legacy(tx)), v - PRE_155_V[0]
    if v < EIP155_FIRST_V:
        raise NotProved(f"transaction {tx.hash} has the signature parity {v}")
    chain_id, parity = divmod(v - EIP155_FIRST_V, 2)
    return envelope(kind, [*_legacy(tx), number(hex(chain_id)), EMPTY, EMPTY]), parity


def _legacy(tx: WireTransaction) -> list[str]:
    return [_number(tx.nonce, tx, "nonce"), _number(tx.gas_price, tx, "gasPrice"), *_call(tx)]


def _typed(tx: WireTransaction, kind: int) -> list[str]:
    """The fields of types 1 to 4 before the signature."""
    if kind not in SIGNED:
        raise NotProved(
            f"transaction {tx.hash} is of the unknown type {tx.type}: it can't be rebuilt"
        )
    fields = [_number(tx.chain_id, tx, "chainId"), _number(tx.nonce, tx, "nonce")]
    if kind == ACCESS_LIST:
        fields.append(_number(tx.gas_price, tx, "gasPrice"))
    else:
        fields.append(_number(tx.max_priority_fee_per_gas, tx, "maxPriorityFeePerGas"))
        fields.append(_number(tx.max_fee_per_gas, tx, "maxFeePerGas"))
    fields += [*_call(tx), listed([_access(entry) for entry in tx.access_list or ()])]
    if kind == BLOB:
        hashes = [data(each) for each in tx.blob_versioned_hashes or ()]
        fields += [_number(tx.max_fee_per_blob_gas, tx, "maxFeePerBlobGas"), listed(hashes)]
    if kind == SET_CODE:
        granted = [_authorization(each, tx) for each in tx.authorization_list or ()]
        fields.append(listed(granted))
    return fields


def _call(tx: WireTransaction) -> list[str]:
    to = EMPTY if tx.to is None else data(tx.to)
    return [number(tx.gas), to, number(tx.value), data(tx.input)]


def _deposit(tx: WireTransaction) -> list[str]:
    """Source: ethereum-optimism/specs, `specs/protocol/deposits.md`."""
    gas, to, value, payload = _call(tx)
    return [
        data(_given(tx.source_hash, tx, "sourceHash")),
        data(tx.sender),
        to,
        EMPTY if tx.mint is None else number(tx.mint),
        value,
        gas,
        _digit(int(bool(tx.is_system_tx))),
        payload,
    ]


def _access(entry: AccessEntry) -> str:
    return listed((data(entry.address), listed([data(key) for key in entry.storage_keys])))


def _authorization(grant: Authorization, tx: WireTransaction) -> str:
    # An invalid grant is skipped, not refused, by the chain: its parity may be any small number.
    return listed(
        (
            number(grant.chain_id),
            data(grant.address),
            number(grant.nonce),
            _digit(_agreed(grant.y_parity, grant.v, tx)),
            number(grant.r),
            number(grant.s),
        )
    )


def _signature(tx: WireTransaction) -> tuple[str, str]:
    return _number(tx.r, tx, "r"), _number(tx.s, tx, "s")


def _parity(tx: WireTransaction) -> int:
    return _agreed(tx.y_parity, tx.v, tx)


def _agreed(y_parity: str | None, v: str | None, tx: WireTransaction) -> int:
    """Nodes name the parity `yParity`, `v` or both; both must say the same."""
    said = {quantity(each) for each in (y_parity, v) if each is not None}
    if len(said) != 1:
        raise NotProved(f"transaction {tx.hash} has no signature parity, or two")
    return said.pop()


def _number(text: str | None, tx: WireTransaction, name: str) -> str:
    return number(_given(text, tx, name))


def _digit(value: int) -> str:
    return number(hex(value))


def _given(text: str | None, tx: WireTransaction, name: str) -> str:
    if text is None:
        raise NotProved(f"transaction {tx.hash} lacks {name}: it can't be rebuilt")
    return text
