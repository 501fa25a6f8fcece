"""Block 0 of each coin's regtest, byte for byte: what a node's chain is known by.

Sources: the `chainparams.cpp` of Bitcoin Core, Litecoin Core and Dogecoin Core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from indexer.chains.utxo_proof import double_sha256
from indexer.devnet.utxo_block import Output, count, sized

TIME: Final = 1296688602
BITS: Final = 0x207FFFFF
COIN: Final = 10**8  # base units

_SATOSHI: Final = (
    "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec1"
    "12de5c384df7ba0b8d578a4c702b6bf11d5f"
)
_LEE: Final = (
    "040184710fa689ad5023690c80f3a49c8f13f8d45b8c857fbcbc8bc4a8e4d3eb4b10f4d4604fa08dce601aaf0f4702"
    "16fe1b51850b4acf21b179c45070ac7b03a9"
)
# By coin: the headline, the key that is paid, how much, the nonce.
_BEGINNINGS: Final[Mapping[str, tuple[str, str, int, int]]] = {
    "btc": (
        "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks",
        _SATOSHI,
        50 * COIN,
        2,
    ),
    "ltc": (
        "NY Times 05/Oct/2011 Steve Jobs, Apple’s Visionary, Dies at 56",
        _LEE,
        50 * COIN,
        0,
    ),
    "doge": ("Nintondo", _LEE, 88 * COIN, 2),
}


def genesis(coin: str) -> bytes:
    """The block as a node serves it."""
    headline, key, units, nonce = _BEGINNINGS[coin]
    script = sized(bytes.fromhex("ffff001d")) + sized(b"\4") + sized(headline.encode())
    paid = Output(units, sized(bytes.fromhex(key)) + b"\xac")
    version, end = (1).to_bytes(4, "little"), bytes(4)
    transaction = version + count(1) + bytes(32) + b"\xff" * 4 + sized(script) + b"\xff" * 4
    transaction += count(1) + paid.units.to_bytes(8, "little") + sized(paid.script) + end
    numbers = b"".join(number.to_bytes(4, "little") for number in (TIME, BITS, nonce))
    return version + bytes(32) + double_sha256(transaction) + numbers + count(1) + transaction
