"""Extended public keys (BIP-32): what a watch-only wallet is, and the addresses that come of it.

`bip32` derives, on libsecp256k1. Here stands which forms a network takes: the four bytes before the
key say what its addresses look like (SLIP-132). Nothing here repeats what it is given: it may be a
private key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Final, TypeAlias

import coincurve
from bip32 import BIP32, PrivateDerivationError
from bip32.bip32 import ParsingError

from indexer.chains.base58 import decode_base58, encode_base58
from indexer.chains.evm_trie import keccak
from indexer.model import Refused

Forms: TypeAlias = Mapping[str, Callable[[bytes], bytes]]  # prefix: address key of a public key

VERSIONS: Final = {  # of extended public keys, by how their text begins
    "xpub": "0488b21e",
    "ypub": "049d7cb2",
    "zpub": "04b24746",
    "tpub": "043587cf",
    "upub": "044a5262",
    "vpub": "045f1cf6",
    "Ltub": "019da462",
    "Mtub": "01b26ef6",
    "ttub": "0436f6e1",
    "dgub": "02facafd",
}
PRIVATE: Final = frozenset(  # those of the private keys
    (
        *("0488ade4", "049d7878", "04b2430c", "04358394", "044a4e28", "045f18bc"),
        *("019d9cfe", "01b26792", "0436ef7d", "02fac398"),
    )
)
SIZE: Final = 78  # bytes: version, depth, parent, index, chain code, key
MAX_STEPS: Final = 5  # of a path
ACCOUNT_DEPTH, CHAIN_DEPTH = 3, 4  # of m/44'/0'/0' and of its external chain (BIP-44)
MAX_INDEX: Final = 2**31 - 1  # of what a public key can derive
_PATH: Final = re.compile(rf"(?:m/)?((?:\d{{1,10}}/){{0,{MAX_STEPS - 1}}})\*", re.ASCII)
_SECRET: Final = re.compile(  # 32 bytes in hex, and the forms of a wallet's export (WIF)
    r"(?:0x)?[0-9a-fA-F]{64}|[5KLcT6Q][1-9A-HJ-NP-Za-km-z]{50,51}", re.ASCII
)


class BadPath(Refused):
    """The path from a key to its addresses can't be taken."""


class ExtendedKey:
    """One branch of a wallet: its address number `index`, for every index."""

    def __init__(self, text: str, forms: Forms, path: str | None = None) -> None:
        """`path` leads from the key to its addresses, like `0/*`.

        Left out, it is that of BIP-44: `0/*` from an account's key, `*` from its external chain's.
        Refused for what is no key of these forms, BadPath for a path that a public key can't take.
        """
        self._address, payload = _read(text.strip(), forms)
        self.depth = payload[4]
        self.path = _path(path, self.depth)
        try:
            key = BIP32.from_xpub(encode_base58(bytes.fromhex(VERSIONS["xpub"]) + payload[4:]))
        except ParsingError:
            raise Refused("this extended key holds no public key") from None
        self._key = key
        # The same for the same key however it was come by, and telling nothing of it.
        self.identity = hashlib.sha256(payload[:4] + payload[13:]).digest()

    def address_key(self, index: int) -> bytes:
        """The address key of one address; `index` from 0."""
        return self._address(self._branch.get_pubkey_from_path([index]))

    @cached_property
    def _branch(self) -> BIP32:
        steps = [int(step) for step in self.path.split("/")[:-1]]
        try:
            return BIP32.from_xpub(self._key.get_xpub_from_path(steps)) if steps else self._key
        except PrivateDerivationError:
            raise Refused("a public key can't take a hardened step") from None


def account_key(pubkey: bytes) -> bytes:
    """The 20 bytes of an EVM or TRON account, of a compressed public key."""
    return keccak(coincurve.PublicKey(pubkey).format(compressed=False)[1:])[-20:]


ACCOUNT_FORMS: Final[Forms] = MappingProxyType({"xpub": account_key})  # EVM and TRON


def _read(text: str, forms: Forms) -> tuple[Callable[[bytes], bytes], bytes]:
    payload = decode_base58(text) if len(text) <= 120 and text.isascii() else None
    if _SECRET.fullmatch(text) or (payload is not None and payload[:4].hex() in PRIVATE):
        raise Refused("this is a private key, which nobody but its owner should ever see")
    if payload is None or len(payload) != SIZE:
        raise Refused(f"this is no extended public key: it begins with {' or '.join(forms)}")
    for prefix, address in forms.items():
        if payload[:4].hex() == VERSIONS[prefix]:
            return address, payload
    raise Refused(f"this network takes no such key: it begins with {' or '.join(forms)}")


def _path(path: str | None, depth: int) -> str:
    if path is None:
        if depth not in (ACCOUNT_DEPTH, CHAIN_DEPTH):
            raise BadPath(f"this key is {depth} steps deep: name the path to its addresses")
        return "0/*" if depth == ACCOUNT_DEPTH else "*"
    match = _PATH.fullmatch(path)
    if match is None or any(int(step) > MAX_INDEX for step in match[1].split("/") if step):
        raise BadPath("must be like 0/*, without hardened steps")
    return f"{match[1]}*"
