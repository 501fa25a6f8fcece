"""A raw block read in one pass: where its transactions and outputs lie, and their ids.

No object is made for a transaction, an input or a witness. An id is the hash of slices of the
block; output scripts are collected in one flat list, so that all of them can be looked up at once.
What only a hit needs (amounts, inputs) is read later, from the offsets kept here.

Every byte must be accounted for: what is left over, or runs beyond the end, is `Malformed`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from indexer.chains.utxo_mweb import end_of_extension
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_wire import Malformed, compact_size

HEADER_BYTES: Final = 80
OUTPOINT_BYTES: Final = 36
WITNESS, MWEB = 1, 8  # bits of the flag after the marker
AUXPOW: Final = 0x100  # bit of a header's version: merge-mined
NO_WITNESS: Final = bytes(32)  # stands for the coinbase in the tree of witness hashes

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
    wtxids: list[bytes] = field(default_factory=list)  # with the coinbase's as zeros
    starts: list[int] = field(default_factory=list)  # of each transaction
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
        for _ in range(count):
            if block.hogex:
                raise Malformed("a transaction follows the one that closes the extension block")
            at = _transaction(block, at, mweb=network.mweb)
        if block.hogex:
            at = end_of_extension(raw, at)
    except IndexError:
        raise Malformed("a block breaks off") from None
    if at != len(raw):
        raise Malformed(f"a block is {at} bytes long, {len(raw)} came")
    if block.wtxids:
        block.wtxids[0] = NO_WITNESS
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


def _transaction(block: RawBlock, start: int, *, mweb: bool) -> int:
    """Note a transaction; returns where it ends."""
    raw = block.raw
    flag, body = body_of(raw, start)
    if body != start + 4 and flag not in ((WITNESS, MWEB, WITNESS | MWEB) if mweb else (WITNESS,)):
        raise Malformed(f"a transaction has the unknown flag {flag}")
    block.starts.append(start)
    block.outputs.append(len(block.scripts))
    inputs, at = compact_size(raw, body)
    at = _outputs(block, skip_inputs(raw, at, inputs))
    if not flag:
        at += 4
        txid = wtxid = _sha256(_sha256(raw[start:at]).digest()).digest()
    else:
        stripped = raw[start : start + 4] + raw[body:at]
        if flag & WITNESS:
            block.witnesses += 1
            at = _skip_witness(raw, at, inputs)
        witnessed = raw[body:at]
        if flag & MWEB:
            if raw[at] != 0:
                raise Malformed("a transaction in a block carries its part of the extension block")
            block.hogex = True
            at += 1
        locktime = raw[at : at + 4]
        at += 4
        txid = wtxid = _sha256(_sha256(stripped + locktime).digest()).digest()
        if flag == WITNESS:
            wtxid = _sha256(_sha256(raw[start:at]).digest()).digest()
        elif flag & WITNESS:
            marked = raw[start : start + 4] + b"\0\1" + witnessed + locktime
            wtxid = _sha256(_sha256(marked).digest()).digest()
    block.txids.append(txid)
    block.wtxids.append(wtxid)
    return at


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


def _outputs(block: RawBlock, at: int) -> int:
    raw, scripts, places = block.raw, block.scripts, block.places
    count, at = compact_size(raw, at)
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
        items = raw[at]
        at += 1
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
    end = _transaction(coinbase, at, mweb=False)
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
