"""Output scripts that have an address, and the address that an input reveals.

A key is the whole scriptPubKey of one of five kinds: P2PKH, P2SH, P2WPKH, P2WSH, P2TR. Nothing else
can be watched: whoever gave out such an address can spend such an output alone (P91, P94, P95).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

OP_0, OP_1, OP_PUSHDATA1, OP_PUSHDATA2, OP_16 = 0x00, 0x51, 0x4C, 0x4D, 0x60
OP_CHECKSIG: Final = 0xAC

ANNEX: Final = 0x50  # first byte of a taproot witness's last item that is no part of the spending
# First bytes of a control block (BIP 341): no script that can be run begins with one of these, so
# that a taproot spending is never taken for a P2WSH one.
_LEAVES: Final = frozenset((0x66, 0x7E, 0x80, 0x84, 0x96, 0x98, 0xBA, 0xBC, 0xBE))
_CONTROL: Final = frozenset({*_LEAVES, *(leaf + 1 for leaf in _LEAVES), *range(0xC0, 0x100)})
_DER: Final = 0x30  # first byte of an ECDSA signature
_SIGNATURE_SIZES: Final = range(9, 74)


def hash160(data: bytes) -> bytes:
    return hashlib.new("ripemd160", hashlib.sha256(data).digest()).digest()


def p2pkh(key_hash: bytes) -> bytes:
    return b"\x76\xa9\x14" + key_hash + b"\x88\xac"


def p2sh(script_hash: bytes) -> bytes:
    return b"\xa9\x14" + script_hash + b"\x87"


def witness_program(version: int, program: bytes) -> bytes:
    opcode = version + OP_1 - 1 if version else OP_0
    return bytes((opcode, len(program))) + program


def pubkey_hash(script: bytes) -> bytes | None:
    """The 20 bytes that a P2PKH script holds; None for any other script."""
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return script[3:23]
    return None


def script_hash(script: bytes) -> bytes | None:
    """The 20 bytes that a P2SH script holds; None for any other script."""
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87:
        return script[2:22]
    return None


def program(script: bytes) -> tuple[int, bytes] | None:
    """Version and program of a script that is a witness program (BIP 141), of any version."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == OP_0:
        return 0, script[2:]
    return (script[0] - OP_1 + 1, script[2:]) if OP_1 <= script[0] <= OP_16 else None


def addressable(script: bytes, *, segwit: bool) -> bool:
    """Whether a script is one of the five kinds (without witness programs: the first two)."""
    size = len(script)
    if size == 25:
        return pubkey_hash(script) is not None
    if size == 23:
        return script_hash(script) is not None
    if not segwit:
        return False
    return (size == 22 and script[:2] == b"\x00\x14") or (
        size == 34 and script[1] == 0x20 and script[0] in (OP_0, OP_1)
    )


def is_taproot(script: bytes) -> bool:
    """Whether a script is P2TR, which no spending reveals."""
    return len(script) == 34 and script[:2] == b"\x51\x20"


def bare_pubkey(script: bytes) -> bytes | None:
    """The public key of a P2PK script; None for any other script."""
    if len(script) not in (35, 67) or script[-1] != OP_CHECKSIG or script[0] != len(script) - 2:
        return None
    key = script[1:-1]
    return key if is_pubkey(key) else None


def is_pubkey(key: bytes) -> bool:
    """Shaped like a public key in one of Core's forms: compressed, uncompressed, hybrid."""
    if len(key) == 33:
        return key[0] in (2, 3)
    return len(key) == 65 and key[0] in (4, 6, 7)


def pushes(script: bytes) -> list[bytes] | None:
    """What a script of nothing but pushes leaves on the stack; None for any other script."""
    items: list[bytes] = []
    at, end = 0, len(script)
    while at < end:
        opcode = script[at]
        at += 1
        if opcode > OP_16:
            return None
        if opcode > OP_PUSHDATA2 + 1:  # OP_1NEGATE, OP_RESERVED and the small numbers
            items.append(bytes((opcode,)))
            continue
        size = opcode
        if opcode >= OP_PUSHDATA1:
            width = 1 << (opcode - OP_PUSHDATA1)
            size = int.from_bytes(script[at : at + width], "little")
            at += width
        if at + size > end:
            return None
        items.append(script[at : at + size])
        at += size
    return items


def spent_key(script_sig: bytes, witness: Sequence[bytes]) -> bytes | None:
    """The key of the output that an input spends, from what it reveals; None where it doesn't.

    P2TR reveals none, P2PK and bare multisig only signatures. What is revealed is what a wallet's
    own inputs reveal; a stranger can dress a script of his own up as another kind, and thereby only
    name another sender of his own money.
    """
    if not witness:
        return _spent_without_witness(script_sig)
    if not script_sig:
        return _spent_with_witness(witness)
    items = pushes(script_sig)
    # A witness beside a script: consensus has the script be one push, the P2SH's witness program.
    if items is None or len(items) != 1 or program(items[0]) is None:
        return None
    return p2sh(hash160(items[0]))


def _spent_without_witness(script_sig: bytes) -> bytes | None:
    items = pushes(script_sig)
    if not items or _is_signature(items[-1]):
        return None
    last = items[-1]
    if len(items) == 2 and _is_signature(items[0]) and is_pubkey(last):
        return p2pkh(hash160(last))
    return p2sh(hash160(last))


def _spent_with_witness(witness: Sequence[bytes]) -> bytes | None:
    last = witness[-1]
    if len(witness) > 1 and last[:1] == bytes((ANNEX,)):
        return None
    if len(witness) == 1 and len(last) in (64, 65):  # a Schnorr signature
        return None
    if len(witness) > 1 and len(last) % 32 == 1 and len(last) > 32 and last[0] in _CONTROL:
        return None
    if len(witness) == 2 and _is_signature(witness[0]) and len(last) == 33 and is_pubkey(last):
        return witness_program(0, hash160(last))
    return witness_program(0, hashlib.sha256(last).digest())


def _is_signature(item: bytes) -> bool:
    return len(item) in _SIGNATURE_SIZES and item[0] == _DER
