"""The settings of a TRON network."""

from __future__ import annotations

import tomllib

import pytest

from indexer.chains.families import codec, open_chain
from indexer.config import ConfigError, TronNetwork, load
from indexer.config.example import EXAMPLE

TABLE = '[networks.tron]\nfamily = "tron"\nconfirmations = 19\nendpoints = ["http://a:8090"]\n'


def environment(text: str) -> dict[str, str]:
    """Variables that say what a file with one network would."""
    table = tomllib.loads(text)["networks"]["tron"]
    return {f"DEPOSITD_NETWORKS__TRON__{key.upper()}": _toml(value) for key, value in table.items()}


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case str():
            return f'"{value}"'
        case _:
            return str(value)


def network(text: str) -> TronNetwork:
    found = load(None, environment(text)).networks["tron"]
    assert isinstance(found, TronNetwork)
    return found


def test_trx_has_six_decimals() -> None:
    found = network(TABLE)
    assert (found.coin, found.symbol, found.decimals) == ("trx", "TRX", 6)
    assert (found.finality, found.quorum, found.required) == ("network", 1, 19)


def test_the_solidified_side_may_stand_elsewhere() -> None:
    both = '[{url = "http://a:8090", solidity = "http://u:secret@b:8091"}, "http://c:8090"]'
    first, second = network(TABLE.replace('["http://a:8090"]', both)).endpoints
    assert (first.solidity, second.solidity) == ("http://u:secret@b:8091", None)
    assert "secret" not in repr(first)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('[{url = "http://a", ws = "ws://a"}]', "unknown key `ws`"),
        ('[{url = "http://a", solidity = "ws://a"}]', "endpoints[0].solidity: must begin with"),
        ("[]", "must name at least one node"),
    ],
)
def test_a_wrong_endpoint_is_named(wrong: str, said: str) -> None:
    with pytest.raises(ConfigError) as failed:
        network(TABLE.replace('["http://a:8090"]', wrong))
    assert said in str(failed.value)


def test_keys_of_other_families_are_unknown() -> None:
    with pytest.raises(ConfigError, match="unknown key `chain_id`"):
        network(TABLE + "chain_id = 1\n")


def test_the_example_shows_a_tron_network() -> None:
    lines = EXAMPLE[EXAMPLE.index("# [networks.tron]") :].split("\n\n")[0].splitlines()
    shown = network("\n".join(line.removeprefix("#") for line in lines))
    assert shown.endpoints[0].solidity == "http://127.0.0.1:8091"


async def test_its_adapter_and_codec_are_known() -> None:
    chain = open_chain("tron", network(TABLE))
    assert chain.codec.family == codec(network(TABLE)).family == "tron"
    await chain.close()
