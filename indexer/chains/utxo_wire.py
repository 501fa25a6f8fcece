"""Numbers as Bitcoin's serialisation writes them."""

from __future__ import annotations

from typing import Final

LARGEST: Final = 0x0200_0000  # Core's MAX_SIZE: no length or count is above it

_WIDTHS: Final = {253: (2, 253), 254: (4, 1 << 16), 255: (8, 1 << 32)}  # bytes, least value


class Malformed(Exception):
    """Bytes that are not what they should be; the sentence says how."""


def compact_size(raw: bytes, at: int) -> tuple[int, int]:
    """A length or count and where it ends. Raises Malformed, and IndexError beyond the end."""
    size = raw[at]
    if size < 253:
        return size, at + 1
    width, least = _WIDTHS[size]
    end = at + 1 + width
    value = int.from_bytes(raw[at + 1 : end], "little")
    if value < least or value > LARGEST:
        raise Malformed(f"a block has a length written as none is, or too large: {value}")
    return value, end


def var_int(raw: bytes, at: int) -> int:
    """Where a base-128 number ends (Core's VARINT); its value is of no use here."""
    while raw[at] & 0x80:
        at += 1
    return at + 1
