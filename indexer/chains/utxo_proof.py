"""What a block's own bytes prove: hash, work, transactions, witnesses.

Sources: Bitcoin Core `consensus/merkle.cpp`, `validation.cpp` (IsBlockMutated), `pow.cpp`; BIP 141;
Dogecoin Core `auxpow.cpp`. Hashes are in the order of the hash function here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from operator import eq
from typing import Final

from indexer.chains.rpc import EndpointFailed
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_parse import (
    AUXPOW,
    MWEB,
    WITNESS,
    AuxPow,
    RawBlock,
    body_of,
    skip_inputs,
)
from indexer.chains.utxo_wire import compact_size

COMMITMENT: Final = bytes.fromhex("6a24aa21a9ed")  # what a witness commitment's script begins with
MERGED_MINING: Final = bytes.fromhex("fabe6d6d")
CHAIN_BRANCH: Final = 30  # hashes, at most
ROOT_WITHIN: Final = 20  # bytes of the parent coinbase's script, without the mark before the root
NO_WITNESS: Final = bytes(32)  # stands for the coinbase in the tree of witness hashes
NO_OUTPOINT: Final = bytes(32) + b"\xff\xff\xff\xff"  # what a coinbase spends

_sha256: Final = hashlib.sha256


class NotProved(EndpointFailed):
    """A block is not what its hash says it is."""


def double_sha256(data: bytes) -> bytes:
    return _sha256(_sha256(data).digest()).digest()


def prove_block(block: RawBlock, expected: bytes, network: Parameters) -> None:
    """Raises NotProved unless the block has this hash, the work and just these transactions."""
    if double_sha256(block.header) != expected:
        raise NotProved("a block has another hash than it was asked for by")
    prove_work(block.header, block.auxpow, network)
    if not block.txids or merkle_root(block.txids) != block.header[36:68]:
        raise NotProved("a block's transactions are not those of its header")
    for number, start in enumerate(block.starts):
        if _is_coinbase(block.raw, start) != (number == 0):
            raise NotProved("a block's coinbase is not its first transaction, or not the only one")
    prove_witnesses(block)


def prove_work(header: bytes, auxpow: AuxPow | None, network: Parameters) -> None:
    """Raises NotProved unless the header's hash, or its parent's, meets the header's target."""
    bits = int.from_bytes(header[72:76], "little")
    goal = target(bits)
    if goal == 0 or goal > target(network.easiest):
        raise NotProved(f"a header asks for no work that this network knows ({bits:08x})")
    mined = header
    if network.auxpow is not None and int.from_bytes(header[:4], "little") & AUXPOW:
        if auxpow is None:
            raise NotProved("a merge-mined header comes without its parent's work")
        if int.from_bytes(header[:4], "little") >> 16 != network.auxpow:
            raise NotProved("a merge-mined header is another chain's")
        prove_auxpow(double_sha256(header), auxpow, network.auxpow)
        mined = auxpow.parent
    if int.from_bytes(work_hash(mined, scrypt=network.scrypt), "little") > goal:
        raise NotProved("a header's hash does not meet its target: nobody worked for it")


def work_hash(header: bytes, *, scrypt: bool) -> bytes:
    if scrypt:
        return hashlib.scrypt(header, salt=header, n=1024, r=1, p=1, dklen=32)
    return double_sha256(header)


def target(bits: int) -> int:
    """The largest hash that proves the work; 0 where the compact form means nothing."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    if bits & 0x800000:
        return 0
    goal = mantissa << 8 * (exponent - 3) if exponent > 3 else mantissa >> 8 * (3 - exponent)
    return goal if goal < 1 << 256 else 0


def work(header: bytes) -> int:
    """Hashes that finding this header took on average (Core's GetBlockProof)."""
    goal = target(int.from_bytes(header[72:76], "little"))
    return (1 << 256) // (goal + 1) if goal else 0


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Raises NotProved where two equal neighbours are hashed: a doubled tail has the same root."""
    level = list(leaves)
    while len(level) > 1:
        lefts, rights = level[::2], level[1::2]
        if any(map(eq, lefts, rights)):
            raise NotProved("a block repeats transactions under the same root (CVE-2012-2459)")
        if len(level) % 2:
            rights.append(level[-1])
        level = [
            _sha256(_sha256(left + right).digest()).digest()
            for left, right in zip(lefts, rights, strict=True)
        ]
    return level[0]


def prove_witnesses(block: RawBlock) -> None:
    """Raises NotProved unless the coinbase commits to the witnesses, where there are any."""
    last = block.outputs[1] if len(block.outputs) > 1 else len(block.scripts)
    commitments = [
        script
        for script in block.scripts[:last]
        if script[:6] == COMMITMENT and len(script) >= len(COMMITMENT) + 32
    ]
    if not commitments:
        if block.witnesses:
            raise NotProved("a block has witnesses that its coinbase does not commit to")
        return
    reserved = _coinbase_witness(block)
    if reserved is None:
        raise NotProved("a block's coinbase lacks the witness that its commitment needs")
    if double_sha256(merkle_root(witness_ids(block)) + reserved) != commitments[-1][6:38]:
        raise NotProved("a block's witnesses are not those that its coinbase commits to")


def witness_ids(block: RawBlock) -> list[bytes]:
    """Transactions hashed with their witnesses; zeros for the coinbase, which names their root."""
    raw, ids = block.raw, list(block.txids)
    for number, (start, end) in enumerate(pairwise([*block.starts, block.end])):
        flag, body = body_of(raw, start)
        if not flag & WITNESS:
            continue
        whole = raw[start:end]
        if flag & MWEB:  # its bit and its byte are no part of what Bitcoin hashes
            whole = raw[start : start + 4] + b"\0\1" + raw[body : end - 5] + raw[end - 4 : end]
        ids[number] = double_sha256(whole)
    ids[0] = NO_WITNESS
    return ids


def _coinbase_witness(block: RawBlock) -> bytes | None:
    """The one item of 32 bytes that it must be."""
    raw = block.raw
    flag, at = body_of(raw, block.starts[0])
    if not flag:
        return None
    inputs, at = compact_size(raw, at)
    at = skip_inputs(raw, at, inputs)
    count, at = compact_size(raw, at)
    for _ in range(count):
        size, at = compact_size(raw, at + 8)
        at += size
    return raw[at + 2 : at + 34] if raw[at : at + 2] == b"\x01\x20" else None


def _is_coinbase(raw: bytes, start: int) -> bool:
    _, body = body_of(raw, start)
    return raw[body] == 1 and raw[body + 1 : body + 37] == NO_OUTPOINT


def prove_auxpow(block_hash: bytes, auxpow: AuxPow, chain_id: int) -> None:
    """Raises NotProved unless the parent block's work was done for this block as well."""
    root = fold(block_hash, auxpow.chain_branch, auxpow.chain_position)[::-1]
    if auxpow.position != 0 or len(auxpow.chain_branch) > CHAIN_BRANCH:
        raise NotProved("a merge-mined header's path to its parent's coinbase is not one")
    if int.from_bytes(auxpow.parent[:4], "little") >> 16 == chain_id:
        raise NotProved("a merge-mined header's parent is of the same chain")
    if fold(auxpow.coinbase, auxpow.branch, auxpow.position) != auxpow.parent[36:68]:
        raise NotProved("a merge-mined header's parent does not have that coinbase")
    script = auxpow.script
    at, mark = script.find(root), script.find(MERGED_MINING)
    if at < 0:
        raise NotProved("a merge-mined header is not named in its parent's coinbase")
    if mark >= 0:
        alone = script.find(MERGED_MINING, mark + 1) < 0 and mark + len(MERGED_MINING) == at
    else:
        alone = at <= ROOT_WITHIN
    tail = script[at + 32 : at + 40]
    if not alone or len(tail) < 8:
        raise NotProved("a parent's coinbase may name more than one merge-mined block")
    height, nonce = len(auxpow.chain_branch), int.from_bytes(tail[4:], "little")
    if int.from_bytes(tail[:4], "little") != 1 << height:
        raise NotProved("a parent's coinbase names another number of merge-mined chains")
    if auxpow.chain_position != slot(nonce, chain_id, height):
        raise NotProved("a merge-mined header stands where another chain's should")


def slot(nonce: int, chain_id: int, height: int) -> int:
    """Where a chain's block must stand, so that one work counts once per chain."""
    number = (nonce * 1103515245 + 12345) & 0xFFFFFFFF
    number = ((number + chain_id) * 1103515245 + 12345) & 0xFFFFFFFF
    return number % (1 << height)


def fold(leaf: bytes, branch: Sequence[bytes], index: int) -> bytes:
    """The root of a tree, from one leaf and the hashes beside its path."""
    for other in branch:
        leaf = double_sha256(other + leaf if index & 1 else leaf + other)
        index >>= 1
    return leaf
