"""Keys and signed transactions of the simulated EVM chain: real signatures, real hashes.

Signs with libsecp256k1 directly (20 us a signature), so that thousands of blocks cost seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import rlp
from coincurve import PrivateKey

from indexer.chains.evm_trie import keccak

LEGACY: Final = 0
DYNAMIC_FEE: Final = 2  # EIP-1559


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction, type 0 (EIP-155) or 2 (EIP-1559). Prices are wei per unit of gas."""

    hash: bytes
    raw: bytes  # the EIP-2718 envelope, as the transactions root commits to it
    sender: bytes
    kind: int
    chain_id: int
    nonce: int
    to: bytes
    value: int  # wei
    data: bytes
    gas: int
    max_price: int  # type 0: the gas price
    tip: int  # type 0: the same
    v: int  # type 0: with the chain id in it; type 2: the parity
    r: int
    s: int

    def price(self, base_fee: int) -> int:
        """What a unit of gas costs in a block of that base fee."""
        return min(self.max_price, base_fee + self.tip) if self.kind else self.max_price


class Wallet:
    """A key that signs."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.address = keccak(self._key.public_key.format(compressed=False)[1:])[-20:]

    def sign(
        self,
        kind: int,
        chain_id: int,
        nonce: int,
        to: bytes,
        value: int,
        data: bytes,
        *,
        gas: int,
        max_price: int,
        tip: int,
    ) -> Transaction:
        fields: list[object]
        if kind == LEGACY:
            fields, tip = [nonce, max_price, gas, to, value, data], max_price
            r, s, parity = self._signature(rlp.encode([*fields, chain_id, 0, 0]))
            v = 35 + 2 * chain_id + parity
            raw = rlp.encode([*fields, v, r, s])
        else:
            fields = [chain_id, nonce, tip, max_price, gas, to, value, data, []]
            r, s, v = self._signature(b"\x02" + rlp.encode(fields))
            raw = b"\x02" + rlp.encode([*fields, v, r, s])
        return Transaction(
            hash=keccak(raw),
            raw=raw,
            sender=self.address,
            kind=kind,
            chain_id=chain_id,
            nonce=nonce,
            to=to,
            value=value,
            data=data,
            gas=gas,
            max_price=max_price,
            tip=tip,
            v=v,
            r=r,
            s=s,
        )

    def _signature(self, payload: bytes) -> tuple[int, int, int]:
        signature = self._key.sign_recoverable(keccak(payload), hasher=None)
        return (
            int.from_bytes(signature[:32], "big"),
            int.from_bytes(signature[32:64], "big"),
            signature[64],
        )
