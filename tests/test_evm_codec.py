"""How EVM networks write addresses and hashes."""

from __future__ import annotations

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from indexer.chains import NATIVE, Codec
from indexer.chains.evm_codec import NATIVE_MIRRORS, EvmCodec
from indexer.model import Refused

codec: Codec = EvmCodec()

# EIP-55's own examples.
CHECKSUMMED = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", CHECKSUMMED)
@pytest.mark.pitfall("P43")
def test_the_standards_examples_are_read_and_written(text: str) -> None:
    assert codec.format_address(codec.parse_address(text)) == text


@pytest.mark.parametrize("text", CHECKSUMMED)
@pytest.mark.pitfall("P40", "P43")
def test_every_spelling_is_the_same_key(text: str) -> None:
    digits = text[2:]
    spellings = [text, "0x" + digits.lower(), "0x" + digits.upper(), "0X" + digits.upper()]
    assert {codec.parse_address(spelling) for spelling in spellings} == {bytes.fromhex(digits)}


@pytest.mark.pitfall("P43")
def test_a_changed_letter_of_a_checksummed_address_is_refused() -> None:
    with pytest.raises(Refused, match="wrong checksum"):
        codec.parse_address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAedd",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg",
        " 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n",
        "0x" + "\u0661" * 40,  # digits, but not ASCII's
        "XE7338O073KYGTWWZN0F2WZ0R8PX5ZPPZS",
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    ],
)
@pytest.mark.pitfall("P43")
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not an address: write 0x and 40 hex digits"):
        codec.parse_address(text)


@given(st.binary(min_size=20, max_size=20))
def test_addresses_round_trip_and_agree_with_another_implementation(key: bytes) -> None:
    text = codec.format_address(key)
    assert text == to_checksum_address(key)
    assert codec.parse_address(text) == key


@given(st.binary(min_size=32, max_size=32))
def test_hashes_round_trip(value: bytes) -> None:
    assert codec.parse_hash(codec.format_hash(value)) == value


@pytest.mark.parametrize("text", ["", "0x12", "11" * 32, "0x" + "11" * 33, "0x" + "1g" * 32])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="is not a hash: write 0x and 64 hex digits"):
        codec.parse_hash(text)


def test_a_long_text_is_shown_in_part() -> None:
    with pytest.raises(Refused) as refused:
        codec.parse_address("x" * 10_000)
    assert len(str(refused.value)) < 200


def test_assets_are_contracts_or_native() -> None:
    usdt = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
    assert codec.format_asset(codec.parse_asset(usdt)) == usdt
    assert codec.format_asset(NATIVE) == "native"
    with pytest.raises(Refused):
        codec.parse_asset("native")


@pytest.mark.parametrize("mirror", sorted(NATIVE_MIRRORS))
@pytest.mark.pitfall("P16", "P17")
def test_a_mirror_of_the_native_coin_is_no_token(mirror: bytes) -> None:
    with pytest.raises(Refused, match="can't be a token"):
        codec.parse_asset("0x" + mirror.hex())
