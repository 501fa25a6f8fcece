"""A raw block read in one pass: where its transactions and outputs lie, and their ids.

No object is made for a transaction, an input or a witness. An id is the hash of slices of the
block; output scripts are collected in one flat list, so that all of them can be looked up at once.
What only a hit needs (amounts, inputs) is read later, from the offsets kept here, and so are the
witnesses, for their proof.

Lengths below 253, nearly all of them, are read in place: calls are what takes the time here.

Every byte must be accounted for: what is left over, or runs beyond the end, is `Malformed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from indexer.chains.utxo_mweb import end_of_extension
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_wire import Malformed, compact_size

HEADER_BYTES: Final = 80
OUTPOINT_BYTES: Final = 36
WITNESS, MWEB = 1, 8  # bits of the flag after the marker
FLAGS: Final = (WITNESS,)  # that a transaction may have
MWEB_FLAGS: Final = (WITNESS, MWEB, WITNESS | MWEB)  # … on a network with extension blocks
AUXPOW: Final = 0x100  # bit of a header's version: merge-mined

_sha256: Final = hashlib.sha256


class AuxPow(NamedTuple):
    """The parent chain's work that a merge-mined header points to."""

    coinbase: bytes  # the parent's coinbase: its id, without witness
    script: bytes  # of the coinbase's input
    branch: list[bytes]  # from the coinbase to the parent's merkle root
    position: int  # of the coinbase
    chain_branch: list[bytes]  # from this block's hash to the root in the coinbase's script
    chain_position: int  # of this block among the chains mined together
    parent: bytes  # 80 bytes


@dataclass(slots=True)
class RawBlock:
    """A block's bytes, and what lies where in them."""

    raw: bytes
    auxpow: AuxPow | None = None
    txids: list[bytes] = field(default_factory=list)  # in the order of the hash function
    starts: list[int] = field(default_factory=list)  # of each transaction
    end: int = 0  # of the last one
    outputs: list[int] = field(default_factory=list)  # how many stand before each transaction's
    scripts: list[bytes] = field(default_factory=list)  # of all outputs
    places: list[int] = field(default_factory=list)  # of all outputs
    witnesses: int = 0  # transactions with one
    hogex: bool = False  # the last transaction is Litecoin's, from and to its extension block

    @property
    def header(self) -> bytes:
        return self.raw[:HEADER_BYTES]


def parse_block(raw: bytes, network: Parameters) -> RawBlock:
    """Raises Malformed unless the bytes are one whole block of this network."""
    block = RawBlock(raw)
    try:
        block.auxpow, at = _header(raw, network)
        count, at = compact_size(raw, at)
        at = _transactions(block, count, at, MWEB_FLAGS if network.mweb else FLAGS)
        block.end = at
        if block.hogex:
            at = end_of_extension(raw, at)
    except IndexError:
        raise Malformed("a block breaks off") from None
    if at != len(raw):
        raise Malformed(f"a block is {at} bytes long, {len(raw)} came")
    return block


def parse_header(raw: bytes, network: Parameters) -> AuxPow | None:
    """What a header of this network brings beside its 80 bytes, if it does.

    Raises Malformed unless the bytes are just that.
    """
    if len(raw) == HEADER_BYTES:
        return None
    try:
        auxpow, at = _header(raw, network)
    except IndexError:
        raise Malformed("a header breaks off") from None
    if at != len(raw):
        raise Malformed(f"a header is {at} bytes long, {len(raw)} came")
    return auxpow


def _header(raw: bytes, network: Parameters) -> tuple[AuxPow | None, int]:
    if network.auxpow is None or not int.from_bytes(raw[:4], "little") & AUXPOW:
        return None, HEADER_BYTES
    return _auxpow(raw, HEADER_BYTES)


def _transactions(block: RawBlock, count: int, at: int, flags: Collection[int]) -> int:
    """Note so many transactions, from `at`; returns where the last one ends."""
    raw, scripts, places = block.raw, block.scripts, block.places
    for _ in range(count):
        if block.hogex:
            raise Malformed("a transaction follows the one that closes the extension block")
        start = at
        flag, body = body_of(raw, start)
        if body != start + 4 and flag not in flags:
            raise Malformed(f"a transaction has the unknown flag {flag}")
        block.starts.append(start)
        block.outputs.append(len(scripts))
        inputs, at = raw[body], body + 1
        if inputs >= 253:
            inputs, at = compact_size(raw, body)
        at = _outputs(raw, skip_inputs(raw, at, inputs), scripts, places)
        if not flag:
            at += 4
            hashed = raw[start:at]
        else:
            stripped = raw[start : start + 4] + raw[body:at]
            if flag & WITNESS:
                block.witnesses += 1
                at = _skip_witness(raw, at, inputs)
            if flag & MWEB:
                at = _close(block, at)
            hashed = stripped + raw[at : at + 4]
            at += 4
        block.txids.append(_sha256(_sha256(hashed).digest()).digest())
    return at


def _close(block: RawBlock, at: int) -> int:
    """Past the empty byte of the transaction that pays into and out of the extension block."""
    if block.raw[at] != 0:
        raise Malformed("a transaction in a block carries its part of the extension block")
    block.hogex = True
    return at + 1


def body_of(raw: bytes, start: int) -> tuple[int, int]:
    """A transaction's flag, 0 for none, and where its inputs begin."""
    return (raw[start + 5], start + 6) if raw[start + 4] == 0 else (0, start + 4)


def skip_inputs(raw: bytes, at: int, count: int) -> int:
    for _ in range(count):
        at += OUTPOINT_BYTES
        size = raw[at]
        if size < 253:
            at += size + 5  # with the sequence
        else:
            size, at = compact_size(raw, at)
            at += size + 4
    return at


def _outputs(raw: bytes, at: int, scripts: list[bytes], places: list[int]) -> int:
    count, at = raw[at], at + 1
    if count >= 253:
        count, at = compact_size(raw, at - 1)
    for _ in range(count):
        places.append(at)
        size = raw[at + 8]
        if size < 253:
            script = at + 9
        else:
            size, script = compact_size(raw, at + 8)
        at = script + size
        scripts.append(raw[script:at])
    return at


def _skip_witness(raw: bytes, at: int, inputs: int) -> int:
    for _ in range(inputs):
        items, at = raw[at], at + 1
        if items >= 253:
            items, at = compact_size(raw, at - 1)
        for _ in range(items):
            size = raw[at]
            if size < 253:
                at += size + 1
            else:
                size, at = compact_size(raw, at)
                at += size
    return at


def _auxpow(raw: bytes, at: int) -> tuple[AuxPow, int]:
    coinbase = RawBlock(raw)
    end = _transactions(coinbase, 1, at, FLAGS)
    inputs, first = compact_size(raw, body_of(raw, at)[1])
    if inputs != 1:
        raise Malformed("the parent block's coinbase has not one input")
    size, script = compact_size(raw, first + OUTPOINT_BYTES)
    end += 32  # the parent's hash, which is that of the header below
    branch, end = _branch(raw, end)
    position, end = int.from_bytes(raw[end : end + 4], "little"), end + 4
    chain_branch, end = _branch(raw, end)
    chain_position, end = int.from_bytes(raw[end : end + 4], "little"), end + 4
    parent = raw[end : end + HEADER_BYTES]
    return (
        AuxPow(
            coinbase.txids[0],
            raw[script : script + size],
            branch,
            position,
            chain_branch,
            chain_position,
            parent,
        ),
        end + HEADER_BYTES,
    )


def _branch(raw: bytes, at: int) -> tuple[list[bytes], int]:
    count, at = compact_size(raw, at)
    end = at + 32 * count
    if end > len(raw):
        raise Malformed("a block breaks off")
    return [raw[place : place + 32] for place in range(at, end, 32)], end
