"""The settings of a Bitcoin-like network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.chains.families import codec, open_chain
from indexer.config import ConfigError, UtxoNetwork, load
from indexer.config.example import EXAMPLE

TABLE = """\
[networks.bitcoin]
family = "utxo"
coin = "btc"
endpoints = ["http://user:secret@127.0.0.1:8332"]
confirmations = 3
"""


def network(folder: Path, text: str = TABLE) -> UtxoNetwork:
    path = folder / "depositd.toml"
    path.write_text(text)
    (found,) = load(path, {}).networks.values()
    assert isinstance(found, UtxoNetwork)
    return found


def test_a_coin_is_its_own_symbol_with_eight_decimals(tmp_path: Path) -> None:
    found = network(tmp_path)
    assert (found.coin, found.symbol, found.decimals, found.chain) == ("btc", "BTC", 8, "mainnet")
    assert (found.finality, found.quorum, found.required) == ("depth", 1, 3)
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("btc", "bch"), "coin"),
        (('coin = "btc"\n', ""), "coin: is missing"),
        (('coin = "btc"', 'coin = "doge"\nchain = "signet"'), "doge has no signet"),
        (('coin = "btc"', 'coin = "btc"\nchain = "testnet3"'), "chain"),
        (('coin = "btc"', 'coin = "btc"\nfinality = "network"'), "finality"),
        (('coin = "btc"', 'coin = "btc"\nchain_id = 1'), "unknown key `chain_id`"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as failed:
        network(tmp_path, TABLE.replace(*change))
    assert said in str(failed.value)


def publishing(folder: Path, address: str) -> str | None:
    """What the one endpoint's `zmq` is read as."""
    endpoint = f'{{ url = "http://127.0.0.1:8332", zmq = {json.dumps(address)} }}'
    text = TABLE.replace('"http://user:secret@127.0.0.1:8332"', endpoint)
    (found,) = network(folder, text).endpoints
    return found.zmq


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:28332",
        "tcp://bitcoind:28332",
        "tcp://[::1]:65535",
        "ipc:///run/bitcoin.zmq",
    ],
)
def test_a_node_may_publish_its_blocks(tmp_path: Path, address: str) -> None:
    assert publishing(tmp_path, address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bitcoind:28332",
        "http://bitcoind:28332",
        "tcp://bitcoind",
        "tcp://*:28332",  # where it binds
        "tcp://bitcoind:*",
        "tcp://bitcoind:0",
        "tcp://bitcoind:65536",
        "tcp://bitcoind:28332/",
        "tcp://user:hidden@bitcoind:28332",
        "tcp://lo;bitcoind:28332",
        "tcp://bitcoind:28332 ",
        "inproc://hidden",
        "pgm://lo;239.192.1.1:28332",
        "ipc://",
        "ipc://hidden",
        "ipc:///" + 107 * "a",
    ],
)
def test_an_address_where_nobody_can_publish_is_refused_in_one_line(
    tmp_path: Path, address: str
) -> None:
    with pytest.raises(ConfigError) as failed:
        publishing(tmp_path, address)
    (problem,) = failed.value.problems
    assert problem.startswith("networks.bitcoin.endpoints[0].zmq: must ")
    assert "hidden" not in problem
    assert "\n" not in problem


def test_only_a_bitcoin_like_node_publishes(tmp_path: Path) -> None:
    text = (
        '[networks.tron]\nfamily = "tron"\nconfirmations = 19\n'
        'endpoints = [{ url = "http://a:8090", zmq = "tcp://a:28332" }]\n'
    )
    with pytest.raises(ConfigError, match="unknown key `zmq`"):
        network(tmp_path, text)


def test_two_networks_of_one_coin_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has the same"):
        network(tmp_path, TABLE + TABLE.replace("networks.bitcoin", "networks.other"))


def test_the_example_shows_a_bitcoin_network(tmp_path: Path) -> None:
    lines = EXAMPLE[EXAMPLE.index("# [networks.bitcoin]") :].split("\n\n")[0].splitlines()
    shown = network(tmp_path, "\n".join(line.removeprefix("#") for line in lines))
    assert (shown.coin, shown.chain) == ("btc", "mainnet")


@pytest.mark.parametrize("coin", ["btc", "ltc", "doge"])
async def test_its_adapter_and_codec_are_known(tmp_path: Path, coin: str) -> None:
    found: Any = network(tmp_path, TABLE.replace("btc", coin))
    chain = open_chain("bitcoin", found)
    assert chain.codec.family == codec(found).family == "utxo"
    script = b"\x00\x14" + bytes(20) if coin != "doge" else b"\xa9\x14" + bytes(20) + b"\x87"
    assert codec(found).parse_address(codec(found).format_address(script)) == script
    await chain.close()
