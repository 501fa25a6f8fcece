"""Addresses of watch-only wallets, held against the vectors that wallets publish."""

from __future__ import annotations

import hashlib
from typing import Final

import pytest
from bip32 import BIP32

from indexer.chains.base58 import decode_base58, encode_base58
from indexer.chains.evm_codec import EvmCodec
from indexer.chains.extended_key import MAX_INDEX, VERSIONS, BadPath, ExtendedKey
from indexer.chains.tron_codec import TronCodec
from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_network import NETWORKS
from indexer.model import Refused

# "abandon" eleven times, then "about": the test wallet of BIP-39, BIP-44, BIP-49 and BIP-84.
WORDS: Final = b"abandon " * 11 + b"about"
ROOT: Final = BIP32.from_seed(hashlib.pbkdf2_hmac("sha512", WORDS, b"mnemonic", 2048))

BTC, BTC_TEST = UtxoCodec(NETWORKS["btc", "mainnet"]), UtxoCodec(NETWORKS["btc", "testnet"])
LTC, DOGE = UtxoCodec(NETWORKS["ltc", "mainnet"]), UtxoCodec(NETWORKS["doge", "mainnet"])
EVM, TRON = EvmCodec(), TronCodec()


def extended(path: str, prefix: str) -> str:
    """An account's public key of the test wallet, in one of its forms."""
    payload = decode_base58(ROOT.get_xpub_from_path(path))
    assert payload is not None
    return encode_base58(bytes.fromhex(VERSIONS[prefix]) + payload[4:])


# Source: BIP-49 and BIP-84's test vectors; the others as common wallets show them for these words.
VECTORS: Final = (
    (BTC, "m/44'/0'/0'", "xpub", 0, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"),
    (BTC, "m/49'/0'/0'", "ypub", 0, "37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf"),
    (BTC, "m/84'/0'/0'", "zpub", 0, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
    (BTC, "m/84'/0'/0'", "zpub", 1, "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
    (BTC_TEST, "m/49'/1'/0'", "upub", 0, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"),
    (BTC_TEST, "m/84'/1'/0'", "vpub", 0, "tb1q6rz28mcfaxtmd6v789l9rrlrusdprr9pqcpvkl"),
    (BTC_TEST, "m/44'/1'/0'", "tpub", 0, "mkpZhYtJu2r87Js3pDiWJDmPte2NRZ8bJV"),
    (LTC, "m/44'/2'/0'", "Ltub", 0, "LUWPbpM43E2p7ZSh8cyTBEkvpHmr3cB8Ez"),
    (LTC, "m/49'/2'/0'", "Mtub", 0, "M7wtsL7wSHDBJVMWWhtQfTMSYYkyooAAXM"),
    (LTC, "m/84'/2'/0'", "zpub", 0, "ltc1qjmxnz78nmc8nq77wuxh25n2es7rzm5c2rkk4wh"),
    (DOGE, "m/44'/3'/0'", "dgub", 0, "DBus3bamQjgJULBJtYXpEzDWQRwF5iwxgC"),
    (EVM, "m/44'/60'/0'", "xpub", 0, "0x9858EfFD232B4033E47d90003D41EC34EcaEda94"),
    (EVM, "m/44'/60'/0'", "xpub", 1, "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0"),
    (TRON, "m/44'/195'/0'", "xpub", 0, "TUEZSdKsoDHQMeZwihtdoBiN46zxhGWYdH"),
)


@pytest.mark.parametrize(("codec", "path", "prefix", "index", "address"), VECTORS)
def test_addresses_are_those_that_wallets_show(
    codec: UtxoCodec | EvmCodec | TronCodec, path: str, prefix: str, index: int, address: str
) -> None:
    key = ExtendedKey(extended(path, prefix), codec.wallet_forms)
    assert codec.format_address(key.address_key(index)) == address


def test_the_published_text_of_a_key_is_read() -> None:
    published = (  # BIP-84
        "zpub6rFR7y4Q2AijBEqTUquhVz398htDFrtymD9xYYfG1m4wAcvPhXNfE3EfH1r1ADqtfSdVCToUG868RvUUkgD"
        "Kf31mGDtKsAYz2oz2AGutZYs"
    )
    assert published == extended("m/84'/0'/0'", "zpub")


def test_a_path_leads_from_the_key_to_its_addresses() -> None:
    account = ExtendedKey(extended("m/44'/60'/0'", "xpub"), EVM.wallet_forms)
    chain = ExtendedKey(extended("m/44'/60'/0'/0", "xpub"), EVM.wallet_forms)
    assert (account.path, chain.path) == ("0/*", "*")
    assert [account.address_key(n) for n in range(3)] == [chain.address_key(n) for n in range(3)]
    change = ExtendedKey(extended("m/44'/60'/0'", "xpub"), EVM.wallet_forms, "m/1/*")
    assert change.path == "1/*"
    expected = ExtendedKey(extended("m/44'/60'/0'/1", "xpub"), EVM.wallet_forms)
    assert change.address_key(7) == expected.address_key(7)
    assert account.address_key(MAX_INDEX)


@pytest.mark.parametrize("path", ["0'/*", "0h/*", "0", "", "*/0", "0/**", "2147483648/*", "a/*"])
def test_a_path_that_a_public_key_cannot_take_is_refused(path: str) -> None:
    with pytest.raises(BadPath, match="without hardened steps"):
        ExtendedKey(extended("m/44'/60'/0'", "xpub"), EVM.wallet_forms, path)


def test_a_key_of_unusual_depth_needs_its_path() -> None:
    with pytest.raises(Refused, match="name the path"):
        ExtendedKey(extended("m/44'", "xpub"), EVM.wallet_forms)
    ExtendedKey(extended("m/44'", "xpub"), EVM.wallet_forms, "5/*")


SECRETS: Final = (
    ROOT.get_xpriv_from_path("m/44'/60'/0'"),
    "zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9iefm1"
    "yYNZKEm7z6qUWCroSQnE",
    "KyZpNDKnfs94vbrwhJneDi77V6jF64PWPF8x5cdJb8ifgg2DUc9d",
    "5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF",
    "0x" + "1f" * 32,
    "1F" * 32,
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_private_key_is_refused_and_not_repeated(secret: str) -> None:
    for codec in (BTC, EVM, TRON):
        with pytest.raises(Refused, match="private key") as refusal:
            ExtendedKey(secret, codec.wallet_forms)
        assert secret[4:20] not in str(refusal.value)


@pytest.mark.parametrize(
    ("codec", "prefix"),
    [(EVM, "zpub"), (TRON, "tpub"), (BTC, "tpub"), (BTC_TEST, "xpub"), (BTC, "Ltub"),
     (DOGE, "zpub"), (DOGE, "ypub"), (LTC, "dgub")],
)  # fmt: skip
def test_another_networks_form_is_refused(
    codec: UtxoCodec | EvmCodec | TronCodec, prefix: str
) -> None:
    with pytest.raises(Refused, match="takes no such key"):
        ExtendedKey(extended("m/44'/0'/0'", prefix), codec.wallet_forms)


@pytest.mark.parametrize("text", ["", "xpub", "x" * 111, "xpub" + "1" * 107, "1LqBGSKuX5yYUonjx"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="no extended public key"):
        ExtendedKey(text, BTC.wallet_forms)


def test_a_slip_of_the_pen_is_refused() -> None:
    good = extended("m/84'/0'/0'", "zpub")
    changed = good[:50] + ("a" if good[50] != "a" else "b") + good[51:]
    with pytest.raises(Refused):
        ExtendedKey(changed, BTC.wallet_forms)
