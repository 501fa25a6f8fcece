"""Addresses of Bitcoin-like networks, against Bitcoin Core's vectors and each other's networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.chains import NATIVE
from indexer.chains.base58 import encode_base58
from indexer.chains.utxo_codec import UtxoCodec, decode_segwit, encode_segwit
from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_script import addressable, p2pkh, p2sh, program, witness_program
from indexer.model import Impossible, Refused

BITCOIN = UtxoCodec(NETWORKS["btc", "mainnet"])
LITECOIN = UtxoCodec(NETWORKS["ltc", "mainnet"])
DOGECOIN = UtxoCodec(NETWORKS["doge", "mainnet"])
CHAINS = {"main": "mainnet", "test": "testnet", "signet": "signet", "regtest": "regtest"}
HASH, LONG_HASH = bytes(range(20)), bytes(range(32))
SCRIPTS = {
    "p2pkh": p2pkh(HASH),
    "p2sh": p2sh(HASH),
    "p2wpkh": witness_program(0, HASH),
    "p2wsh": witness_program(0, LONG_HASH),
    "p2tr": witness_program(1, LONG_HASH),
}

# BIP 173 and BIP 350: texts that no network may take for an address.
BAD_SEGWIT = [
    "BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2",  # witness version 17
    "bc1rw5uspcuf",  # one byte of program
    "bc10w508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw5rljs90",
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",  # 16 bytes in version 0
    "bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du",  # more than four bits left over
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",  # a character of none
    "bc1gmk9yu",  # nothing at all
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",  # version 1 with bech32
    "bc1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",  # later version, bech32
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",  # changed digit
    "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwF5mdq",  # both cases
]


def vectors(folder: Path, name: str) -> list[Any]:
    found: list[Any] = json.loads((folder / "bitcoin" / "vectors" / f"{name}.json").read_text())
    return found


@pytest.mark.pitfall("P93")
def test_core_s_valid_addresses_are_read_and_written_as_core_does(chain_fixtures: Path) -> None:
    read = 0
    for text, script, about in vectors(chain_fixtures, "key_io_valid"):
        if about["isPrivkey"]:
            continue
        codec = UtxoCodec(NETWORKS["btc", CHAINS[about["chain"]]])
        key = bytes.fromhex(script)
        if not addressable(key, segwit=True):  # a witness version of the future
            with pytest.raises(Refused, match="does not protect yet"):
                codec.parse_address(text)
            continue
        read += 1
        assert codec.parse_address(text) == key
        assert codec.format_address(key) == text
        if about.get("tryCaseFlip"):
            assert codec.parse_address(text.upper()) == key
    assert read > 40


@pytest.mark.pitfall("P93")
@pytest.mark.parametrize("coin_and_chain", sorted(NETWORKS))
def test_core_s_invalid_addresses_are_refused_everywhere(
    coin_and_chain: tuple[str, str], chain_fixtures: Path
) -> None:
    codec = UtxoCodec(NETWORKS[coin_and_chain])
    for (text,) in vectors(chain_fixtures, "key_io_invalid"):
        with pytest.raises(Refused):
            codec.parse_address(text)


@pytest.mark.pitfall("P93")
def test_taproot_addresses_of_bip_341(chain_fixtures: Path) -> None:
    path = chain_fixtures / "bitcoin" / "vectors" / "bip341_wallet_vectors.json"
    for case in json.loads(path.read_text())["scriptPubKey"]:
        expected = case["expected"]
        key = bytes.fromhex(expected["scriptPubKey"])
        assert BITCOIN.parse_address(expected["bip350Address"]) == key
        assert BITCOIN.format_address(key) == expected["bip350Address"]


@pytest.mark.pitfall("P93")
@pytest.mark.parametrize("text", BAD_SEGWIT)
def test_malformed_witness_addresses_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        BITCOIN.parse_address(text)


@pytest.mark.pitfall("P93")
def test_a_witness_program_of_version_1_must_be_as_long_as_taproot_s() -> None:
    assert decode_segwit("bc1pfeessrawgf") == ("bc", 1, bytes.fromhex("4e73"))
    with pytest.raises(Refused, match="does not protect yet"):
        BITCOIN.parse_address("bc1pfeessrawgf")


@pytest.mark.parametrize("kind", sorted(SCRIPTS))
@pytest.mark.parametrize("coin_and_chain", sorted(NETWORKS))
def test_every_kind_of_address_comes_back_as_its_script(
    coin_and_chain: tuple[str, str], kind: str
) -> None:
    network = NETWORKS[coin_and_chain]
    codec, script = UtxoCodec(network), SCRIPTS[kind]
    if network.segwit is None and program(script) is not None:
        with pytest.raises(Impossible):
            codec.format_address(script)
        return
    text = codec.format_address(script)
    assert codec.parse_address(text) == script


@pytest.mark.pitfall("P93", "P103")
def test_each_coin_s_addresses_begin_as_its_users_know_them() -> None:
    assert BITCOIN.format_address(SCRIPTS["p2pkh"])[0] == "1"
    assert BITCOIN.format_address(SCRIPTS["p2sh"])[0] == "3"
    assert LITECOIN.format_address(SCRIPTS["p2pkh"])[0] == "L"
    assert LITECOIN.format_address(SCRIPTS["p2sh"])[0] == "M"
    assert LITECOIN.format_address(SCRIPTS["p2wpkh"]).startswith("ltc1q")
    assert DOGECOIN.format_address(SCRIPTS["p2pkh"])[0] == "D"
    assert DOGECOIN.format_address(SCRIPTS["p2sh"])[0] in "9A"


@pytest.mark.pitfall("P103")
def test_litecoin_reads_the_old_form_of_p2sh_and_writes_the_new_one() -> None:
    old = BITCOIN.format_address(SCRIPTS["p2sh"])
    assert LITECOIN.parse_address(old) == SCRIPTS["p2sh"]
    assert LITECOIN.format_address(LITECOIN.parse_address(old)) != old


@pytest.mark.pitfall("P103", "P106")
@pytest.mark.parametrize("kind", sorted(SCRIPTS))
def test_another_network_s_address_is_refused(kind: str) -> None:
    for stranger in (("ltc", "mainnet"), ("doge", "mainnet"), ("btc", "testnet")):
        network = NETWORKS[stranger]
        if network.segwit is not None or program(SCRIPTS[kind]) is None:
            with pytest.raises(Refused):
                BITCOIN.parse_address(UtxoCodec(network).format_address(SCRIPTS[kind]))


@pytest.mark.pitfall("P103")
@pytest.mark.parametrize(
    "text",
    [
        "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a",
        "qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a",
        "ltcmweb1qqdyj42unxrhs40flpa5jj78kqtzp5l7jfj0yxvdvxdrczn6mdlxhqq0",
        "0x742d35Cc6634C0532925a3b844Bc454e4438f44e",
        "",
        " 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
        "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",  # changed digit
        "１BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
        "1" * 5000,
    ],
)
def test_what_is_no_address_here_is_refused_in_one_line(text: str) -> None:
    for codec in (BITCOIN, LITECOIN, DOGECOIN):
        with pytest.raises(Refused) as refusal:
            codec.parse_address(text)
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 200


def test_base58_payloads_of_another_length_are_no_addresses() -> None:
    for size in (0, 19, 21, 32):
        with pytest.raises(Refused):
            BITCOIN.parse_address(encode_base58(b"\0" + bytes(size)))


def test_a_version_beyond_16_is_no_witness_address() -> None:
    assert decode_segwit(encode_segwit("bc", 17, LONG_HASH)) is None
    assert decode_segwit(encode_segwit("bc", 16, LONG_HASH)) == ("bc", 16, LONG_HASH)


def test_hashes_are_hex_in_display_order() -> None:
    text = "00000000" + "ab" * 28
    assert BITCOIN.format_hash(BITCOIN.parse_hash(text.upper())) == text
    for wrong in ("", "0x" + text[2:], text + "00", text[:-1] + "g", text + "\n"):
        with pytest.raises(Refused):
            BITCOIN.parse_hash(wrong)


def test_there_is_no_asset_but_the_coin() -> None:
    assert BITCOIN.format_asset(NATIVE) == "native"
    with pytest.raises(Refused, match="no tokens"):
        BITCOIN.parse_asset("usdt")
    with pytest.raises(Impossible):
        BITCOIN.format_asset(b"usdt")
