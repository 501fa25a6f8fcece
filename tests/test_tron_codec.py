"""TRON's spellings of addresses, hashes and tokens."""

from __future__ import annotations

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chains import NATIVE
from indexer.chains.tron_codec import TronCodec, account
from indexer.model import Refused

USDT = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
USDT_KEY = bytes.fromhex("a614f803b6fd780986a42c78ec9c7f77e6ded13c")

CODEC = TronCodec()


def base58check(octets: bytes) -> str:
    return base58.b58encode_check(octets).decode()


@pytest.mark.pitfall("P75")
def test_five_spellings_of_one_address_are_one_key() -> None:
    digits = USDT_KEY.hex()
    at_the_edge = [USDT, "41" + digits, "0x41" + digits.upper()]
    in_answers = ["41" + digits, digits, "00" * 12 + digits, "00" * 11 + "41" + digits]
    keys = {CODEC.parse_address(text) for text in at_the_edge}
    keys |= {account(bytes.fromhex(text)) or b"" for text in in_answers}
    assert keys == {USDT_KEY}
    assert CODEC.format_address(USDT_KEY) == USDT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "T",
        USDT[:-1],
        USDT[:-1] + "u",  # wrong checksum
        USDT.lower(),
        " " + USDT,
        "40" + USDT_KEY.hex(),
        "a0" + USDT_KEY.hex(),
        "0x" + USDT_KEY.hex(),  # as an EVM network writes addresses
        USDT_KEY.hex(),
        "41" + USDT_KEY.hex()[:-2],
        "41" + "g" * 40,
        base58check(b"\x40" + USDT_KEY),
        base58check(b"\x42" + USDT_KEY),
        base58check(b"\xa0" + USDT_KEY),
        base58check(b"\x41" + USDT_KEY + b"\0"),
        "T" + "1" * 33,
    ],
)
@pytest.mark.pitfall("P75")
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        CODEC.parse_address(text)


@pytest.mark.parametrize("size", [0, 19, 22, 31, 33])
def test_octets_of_another_size_are_no_account(size: int) -> None:
    assert account(b"\x41" + bytes(size - 1) if size else b"") is None


@given(st.binary(min_size=20, max_size=20))
def test_addresses_round_trip_and_agree_with_another_implementation(key: bytes) -> None:
    text = CODEC.format_address(key)
    assert text == base58check(b"\x41" + key)
    assert CODEC.parse_address(text) == CODEC.parse_address("41" + key.hex()) == key


@given(st.integers(min_value=0, max_value=33), st.sampled_from("123456789ABCxyz"))
def test_a_changed_character_is_noticed(place: int, char: str) -> None:
    changed = USDT[:place] + char + USDT[place + 1 :]
    if changed != USDT:
        with pytest.raises(Refused):
            CODEC.parse_address(changed)


@pytest.mark.pitfall("P69")
def test_a_token_is_a_contract_or_an_id_and_never_a_name() -> None:
    assert CODEC.parse_asset(USDT) == USDT_KEY
    assert CODEC.parse_asset("1002000") == b"1002000"
    assert [CODEC.format_asset(a) for a in (USDT_KEY, b"1002000", NATIVE)] == [
        USDT,
        "1002000",
        "native",
    ]
    for text in ("USDT", "native", "0", "01002000", "-1", "1" * 20, "١٢", ""):
        with pytest.raises(Refused):
            CODEC.parse_asset(text)


def test_hashes_are_shown_without_a_prefix() -> None:
    digits = "0a" * 32
    assert CODEC.format_hash(CODEC.parse_hash("0x" + digits.upper())) == digits
    for text in (digits[1:], "0x", digits + "00"):
        with pytest.raises(Refused):
            CODEC.parse_hash(text)
