"""Base58check: bytes as text without look-alikes, with four bytes that catch a slip of the pen."""

from __future__ import annotations

import hashlib
from typing import Final

CHECK_BYTES: Final = 4
BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def encode_base58(payload: bytes) -> str:
    """Base58check: the payload and four bytes of its double hash."""
    data = payload + _double_sha256(payload)[:CHECK_BYTES]
    number = int.from_bytes(data, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return BASE58[0] * (len(data) - len(data.lstrip(b"\0"))) + digits


def decode_base58(text: str) -> bytes | None:
    """The payload of a base58check text; None unless its checksum is right."""
    number = 0
    for char in text:
        digit = BASE58.find(char)
        if digit < 0:
            return None
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip(BASE58[0]))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    payload, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    return payload if payload and _double_sha256(payload)[:CHECK_BYTES] == check else None


def _double_sha256(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()
