"""How TRON writes addresses, hashes and tokens. Pure text: no I/O, no chain.

An address has many spellings: base58check (`T…`), 21 bytes in hex that begin with 41, the same
without 41 in logs, 32 bytes in a log's topics (P75). The key is always the 20 bytes. A token is a
TRC-20 contract (an address) or a TRC-10 id (digits); a TRC-10's name says nothing (P69).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from indexer.chains import NATIVE
from indexer.chains.extended_key import ACCOUNT_FORMS
from indexer.chains.transfer_event import ADDRESS, PADDING
from indexer.model import Refused

SHOWN_CHARS: Final = 80  # of a refused text
PREFIX: Final = b"\x41"  # of every address, on mainnet and test networks alike
# Before an address in a word: zeros, or the prefix kept by contracts of old compilers.
PADDINGS: Final = (PADDING, PADDING[:-1] + PREFIX)
CACHED_ADDRESSES: Final = 65_536  # about 10 MB

_BASE58: Final = re.compile("T[1-9A-HJ-NP-Za-km-z]{33}", re.ASCII)
_HEX: Final = re.compile("(?:0[xX])?(41[0-9a-fA-F]{40})", re.ASCII)
_HASH: Final = re.compile("(?:0[xX])?([0-9a-fA-F]{64})", re.ASCII)
_TRC10: Final = re.compile("[1-9][0-9]{0,18}", re.ASCII)  # an int64


class TronCodec:
    """The codec of every TRON network: base58check addresses, hashes in hex without `0x`."""

    family = "tron"
    wallet_forms = ACCOUNT_FORMS

    def parse_address(self, text: str) -> bytes:
        """`T…`, whose checksum must be right, or 41 and 40 more hex digits."""
        if _BASE58.fullmatch(text):
            return _from_base58(text)
        match = _HEX.fullmatch(text)
        if match is None:
            raise Refused(
                f"{text[:SHOWN_CHARS]!r} is not an address: write T and 33 more characters, "
                "or 41 and 40 hex digits"
            )
        return bytes.fromhex(match[1])[1:]

    def format_address(self, key: bytes) -> str:
        return _to_base58(key)

    def parse_hash(self, text: str) -> bytes:
        match = _HASH.fullmatch(text)
        if match is None:
            raise Refused(f"{text[:SHOWN_CHARS]!r} is not a hash: write 64 hex digits")
        return bytes.fromhex(match[1])

    def format_hash(self, value: bytes) -> str:
        return value.hex()

    def parse_asset(self, text: str) -> bytes:
        """A contract's address, or the digits of a TRC-10 id."""
        if _TRC10.fullmatch(text):
            return text.encode()
        return self.parse_address(text)

    def format_asset(self, asset: bytes) -> str:
        if asset == NATIVE:
            return "native"
        return self.format_address(asset) if len(asset) == ADDRESS else asset.decode()


def account(octets: bytes) -> bytes | None:
    """The key in any of the binary spellings, None if it is none of them."""
    head, key = octets[:-ADDRESS], octets[-ADDRESS:]
    return key if len(key) == ADDRESS and head in (b"", PREFIX, *PADDINGS) else None


# tronpy takes a third of a second to import, with HTTP clients that nothing here needs: it is
# imported with the first address.


def _from_base58(text: str) -> bytes:
    from tronpy.exceptions import BadAddress
    from tronpy.keys import to_raw_address

    try:
        key = account(to_raw_address(text))
    except (BadAddress, ValueError):
        raise Refused(f"{text} has a wrong checksum: a character was changed") from None
    if key is None or _to_base58(key) != text:
        raise Refused(f"{text} is no address of this network")
    return key


@lru_cache(maxsize=CACHED_ADDRESSES)  # an event names three, mostly of deposits seen before
def _to_base58(key: bytes) -> str:
    from tronpy.keys import to_base58check_address

    return str(to_base58check_address(PREFIX + key))
