"""TRON's ids and roots: rebuilt from recorded mainnet blocks, and from small ones made by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tronpy.keys import Signature

from indexer.chains.answers import Malformed, NotProved
from indexer.chains.protobuf import Message, field, string, varint
from indexer.chains.tron_codec import PREFIX, TronCodec
from indexer.chains.tron_proof import (
    NO_TRANSACTIONS,
    header_bytes,
    header_id,
    merkle_root,
    prove,
    prove_header,
    transaction_bytes,
)
from indexer.chains.tron_transaction import created_address, read_order
from indexer.chains.tron_wire import WireBlock, WireHeaderData
from indexer.devnet.tron_block import Block
from tests.tron_samples import PAYER, WITNESS, calls, load, pays, pays_trc10, sealed

EXACT = ("mainnet_60954080_getblockbynum.json.gz", "mainnet_60836289_getblockbynum.json.gz")
DERIVED = "mainnet_79072107_getblockbynum_derived.json.gz"
PROTOBUF = "mainnet_79072107_blockextention_protobuf.json.gz"
UNKNOWN_FIELDS = "6e27bfe4"  # the transaction whose result JSON can't give


def wire(block: Block, **altered: Any) -> WireBlock:
    return msgspec.convert({**copy.deepcopy(block.json), **altered}, WireBlock)


def small_block() -> Block:
    return sealed(pays(1), pays_trc10(2), calls(value=3), pays(4))


def recorded(folder: Path, name: str) -> dict[str, Any]:
    """A recorded block, with the one address of its header in hex."""
    block: dict[str, Any] = load(folder / "tron" / name)
    data = block["block_header"]["raw_data"]
    if data["witness_address"].startswith("T"):
        key = TronCodec().parse_address(data["witness_address"])
        data["witness_address"] = (PREFIX + key).hex()
    return block


def signer(digest: bytes, signature: bytes) -> bytes:
    """Who signed, as another implementation has it."""
    parity = bytes([signature[64] % 27])
    key = Signature(signature[:64] + parity).recover_public_key_from_msg_hash(digest)
    return bytes(key.to_tvm_address())


# ------------------------------------------------------------------ small ones


def test_a_header_is_encoded_as_protobuf_has_it() -> None:
    data = WireHeaderData(
        timestamp=300, txTrieRoot="aa", parentHash="bbcc", number=1, witness_id=2,
        witness_address="dd", version=32, accountStateRoot="ee",
    )  # fmt: skip
    encoded = "08ac021201aa1a02bbcc380140024a01dd50205a01ee"
    assert header_bytes(data).hex() == encoded
    digest = sha256(bytes.fromhex(encoded)).digest()
    assert header_id(data) == bytes(7) + b"\1" + digest[8:]


def test_a_tree_is_hashed_in_pairs_and_an_odd_leaf_goes_up_unchanged() -> None:
    def pair(left: bytes, right: bytes) -> bytes:
        return sha256(left + right).digest()

    a, b, c, d, e = (bytes([n]) * 32 for n in range(5))
    assert merkle_root([]) == NO_TRANSACTIONS == bytes(32)
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == pair(pair(a, b), c)
    assert merkle_root([a, b, c, d, e]) == pair(pair(pair(a, b), pair(c, d)), e)


def test_a_simulated_block_proves_and_is_signed() -> None:
    block = small_block()
    header = wire(block)
    assert prove_header(header) == block.hash
    proved = prove(header)
    assert proved.complete
    assert [tx.id for tx in proved.transactions] == [e.transaction.hash for e in block.executed]
    seal = bytes.fromhex(block.json["block_header"]["witness_signature"])
    assert signer(sha256(header_bytes(header.data)).digest(), seal) == WITNESS.address
    for each in block.executed:
        assert signer(each.transaction.hash, each.transaction.signature) == PAYER.address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 11),
        ("timestamp", 1_700_000_000_001),
        ("txTrieRoot", "00" * 32),
        ("parentHash", "01" + "00" * 31),
        ("witness_address", "41" + "00" * 20),
        ("version", 31),
        ("witness_id", 1),
        ("accountStateRoot", "00"),
    ],
)
@pytest.mark.pitfall("P81")
def test_a_header_that_was_altered_has_another_id(name: str, value: int | str) -> None:
    block = wire(small_block())
    setattr(block.data, name, value)
    with pytest.raises(NotProved, match="its header has another id"):
        prove_header(block)


def test_a_transaction_that_was_altered_has_another_id() -> None:
    block = wire(small_block())
    block.transactions[0].raw_data_hex = block.transactions[1].raw_data_hex
    with pytest.raises(NotProved, match="its bytes have another id"):
        prove(block)


@pytest.mark.pitfall("P67", "P80")
def test_what_the_root_commits_to_can_not_be_altered_unnoticed() -> None:
    def changes(block: WireBlock) -> Iterator[None]:
        txs = block.transactions
        txs[0].ret[0].contractRet = "REVERT"
        yield
        txs[0].ret = []
        yield
        txs[0].signature = []
        yield
        txs[0], txs[1] = txs[1], txs[0]
        yield
        del txs[-1]
        yield

    steps = len(list(changes(wire(small_block()))))
    for step in range(steps):
        block = wire(small_block())
        altering = changes(block)
        for _ in range(step + 1):
            next(altering)
        assert not prove(block).complete


@pytest.mark.pitfall("P76")
def test_a_block_whose_transactions_were_left_out_does_not_prove() -> None:
    with pytest.raises(NotProved, match="were left out"):
        prove(wire(small_block(), transactions=[]))
    assert prove(wire(sealed())).complete


def test_a_transaction_twice_does_not_prove() -> None:
    block = wire(small_block())
    block.transactions.append(block.transactions[0])
    with pytest.raises(NotProved, match="twice"):
        prove(block)


# ------------------------------------------------------------------ protobuf


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1), st.binary(max_size=300))
def test_fields_are_read_as_they_were_written(number: int, octets: bytes) -> None:
    message = Message(field(3, number) + string(300, octets))
    assert (message.signed(3), message.octets(300)) == (number, octets)
    assert (message.signed(300), message.octets(3), message.every(4)) == (0, b"", [])


def test_readers_of_protobuf_take_the_last_and_merge_pieces() -> None:
    twice = Message(field(1, 5) + field(1, 6) + string(2, field(1, 7)) + string(2, field(2, 8)))
    assert twice.signed(1) == 6
    assert (twice.message(2).signed(1), twice.message(2).signed(2)) == (7, 8)


def test_fields_of_unknown_kinds_are_passed_over() -> None:
    group = varint(9 << 3 | 3) + field(1, 99) + string(2, b"x") + varint(9 << 3 | 4)
    fixed = varint(7 << 3 | 1) + bytes(8) + varint(7 << 3 | 5) + bytes(4)
    message = Message(group + fixed + varint(1 << 3) + b"\x05")
    assert (message.signed(1), message.every(2)) == (5, [])


@pytest.mark.parametrize(
    "octets",
    [
        b"\x08", b"\x08" + b"\xff" * 10, b"\x0a\x05abc", b"\x09\0\0", b"\x0d\0", b"\x0b\x08\x01",
        b"\x0c", b"\x0b\x14", b"\x0e", b"\x0b" * 200,
    ],
)  # fmt: skip
def test_what_breaks_off_is_malformed(octets: bytes) -> None:
    with pytest.raises(Malformed):
        Message(octets)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_malformed(octets: bytes) -> None:
    with suppress(Malformed):
        Message(octets)


# ------------------------------------------------------------------ recorded ones


@pytest.mark.parametrize("name", EXACT)
def test_recorded_blocks_prove(chain_fixtures: Path, name: str) -> None:
    json = recorded(chain_fixtures, name)
    block = msgspec.convert(json, WireBlock)
    assert prove_header(block).hex() == json["blockID"]
    proved = prove(block)
    assert proved.complete
    for tx, shown in zip(proved.transactions, json["transactions"], strict=True):
        compare(read_order(tx.raw, tx.id), shown, tx.id)


def compare(order: Any, shown: dict[str, Any], tx: bytes) -> None:
    """What was read from the signed bytes is what the node reads from them."""
    (contract,) = shown["raw_data"]["contract"]
    value = contract["parameter"]["value"]
    sender = key_of(value["owner_address"])
    match contract["type"]:
        case "TransferContract":
            expected = [(b"", sender, key_of(value["to_address"]), value["amount"])]
        case "TransferAssetContract":
            name = value["asset_name"]
            asset = bytes.fromhex(name) if len(name) == 14 else name.encode()
            expected = [(asset, sender, key_of(value["to_address"]), value["amount"])]
        case "TriggerSmartContract" if "call_value" in value:
            expected = [(b"", sender, key_of(value["contract_address"]), value["call_value"])]
        case "CreateSmartContract":
            made = key_of(shown["contract_address"])
            assert made == created_address(tx, PREFIX + sender)
            expected = [(b"", sender, made, value["new_contract"]["call_value"])]
        case _:
            expected = []
    assert [payment[:4] for payment in order.payments] == expected
    assert order.executed == (contract["type"] in ("TriggerSmartContract", "CreateSmartContract"))


def key_of(text: str) -> bytes:
    return TronCodec().parse_address(text)


@pytest.mark.pitfall("P80")
def test_one_recorded_block_proves_from_its_bytes_and_not_from_json(chain_fixtures: Path) -> None:
    block = msgspec.convert(recorded(chain_fixtures, DERIVED), WireBlock)
    assert prove_header(block) == bytes.fromhex(block.blockID)
    proved = prove(block)
    assert not proved.complete

    packed = load(chain_fixtures / "tron" / PROTOBUF)["blockExtention"]
    extention = Message(bytes.fromhex(packed.removeprefix("0x")))
    whole = [Message(each).octets(1) for each in extention.every(1)]
    leaves = [sha256(each).digest() for each in whole]
    assert merkle_root(leaves).hex() == block.data.txTrieRoot
    assert extention.octets(3).hex() == block.blockID
    differing = [
        tx.id.hex() for tx, leaf in zip(proved.transactions, leaves, strict=True) if tx.leaf != leaf
    ]
    assert len(differing) == 1
    assert differing[0].startswith(UNKNOWN_FIELDS)


@pytest.mark.pitfall("P81")
def test_recorded_headers_have_the_ids_of_their_bytes_and_link(chain_fixtures: Path) -> None:
    headers = load(chain_fixtures / "tron" / "mainnet_78000000-78000099_headers.json.gz")
    parent = None
    by_itself = 0
    for raw_text, id_text, seal in zip(
        headers["blockHeaderRawBytes"], headers["blockIds"], headers["witnessSignatures"],
        strict=True,
    ):  # fmt: skip
        raw, block_id = (bytes.fromhex(text[2:]) for text in (raw_text, id_text))
        message = Message(raw)
        data = WireHeaderData(
            timestamp=message.signed(1),
            txTrieRoot=message.octets(2).hex(),
            parentHash=message.octets(3).hex(),
            number=message.signed(7),
            witness_id=message.signed(8),
            witness_address=message.octets(9).hex(),
            version=message.signed(10),
            accountStateRoot=message.octets(11).hex(),
        )
        assert header_bytes(data) == raw
        assert header_id(data) == block_id
        assert parent in (None, message.octets(3))
        parent = block_id
        by_itself += signer(sha256(raw).digest(), bytes.fromhex(seal[2:])) == message.octets(9)[1:]
    assert 0 < by_itself <= 100  # others sign with a key that their witness permitted


def test_recorded_transactions_have_their_ids_leaves_and_root(chain_fixtures: Path) -> None:
    folder = chain_fixtures / "tron"
    transfers = load(folder / "mainnet_78115149_trc20_55of344_encodedtx.json.gz")["trc20Txs"]
    for each in transfers:
        whole = bytes.fromhex(each["encodedTx"][2:])
        assert sha256(whole).hexdigest() == each["txLeaf"][2:]
        message = Message(whole)
        raw = message.octets(1)
        assert sha256(raw).hexdigest() == each["txId"][2:]
        assert transaction_bytes(raw, message.every(2), message.every(5)) == whole
        order = read_order(raw, sha256(raw).digest())
        assert order.executed
        assert order.payments == ()
    proof = load(folder / "mainnet_78812179_txproof_446leaves.json.gz")
    leaves = [bytes.fromhex(leaf[2:]) for leaf in proof["leaves"]]
    assert "0x" + merkle_root(leaves).hex() == proof["root"]
