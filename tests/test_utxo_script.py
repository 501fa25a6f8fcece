"""Which output scripts have an address, and which address an input reveals."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from indexer.chains.utxo_script import (
    addressable,
    bare_pubkey,
    hash160,
    is_pubkey,
    p2pkh,
    p2sh,
    program,
    pushes,
    spent_key,
    witness_program,
)
from indexer.devnet.utxo_block import sized

KEY = b"\x02" + b"\x11" * 32
LONG_KEY = b"\x04" + b"\x22" * 64
SIGNATURE = b"\x30" + b"\x33" * 70
SCHNORR = b"\x44" * 64
REDEEM = b"\x52" + sized(KEY) * 2 + b"\x52\xae"  # 2 of 2
P2WPKH = witness_program(0, hash160(KEY))
P2WSH = witness_program(0, hashlib.sha256(REDEEM).digest())
CONTROL = b"\xc0" + b"\x55" * 32


@pytest.mark.pitfall("P91", "P94", "P95")
@pytest.mark.parametrize(
    "script",
    [
        b"",
        b"\x51",  # anyone can spend
        b"\x51" + sized(KEY) + sized(LONG_KEY) + b"\x52\xae",  # 1 of 2: the payer keeps a key
        sized(KEY) + b"\xac",  # P2PK: see bare_pubkey
        b"\x6a\x14" + hash160(KEY),
        b"\x6a" + sized(p2pkh(hash160(KEY))),
        p2pkh(hash160(KEY)) + b"\x61",
        b"\x61" + p2pkh(hash160(KEY)),
        p2pkh(hash160(KEY))[:-1] + b"\xad",
        p2sh(hash160(KEY))[:-1] + b"\x88",
        b"\x04\x00\x00\x00\x00\xb1\x75" + p2pkh(hash160(KEY)),  # time-locked
        witness_program(0, bytes(25)),
        witness_program(1, bytes(20)),
        witness_program(1, b"\x4e\x73"),
        witness_program(2, bytes(32)),
        witness_program(8, bytes(32)),  # Litecoin's pool
        witness_program(9, bytes(32)),  # Litecoin's peg-in
    ],
)
def test_what_its_address_alone_can_t_spend_is_no_address(script: bytes) -> None:
    assert not addressable(script, segwit=True)
    assert not addressable(script, segwit=False)


def test_five_kinds_have_an_address_and_two_without_witness_programs() -> None:
    for script in (p2pkh(bytes(20)), p2sh(bytes(20))):
        assert addressable(script, segwit=True)
        assert addressable(script, segwit=False)
    for script in (P2WPKH, P2WSH, witness_program(1, bytes(32))):
        assert addressable(script, segwit=True)
        assert not addressable(script, segwit=False)


@pytest.mark.pitfall("P92")
def test_a_bare_key_is_told_from_what_resembles_it() -> None:
    assert bare_pubkey(sized(KEY) + b"\xac") == KEY
    assert bare_pubkey(sized(LONG_KEY) + b"\xac") == LONG_KEY
    for wrong in (
        sized(b"\x05" + KEY[1:]) + b"\xac",
        sized(KEY) + b"\xad",
        sized(KEY + b"\0") + b"\xac",
        b"\x20" + KEY + b"\xac",
        sized(KEY),
    ):
        assert bare_pubkey(wrong) is None
    assert not is_pubkey(b"")


def test_pushes_are_read_in_every_spelling() -> None:
    assert pushes(b"") == []
    assert pushes(b"\x00\x51\x60\x4f") == [b"", b"\x51", b"\x60", b"\x4f"]
    assert pushes(b"\x01a\x4c\x02bc\x4d\x01\x00d\x4e\x01\x00\x00\x00e") == [b"a", b"bc", b"d", b"e"]
    for broken in (b"\x02a", b"\x4c", b"\x4c\x05a", b"\x4d\xff\xff", b"\x61", b"\x01a\xac"):
        assert pushes(broken) is None


@pytest.mark.parametrize(
    ("script_sig", "witness", "spent"),
    [
        (sized(SIGNATURE) + sized(KEY), (), p2pkh(hash160(KEY))),
        (sized(SIGNATURE) + sized(LONG_KEY), (), p2pkh(hash160(LONG_KEY))),
        (b"\x00" + sized(SIGNATURE) * 2 + b"\x4c" + sized(REDEEM), (), p2sh(hash160(REDEEM))),
        (sized(b"\x51"), (), p2sh(hash160(b"\x51"))),
        (b"", (SIGNATURE, KEY), P2WPKH),
        (sized(P2WPKH), (SIGNATURE, KEY), p2sh(hash160(P2WPKH))),
        (sized(P2WSH), (b"", SIGNATURE, SIGNATURE, REDEEM), p2sh(hash160(P2WSH))),
        (b"", (b"", SIGNATURE, SIGNATURE, REDEEM), P2WSH),
    ],
)
@pytest.mark.pitfall("P113")
def test_an_input_reveals_what_it_spends(
    script_sig: bytes, witness: tuple[bytes, ...], spent: bytes
) -> None:
    assert spent_key(script_sig, witness) == spent


@pytest.mark.parametrize(
    ("script_sig", "witness"),
    [
        (b"", ()),
        (sized(SIGNATURE), ()),  # P2PK
        (b"\x00" + sized(SIGNATURE) * 2, ()),  # bare multisig
        (b"\x61", ()),
        (b"\x05a", ()),
        (b"", (SCHNORR,)),  # taproot, by its key
        (b"", (SCHNORR + b"\x01",)),
        (b"", (SCHNORR, b"\x50annex")),
        (b"", (SCHNORR, sized(KEY[1:]) + b"\xac", CONTROL)),  # taproot, by a script
        (b"", (SCHNORR, b"\x51", b"\x66" + bytes(64))),
        (b"", (b"\x51", CONTROL, b"\x50")),
        (sized(b"\x51"), (SIGNATURE, KEY)),
        (sized(P2WPKH) * 2, (SIGNATURE, KEY)),
    ],
)
@pytest.mark.pitfall("P113")
def test_what_reveals_nothing_is_unknown(script_sig: bytes, witness: tuple[bytes, ...]) -> None:
    assert spent_key(script_sig, witness) is None


@pytest.mark.pitfall("P113")
def test_every_recorded_input_reveals_the_output_that_it_spent(chain_fixtures: Path) -> None:
    name = "mainnet_200000_getblock_v2_and_input_txs.json.gz"
    with gzip.open(chain_fixtures / "bitcoin" / name) as stored:
        answers = json.load(stored)
    known = unknown = 0
    spent_by_tx = answers["getrawtransaction_of_inputs_per_tx"]
    for tx, spent in zip(answers["getblock_verbosity2"]["tx"], spent_by_tx, strict=True):
        outputs = {(s["txid"], o["n"]): o["scriptPubKey"] for s in spent for o in s["vout"]}
        for spending in tx["vin"]:
            if "coinbase" in spending:
                continue
            output = outputs[spending["txid"], spending["vout"]]
            key = spent_key(bytes.fromhex(spending["scriptSig"]["hex"]), ())
            if key is None:
                assert output["type"] not in ("pubkeyhash", "scripthash")
                unknown += 1
            else:
                assert key.hex() == output["hex"]
                known += 1
    assert known > 1000
    assert known + unknown == 1231


def test_a_program_has_a_version_and_two_to_forty_bytes() -> None:
    assert program(witness_program(16, bytes(40))) == (16, bytes(40))
    assert program(b"\x00\x01a") is None
    assert program(b"\x50\x02ab") is None
    assert program(b"\x51\x03ab") is None
