"""RLP of what a node's JSON says, as hex text: encoded as it stands and read into bytes once.

A block has ten thousand such fields. Turning each into a value first took most of a proof's CPU;
here a field costs a prefix, and `octets` of the whole says whether all of it was hex. Text that is
no hex, or not of the length that its place has, gives other bytes than the root commits to.
Source: the Yellow Paper's appendix B.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from indexer.chains.answers import Malformed
from indexer.chains.evm_wire import octets

EMPTY: Final = "80"  # the string of no bytes, and the number 0
SIZES: Final = 4096  # whose prefixes are remembered
SHORT: Final = 56  # bytes; lengths below it fit into the prefix byte

# By digits, which are twice as many as bytes; an odd number of them is no data.
_STRINGS: Final = [f"{0x80 + size // 2:02x}" for size in range(2 * SHORT)]
_LISTS: Final = [f"{0xC0 + size // 2:02x}" for size in range(2 * SHORT)]


def data(text: str) -> str:
    """`0x…` data of whole bytes."""
    digits = text[2:]
    size = len(digits)
    if text[:2] != "0x" or size & 1:
        raise Malformed(f"{text[:80]!r} is not hex data")
    return string(digits)


def number(text: str) -> str:
    """A `0x…` quantity: as few bytes as it needs, none for 0."""
    if text[:2] != "0x" or len(text) == 2:
        raise Malformed(f"{text[:80]!r} is not a hex number")
    digits = text[2:].lstrip("0")
    return string("0" + digits if len(digits) & 1 else digits)


def string(digits: str) -> str:
    """Digits of whole bytes."""
    size = len(digits)
    if size < 2 * SHORT:
        return digits if size == 2 and digits < "80" else _STRINGS[size] + digits
    return _long(0xB7, size // 2) + digits


def listed(encoded: Iterable[str]) -> str:
    """A list of items that are encoded already."""
    body = "".join(encoded)
    size = len(body)
    if size < 2 * SHORT:
        return _LISTS[size] + body
    return _long(0xF7, size // 2) + body


def envelope(kind: int, fields: Iterable[str]) -> bytes:
    """The bytes of a transaction or receipt; a typed one's are prefixed, not wrapped (EIP-2718)."""
    return octets(f"0x{f'{kind:02x}' if kind else ''}{listed(fields)}")


@lru_cache(maxsize=SIZES)
def _long(base: int, size: int) -> str:
    """The prefix of `size` bytes that don't fit into one."""
    length = (size.bit_length() + 7) // 8
    return f"{base + length:02x}{size:0{2 * length}x}"
