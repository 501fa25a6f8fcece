"""How EVM networks write addresses and hashes. Pure text: no I/O, no chain."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from indexer.chains import NATIVE
from indexer.chains.evm_trie import keccak
from indexer.chains.extended_key import ACCOUNT_FORMS
from indexer.model import Refused

SHOWN_CHARS: Final = 80  # of a refused text

# Contracts that mirror the native coin: their Transfer logs repeat movements that are seen as
# native ones already, so none may ever be a token (P16, P17).
NATIVE_MIRRORS: Final = frozenset(
    bytes.fromhex(address)
    for address in (
        "fffffffffffffffffffffffffffffffffffffffe",  # EIP-7708, any chain
        "0000000000000000000000000000000000001010",  # Polygon
        "deaddeaddeaddeaddeaddeaddeaddeaddead0000",  # OP-stack before Bedrock, Metis
        "471ece3750da237f93b8e339c536989b8978a438",  # Celo
    )
)

CACHED_ADDRESSES: Final = 65_536  # about 10 MB

_ADDRESS: Final = re.compile(r"0[xX]([0-9a-fA-F]{40})", re.ASCII)
_HASH: Final = re.compile(r"0[xX]([0-9a-fA-F]{64})", re.ASCII)


class EvmCodec:
    """The codec of every EVM network: 20-byte addresses in EIP-55 form, 32-byte hashes in hex."""

    family = "evm"
    wallet_forms = ACCOUNT_FORMS

    def parse_address(self, text: str) -> bytes:
        """Any spelling of an address; mixed case must carry its EIP-55 checksum (P43)."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise Refused(f"{text[:SHOWN_CHARS]!r} is not an address: write 0x and 40 hex digits")
        digits = match[1]
        key = bytes.fromhex(digits)
        mixed = digits not in (digits.lower(), digits.upper())
        if mixed and self.format_address(key)[2:] != digits:
            raise Refused(f"{text} has a wrong checksum: a digit or a letter's case was changed")
        return key

    def format_address(self, key: bytes) -> str:
        """EIP-55: a letter is upper case where the hash of the lower-case digits says so."""
        return _checksummed(key)

    def parse_hash(self, text: str) -> bytes:
        match = _HASH.fullmatch(text)
        if match is None:
            raise Refused(f"{text[:SHOWN_CHARS]!r} is not a hash: write 0x and 64 hex digits")
        return bytes.fromhex(match[1])

    def format_hash(self, value: bytes) -> str:
        return "0x" + value.hex()

    def parse_asset(self, text: str) -> bytes:
        key = self.parse_address(text)
        if key in NATIVE_MIRRORS:
            raise Refused(f"{text} only repeats what the native coin does; it can't be a token")
        return key

    def format_asset(self, asset: bytes) -> str:
        return "native" if asset == NATIVE else self.format_address(asset)


@lru_cache(maxsize=CACHED_ADDRESSES)  # an event names three, mostly of deposits seen before
def _checksummed(key: bytes) -> str:
    digits = key.hex()
    bits = keccak(digits.encode()).hex()
    return "0x" + "".join(
        char.upper() if bit >= "8" else char for char, bit in zip(digits, bits, strict=False)
    )
