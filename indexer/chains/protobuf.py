"""Protocol Buffers' wire format, as far as hashes and signed bytes ask for it: fields by number.

Nothing is decoded and encoded again: what a hash commits to is read where it stands. Reading
follows the rules of every protobuf library: of a repeated scalar the last counts, pieces of a
message are merged, a field of another wire type than expected is unknown and passed over.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from typing import Final

from indexer.chains.answers import Malformed

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
GROUP: Final = 3
GROUP_END: Final = 4
FIXED32: Final = 5
VARINT_BYTES: Final = 10  # of the longest
MAX_GROUPS: Final = 100  # in each other, as in other readers


class Message:
    """A message's fields; those that it doesn't have are 0 or empty."""

    __slots__ = ("_numbers", "_strings")

    def __init__(self, octets: bytes) -> None:
        self._numbers: dict[int, int] = {}
        self._strings: dict[int, list[bytes]] = {}
        at, end = 0, len(octets)
        while at < end:
            tag, at = _varint(octets, at)
            number, kind = tag >> 3, tag & 7
            if kind == VARINT:
                self._numbers[number], at = _varint(octets, at)
            elif kind == LENGTH:
                start, at = _string(octets, at)
                self._strings.setdefault(number, []).append(octets[start:at])
            else:
                at = _skip(octets, at, tag)

    def signed(self, number: int) -> int:
        """An int64."""
        value = self._numbers.get(number, 0)
        return value - 2**64 if value >> 63 else value

    def octets(self, number: int) -> bytes:
        strings = self._strings.get(number)
        return strings[-1] if strings else b""

    def every(self, number: int) -> list[bytes]:
        """All values of a repeated field."""
        return self._strings.get(number, [])

    def message(self, number: int) -> Message:
        """What stands in a field once; pieces of it are merged."""
        pieces = self.every(number)
        return Message(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def field(number: int, value: int | bytes) -> bytes:
    """An encoded field; nothing for 0 and empty, as proto3 writes them."""
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value % 2**64)
    return string(number, value)


def string(number: int, value: bytes) -> bytes:
    """An encoded field that stands there even if empty, as in a repeated one."""
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next field begins."""
    try:
        byte = octets[at]
        if byte < 0x80:  # as most are
            return byte, at + 1
        value = shift = 0
        for place in range(at, at + VARINT_BYTES):
            byte = octets[place]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value % 2**64, place + 1
    except IndexError:
        pass
    raise Malformed("a protobuf message breaks off in a number")


def _string(octets: bytes, at: int) -> tuple[int, int]:
    """Where a string begins and ends."""
    size, start = _varint(octets, at)
    if start + size > len(octets):
        raise Malformed("a protobuf message breaks off in a string")
    return start, start + size


def _skip(octets: bytes, at: int, tag: int) -> int:
    """Past a field of a kind that nothing reads; groups may hold more of them."""
    open_groups: list[int] = []
    while True:
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            _, at = _varint(octets, at)
        elif kind == LENGTH:
            _, at = _string(octets, at)
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        elif kind == GROUP and len(open_groups) < MAX_GROUPS:
            open_groups.append(number)
        elif kind != GROUP_END or not open_groups or open_groups.pop() != number:
            raise Malformed("a protobuf message has a field of no known kind")
        if at > len(octets):
            raise Malformed("a protobuf message breaks off in a number")
        if not open_groups:
            return at
        tag, at = _varint(octets, at)
