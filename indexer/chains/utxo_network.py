"""What tells one Bitcoin-like network from another: constants, by coin and chain.

Sources: the `chainparams.cpp` and `consensus.h` of Bitcoin Core, Litecoin Core and Dogecoin Core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_EASY: Final = 0x207FFFFF  # every regtest's limit: half of all hashes will do
_SCRYPT: Final = 0x1E0FFFFF
_TESTNET: Final = "test"
_FREE: Final = (_TESTNET, "regtest")  # there a block may ask for the least work at any time


@dataclass(frozen=True, slots=True)
class Retarget:
    """How targets move from a height on: at every `interval`-th block, up by a bounded factor."""

    since: int
    interval: int  # blocks
    easier: tuple[int, int]  # the factor, as a fraction


_FORTNIGHTLY: Final = (Retarget(0, 2016, (4, 1)),)
_DIGISHIELD: Final = (Retarget(0, 240, (4, 1)), Retarget(145_000, 1, (3, 2)))


@dataclass(frozen=True, slots=True)
class Parameters:
    """One network's rules. Targets are in the header's compact form ("bits")."""

    coin: str
    names: tuple[str, ...]  # what `getblockchaininfo` calls the chain
    genesis: tuple[str, ...]  # hashes of block 0, in display order
    pubkey_prefix: int  # base58 version of P2PKH
    script_prefixes: tuple[int, ...]  # of P2SH; the first is written, all are read
    segwit: str | None  # bech32's human-readable part; None: no witness programs on this chain
    easiest: int  # the limit of `bits`
    scrypt: bool  # proof of work by scrypt(1024, 1, 1), else by SHA-256d
    maturity: int  # confirmations before a coinbase output can be spent
    auxpow: int | None = None  # chain id in merged mining; None: not merge-mined
    mweb: bool = False  # extension blocks (LIP-0002), whose peg-outs are the last transaction's
    pegout_maturity: int = 0  # confirmations before a peg-out can be spent
    oldest: int = 0  # the node version (`getnetworkinfo`) that serves whole blocks
    retargets: tuple[Retarget, ...] = ()  # by rising height; none: any target may follow any


def _btc(name: str, genesis: tuple[str, ...], hrp: str, easiest: int) -> Parameters:
    names = (_TESTNET, "testnet4") if name == _TESTNET else (name,)
    pubkey, script = (0x00, 0x05) if name == "main" else (0x6F, 0xC4)
    return Parameters(
        "btc",
        names,
        genesis,
        pubkey,
        (script,),
        hrp,
        easiest,
        False,
        maturity=100,
        oldest=130100,
        retargets=() if name in _FREE else _FORTNIGHTLY,
    )


def _ltc(name: str, genesis: str, hrp: str, easiest: int) -> Parameters:
    # The second form of P2SH is Bitcoin's own, and what Litecoin wrote until 2017.
    pubkey, scripts = (0x30, (0x32, 0x05)) if name == "main" else (0x6F, (0x3A, 0xC4))
    return Parameters(
        "ltc",
        (name,),
        (genesis,),
        pubkey,
        scripts,
        hrp,
        easiest,
        True,
        maturity=100,
        mweb=True,
        pegout_maturity=6,
        oldest=210200,
        retargets=() if name in _FREE else _FORTNIGHTLY,
    )


def _doge(name: str, genesis: str, pubkey: int, script: int, easiest: int) -> Parameters:
    # 30 confirmations until block 145,000; asking 240 of those as well costs nobody anything.
    return Parameters(
        "doge",
        (name,),
        (genesis,),
        pubkey,
        (script,),
        None,
        easiest,
        True,
        maturity=240,
        auxpow=0x62,
        retargets=() if name in _FREE else _DIGISHIELD,
    )


# By the settings' `coin` and `chain`.
NETWORKS: Final[Mapping[tuple[str, str], Parameters]] = {
    ("btc", "mainnet"): _btc(
        "main",
        ("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",),
        "bc",
        0x1D00FFFF,
    ),
    ("btc", "testnet"): _btc(
        _TESTNET,
        (
            "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",  # testnet3
            "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",  # testnet4
        ),
        "tb",
        0x1D00FFFF,
    ),
    ("btc", "signet"): _btc(
        "signet",
        ("00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",),
        "tb",
        0x1E0377AE,
    ),
    ("btc", "regtest"): _btc(
        "regtest",
        ("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",),
        "bcrt",
        _EASY,
    ),
    ("ltc", "mainnet"): _ltc(
        "main",
        "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2",
        "ltc",
        _SCRYPT,
    ),
    ("ltc", "testnet"): _ltc(
        _TESTNET,
        "4966625a4b2851d9fdee139e56211a0d88575f59ed816ff5e6a63deb4e3e29a0",
        "tltc",
        _SCRYPT,
    ),
    ("ltc", "regtest"): _ltc(
        "regtest",
        "530827f38f93b43ed12af0b3ad25a288dc02ed74d6d7857862df51fc56c416f9",
        "rltc",
        _EASY,
    ),
    ("doge", "mainnet"): _doge(
        "main",
        "1a91e3dace36e2be3bf030a65679fe821aa1d6ef92e7c9902eb318182c355691",
        0x1E,
        0x16,
        _SCRYPT,
    ),
    ("doge", "testnet"): _doge(
        _TESTNET,
        "bb0a78264637406b6360aad926284d544d7049f45189db5664f3c4d07350559e",
        0x71,
        0xC4,
        _SCRYPT,
    ),
    ("doge", "regtest"): _doge(
        "regtest",
        "3d2160a3b5dc4a9d62e7e66a295f70313ac808440ef7400d6c0772171ce973a5",
        0x6F,
        0xC4,
        _EASY,
    ),
}
