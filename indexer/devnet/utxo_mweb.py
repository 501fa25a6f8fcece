"""Litecoin's extension block (MWEB), as far as a reader of blocks meets it.

What moves inside is not simulated: it holds one kernel, which names what is paid out of it. Sizes:
Litecoin Core, `libmw/include/mw/models`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Final

from indexer.chains.utxo_mweb import HASH, KERNEL_FEE, KERNEL_PEGOUTS, KEY, SIGNATURE
from indexer.chains.utxo_script import witness_program
from indexer.devnet.utxo_block import Input, Output, Transaction, count, sized

POOL_VERSION: Final = 8  # of the witness program that holds all that is inside
POOL_UNITS: Final = 10**13  # base units that stay inside
FEE: Final = 100  # base units
PRESENT: Final = b"\1"


def close(number: int, outputs: Sequence[Output], rng: Random) -> tuple[Transaction, bytes]:
    """The last transaction of a block, which pays `outputs` from inside, and what follows it."""
    pool = Output(POOL_UNITS, witness_program(POOL_VERSION, rng.randbytes(HASH)))
    before = hashlib.sha256(f"pool {number}".encode()).digest() + bytes(4)
    closing = Transaction((Input(before),), (pool, *outputs), closing=True)
    paid = b"".join(var_int(output.units) + sized(output.script) for output in outputs)
    kernel = bytes((KERNEL_FEE | KERNEL_PEGOUTS,)) + var_int(FEE) + count(len(outputs)) + paid
    kernel += rng.randbytes(KEY + SIGNATURE)
    header = var_int(number) + rng.randbytes(5 * HASH) + var_int(1) * 2
    return closing, PRESENT + header + count(0) + count(0) + count(1) + kernel


def var_int(number: int) -> bytes:
    """Core's VARINT: base 128, highest digit first, one off in all but the last."""
    digits = [number & 0x7F]
    while number > 0x7F:
        number = (number >> 7) - 1
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))
