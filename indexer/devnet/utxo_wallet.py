"""Keys of the simulated Bitcoin-like chains: an address of each kind, and how it is spent.

Signatures are shaped like real ones and say nothing: nobody checks them here.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

from indexer.chains.utxo_script import OP_CHECKSIG, hash160, p2pkh, p2sh, witness_program
from indexer.devnet.utxo_block import Input, sized

SIGNATURE: Final = b"\x30\x44" + bytes(range(1, 70))  # 71 bytes, as long as most
SCHNORR: Final = bytes(range(64))


class Kind(StrEnum):
    P2PKH = "p2pkh"
    P2SH = "p2sh"  # around P2WPKH where the chain has witnesses, else around a 1-of-1 multisig
    P2WPKH = "p2wpkh"
    P2WSH = "p2wsh"
    P2TR = "p2tr"
    P2PK = "p2pk"


SEGWIT: Final = frozenset((Kind.P2WPKH, Kind.P2WSH, Kind.P2TR))


class UtxoWallet:
    """A key, and its address of one kind. `address` is the key that the engine knows it by."""

    def __init__(self, secret: bytes, kind: Kind, *, segwit: bool) -> None:
        if kind in SEGWIT and not segwit:
            raise ValueError(f"this chain has no {kind}")
        self.kind = kind
        self.pubkey = b"\x02" + hashlib.sha256(secret).digest()
        self._redeem = b"\x51" + sized(self.pubkey) + b"\x51\xae"
        self._nested = witness_program(0, hash160(self.pubkey)) if segwit else None
        self.script = self._script()
        self.address = p2pkh(hash160(self.pubkey)) if kind is Kind.P2PK else self.script

    def spend(self, outpoint: bytes) -> Input:
        """What spending an output to `script` reveals."""
        match self.kind:
            case Kind.P2PKH:
                return Input(outpoint, sized(SIGNATURE) + sized(self.pubkey))
            case Kind.P2SH if self._nested is not None:
                return Input(outpoint, sized(self._nested), (SIGNATURE, self.pubkey))
            case Kind.P2SH:
                return Input(outpoint, b"\0" + sized(SIGNATURE) + sized(self._redeem))
            case Kind.P2WPKH:
                return Input(outpoint, b"", (SIGNATURE, self.pubkey))
            case Kind.P2WSH:
                return Input(outpoint, b"", (b"", SIGNATURE, self._redeem))
            case Kind.P2TR:
                return Input(outpoint, b"", (SCHNORR,))
            case Kind.P2PK:
                return Input(outpoint, sized(SIGNATURE))

    def _script(self) -> bytes:
        match self.kind:
            case Kind.P2PKH:
                return p2pkh(hash160(self.pubkey))
            case Kind.P2SH:
                return p2sh(hash160(self._redeem if self._nested is None else self._nested))
            case Kind.P2WPKH:
                return witness_program(0, hash160(self.pubkey))
            case Kind.P2WSH:
                return witness_program(0, hashlib.sha256(self._redeem).digest())
            case Kind.P2TR:
                return witness_program(1, self.pubkey[1:])
            case Kind.P2PK:
                return sized(self.pubkey) + bytes((OP_CHECKSIG,))
