"""How Bitcoin-like networks write addresses and hashes. Pure text: no I/O, no chain.

Base58check, bech32 (BIP 173) and bech32m (BIP 350). An address belongs to one network's prefixes:
the same script is written differently on each, and another network's address is refused (P103,
P106).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from indexer.chains import NATIVE
from indexer.chains.base58 import decode_base58, encode_base58
from indexer.chains.extended_key import Forms
from indexer.chains.utxo_network import Parameters
from indexer.chains.utxo_script import (
    hash160,
    p2pkh,
    p2sh,
    program,
    pubkey_hash,
    script_hash,
    witness_program,
)
from indexer.model import Impossible, Refused

SHOWN_CHARS: Final = 80  # of a refused text
ADDRESS_CHARS: Final = 90  # BIP 173's limit; base58 addresses are shorter
CHECK_SYMBOLS: Final = 6  # of a bech32 text

BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHECK_V0: Final = 1  # bech32: witness version 0
CHECK_V1: Final = 0x2BC830A3  # bech32m: every later one
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)

_MAIN: Final = "main"  # what a node calls its coin's first chain
CACHED_ADDRESSES: Final = 65_536  # about 10 MB

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SEGWIT: Final = re.compile(r"([A-Za-z]{1,20})1([0-9A-Za-z]{6,88})", re.ASCII)


class UtxoCodec:
    """The codec of one Bitcoin-like network. An address's key is its scriptPubKey."""

    family = "utxo"

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self.wallet_forms = _wallet_forms(parameters)
        self.format_address = lru_cache(maxsize=CACHED_ADDRESSES)(self._format_address)

    def parse_address(self, text: str) -> bytes:
        """The script of an address of this network, and of no other."""
        if not text.isascii() or len(text) > ADDRESS_CHARS:
            raise Refused(f"{text[:SHOWN_CHARS]!r} is not an address")
        hrp = self._parameters.segwit
        if hrp is not None and (
            # A base58 address may begin with the same letters, but not all of it in one case.
            text.startswith(f"{hrp}1") or (text.startswith(f"{hrp.upper()}1") and text.isupper())
        ):
            return _parse_segwit(text, hrp)
        return self._parse_base58(text)

    def _format_address(self, key: bytes) -> str:
        hashed = pubkey_hash(key)
        if hashed is not None:
            return encode_base58(bytes((self._parameters.pubkey_prefix,)) + hashed)
        hashed = script_hash(key)
        if hashed is not None:
            return encode_base58(bytes((self._parameters.script_prefixes[0],)) + hashed)
        witness = program(key)
        hrp = self._parameters.segwit
        if witness is None or hrp is None:
            raise Impossible(f"the script {key.hex()} has no address on this network")
        return encode_segwit(hrp, *witness)

    def parse_hash(self, text: str) -> bytes:
        if _HASH.fullmatch(text) is None:
            raise Refused(f"{text[:SHOWN_CHARS]!r} is not a hash: write 64 hex digits")
        return bytes.fromhex(text)

    def format_hash(self, value: bytes) -> str:
        return value.hex()

    def parse_asset(self, text: str) -> bytes:
        raise Refused(f"{text[:SHOWN_CHARS]!r}: this network has no tokens")

    def format_asset(self, asset: bytes) -> str:
        if asset != NATIVE:
            raise Impossible("a Bitcoin-like network has no asset but its coin")
        return "native"

    def _parse_base58(self, text: str) -> bytes:
        data = decode_base58(text)
        if data is None:
            raise Refused(f"{text} is no address of this network, or was mistyped")
        version, hashed = data[0], data[1:]
        if len(hashed) == 20 and version == self._parameters.pubkey_prefix:
            return p2pkh(hashed)
        if len(hashed) == 20 and version in self._parameters.script_prefixes:
            return p2sh(hashed)
        raise Refused(f"{text} is an address of another network, or no address")


def _parse_segwit(text: str, hrp: str) -> bytes:
    """P2WPKH, P2WSH or P2TR. Later versions can't be watched: anyone can spend them today."""
    decoded = decode_segwit(text)
    if decoded is None or decoded[0] != hrp:
        raise Refused(f"{text} has a wrong checksum or form: it was mistyped")
    _, version, data = decoded
    if (version, len(data)) not in ((0, 20), (0, 32), (1, 32)):
        raise Refused(f"{text} is of a kind whose outputs this network does not protect yet")
    return witness_program(version, data)


def encode_segwit(hrp: str, version: int, data: bytes) -> str:
    symbols = [version, *_to_symbols(data)]
    constant = CHECK_V1 if version else CHECK_V0
    state = _polymod([*_expanded(hrp), *symbols, *[0] * CHECK_SYMBOLS]) ^ constant
    check = [state >> 5 * (5 - at) & 31 for at in range(CHECK_SYMBOLS)]
    return hrp + "1" + "".join(BECH32[symbol] for symbol in [*symbols, *check])


def decode_segwit(text: str) -> tuple[str, int, bytes] | None:
    """Prefix, version and program of a witness address; None unless all of it is right."""
    if text not in (text.lower(), text.upper()) or len(text) > ADDRESS_CHARS:
        return None
    match = _SEGWIT.fullmatch(text.lower())
    if match is None:
        return None
    hrp, symbols = match[1], [BECH32.find(char) for char in match[2]]
    if -1 in symbols or len(symbols) <= CHECK_SYMBOLS:
        return None
    version = symbols[0]
    constant = CHECK_V1 if version else CHECK_V0
    if version > 16 or _polymod([*_expanded(hrp), *symbols]) != constant:
        return None
    data = _to_octets(symbols[1:-CHECK_SYMBOLS])
    if data is None or not 2 <= len(data) <= 40 or (version == 0 and len(data) not in (20, 32)):
        return None
    return hrp, version, data


def _expanded(hrp: str) -> list[int]:
    codes = hrp.encode()
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _polymod(symbols: Sequence[int]) -> int:
    state = 1
    for symbol in symbols:
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ symbol
        for at, generator in enumerate(_GENERATORS):
            if top >> at & 1:
                state ^= generator
    return state


def _to_symbols(data: bytes) -> list[int]:
    """Groups of five bits, the last one filled up with zeros."""
    count = (8 * len(data) + 4) // 5
    number = int.from_bytes(data, "big") << 5 * count - 8 * len(data)
    return [number >> 5 * at & 31 for at in reversed(range(count))]


def _to_octets(symbols: Sequence[int]) -> bytes | None:
    """The bytes of groups of five bits; None unless what is left over is a few zeros."""
    number = 0
    for symbol in symbols:
        number = number << 5 | symbol
    size, spare = divmod(5 * len(symbols), 8)
    if spare >= 5 or number & (1 << spare) - 1:
        return None
    return (number >> spare).to_bytes(size, "big")


def _wallet_forms(parameters: Parameters) -> Forms:
    """The extended keys that wallets of this network write, and the addresses they mean."""

    def plain(pubkey: bytes) -> bytes:
        return p2pkh(hash160(pubkey))

    def nested(pubkey: bytes) -> bytes:
        return p2sh(hash160(native(pubkey)))

    def native(pubkey: bytes) -> bytes:
        return witness_program(0, hash160(pubkey))

    main = parameters.names == (_MAIN,)
    own = {("ltc", True): "Ltub", ("ltc", False): "ttub", ("doge", True): "dgub"}
    forms = {"xpub" if main else "tpub": plain}
    if (form := own.get((parameters.coin, main))) is not None:
        forms[form] = plain
    if parameters.segwit is not None:
        forms |= {"ypub": nested, "zpub": native} if main else {"upub": nested, "vpub": native}
    if parameters.coin == "ltc" and main:
        forms["Mtub"] = nested
    return forms
