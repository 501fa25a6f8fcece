"""Keccak-256, RLP, and the ordered Merkle-Patricia tries that block headers commit to.

Only what proofs need, because they run over every block: encoding, no decoding; one trie built at
once from all its values, nothing stored. Source: the Yellow Paper's appendices B, C and D.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sha3

EMPTY_ROOT: Final = bytes.fromhex(
    "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
)
SHORT: Final = 56  # lengths below it fit into RLP's prefix byte

_STRINGS: Final = [bytes([0x80 + length]) for length in range(SHORT)]
_LISTS: Final = [bytes([0xC0 + length]) for length in range(SHORT)]
_LEAF_ODD: Final = "3"
_LEAF_EVEN: Final = "20"
_EXTENSION_ODD: Final = "1"
_EXTENSION_EVEN: Final = "00"


def keccak(data: bytes) -> bytes:
    digest: bytes = sha3.keccak_256(data).digest()
    return digest


def rlp_bytes(value: bytes) -> bytes:
    length = len(value)
    if length < SHORT:
        if length == 1 and value[0] < 0x80:
            return value
        return _STRINGS[length] + value
    return _long(0xB7, length) + value


def rlp_int(value: int) -> bytes:
    """A whole number >= 0 as minimal big-endian bytes; 0 is the empty string."""
    return rlp_bytes(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rlp_list(encoded: Sequence[bytes]) -> bytes:
    """A list of items that are encoded already."""
    body = b"".join(encoded)
    length = len(body)
    if length < SHORT:
        return _LISTS[length] + body
    return _long(0xF7, length) + body


def trie_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie that maps rlp(index) to each value: transactions, receipts, withdrawals."""
    if not values:
        return EMPTY_ROOT
    items = _items(values)
    return keccak(_node(items, 0, len(items), 0))


def trie_path(values: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes of that trie from its root down to the value at an index.

    Values of 32 bytes and more, as transactions and receipts are, have no node inside another.
    """
    items, key = _items(values), rlp_int(index).hex()
    low, high, depth = 0, len(items), 0
    path: list[bytes] = []
    while True:
        path.append(_node(items, low, high, depth))
        if high - low == 1:
            return path
        fork = _fork(items, low, high, depth)
        if fork > depth:  # an extension, and the branch below it
            path.append(_branch(items, low, high, fork))
        within = [at for at in range(low, high) if items[at][0][fork] == key[fork]]
        low, high, depth = within[0], within[-1] + 1, fork + 1


def _items(values: Sequence[bytes]) -> list[tuple[str, bytes]]:
    """Keys as nibbles, with their values."""
    # No key is another's prefix, so a node is a leaf, a branch, or an extension above a branch.
    return sorted((rlp_int(index).hex(), value) for index, value in enumerate(values))


def _node(items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    """RLP of the node over items[low:high], whose keys share their first `depth` nibbles."""
    first = items[low][0]
    if high - low == 1:
        path = _path(first[depth:], _LEAF_ODD, _LEAF_EVEN)
        return rlp_list((path, rlp_bytes(items[low][1])))
    fork = _fork(items, low, high, depth)
    if fork == depth:
        return _branch(items, low, high, depth)
    child = _reference(_branch(items, low, high, fork))
    return rlp_list((_path(first[depth:fork], _EXTENSION_ODD, _EXTENSION_EVEN), child))


def _fork(items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> int:
    """How many nibbles the keys of items[low:high] share; at least `depth`."""
    first, last = items[low][0], items[high - 1][0]
    while first[depth] == last[depth]:
        depth += 1
    return depth


def _branch(items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    children = [b"\x80"] * 17
    while low < high:
        nibble, end = items[low][0][depth], low + 1
        while end < high and items[end][0][depth] == nibble:
            end += 1
        children[int(nibble, 16)] = _reference(_node(items, low, end, depth + 1))
        low = end
    return rlp_list(children)


def _reference(node: bytes) -> bytes:
    """How a parent holds a node: itself where it is short, else its hash."""
    return node if len(node) < 32 else b"\xa0" + keccak(node)


def _path(nibbles: str, odd: str, even: str) -> bytes:
    return rlp_bytes(bytes.fromhex((odd if len(nibbles) % 2 else even) + nibbles))


def _long(base: int, length: int) -> bytes:
    if length < 0x100:
        return bytes((base + 1, length))
    if length < 0x10000:
        return bytes((base + 2, length >> 8, length & 0xFF))
    size = (length.bit_length() + 7) // 8
    return bytes([base + size]) + length.to_bytes(size, "big")
