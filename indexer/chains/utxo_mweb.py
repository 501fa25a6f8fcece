"""Where a Litecoin extension block ends (MWEB, LIP-0002).

What moves inside it has no amounts to see and no addresses of ours. It is walked to its last byte
only so that a whole block is known to be whole. Sizes: Litecoin Core, `libmw/include/mw/models`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from indexer.chains.utxo_wire import Malformed, compact_size, var_int

HASH, KEY, SIGNATURE, RANGE_PROOF = 32, 33, 64, 675  # bytes
STANDARD_FIELDS: Final = KEY + 1 + 8 + 16  # of an output: key, view tag, masked value and nonce

# Bits of the features of …
INPUT_KEY, INPUT_EXTRA = 1, 2
OUTPUT_STANDARD, OUTPUT_EXTRA = 1, 2
KERNEL_FEE, KERNEL_PEGIN, KERNEL_PEGOUTS, KERNEL_LOCK, KERNEL_STEALTH, KERNEL_EXTRA = (
    1,
    2,
    4,
    8,
    16,
    32,
)


def end_of_extension(raw: bytes, at: int) -> int:
    """Raises Malformed, and IndexError where it breaks off."""
    present, at = raw[at], at + 1
    if present == 0:
        return at
    if present != 1:
        raise Malformed("an extension block is neither there nor missing")
    at = var_int(raw, at)  # height
    at += 3 * HASH + 2 * HASH  # roots of outputs, kernels and leaves; two offsets
    at = var_int(raw, var_int(raw, at))  # sizes of two of the trees
    for walk in (_input, _output, _kernel):
        at = _each(raw, at, walk)
    return at


def _each(raw: bytes, at: int, walk: Callable[[bytes, int], int]) -> int:
    count, at = compact_size(raw, at)
    for _ in range(count):
        at = walk(raw, at)
    return at


def _input(raw: bytes, at: int) -> int:
    features = raw[at]
    at += 1 + HASH + KEY + KEY
    if features & INPUT_KEY:
        at += KEY
    if features & INPUT_EXTRA:
        at = _bytes(raw, at)
    return at + SIGNATURE


def _output(raw: bytes, at: int) -> int:
    at += 3 * KEY
    features = raw[at]
    at += 1
    if features & OUTPUT_STANDARD:
        at += STANDARD_FIELDS
    if features & OUTPUT_EXTRA:
        at = _bytes(raw, at)
    return at + RANGE_PROOF + SIGNATURE


def _kernel(raw: bytes, at: int) -> int:
    features = raw[at]
    at += 1
    for bit in (KERNEL_FEE, KERNEL_PEGIN):
        if features & bit:
            at = var_int(raw, at)
    if features & KERNEL_PEGOUTS:
        at = _each(raw, at, _pegout)
    if features & KERNEL_LOCK:
        at = var_int(raw, at)
    if features & KERNEL_STEALTH:
        at += KEY
    if features & KERNEL_EXTRA:
        at = _bytes(raw, at)
    return at + KEY + SIGNATURE


def _pegout(raw: bytes, at: int) -> int:
    return _bytes(raw, var_int(raw, at))


def _bytes(raw: bytes, at: int) -> int:
    size, at = compact_size(raw, at)
    return at + size
