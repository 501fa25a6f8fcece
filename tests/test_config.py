"""Settings: what is wrong is said, all of it, at its place, without showing a secret."""

from __future__ import annotations

import pickle
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from indexer import config
from indexer.config import ConfigError, EvmNetwork, Settings
from indexer.config.example import EXAMPLE
from indexer.config.values import NATIVE_COINS

KNOWN = ", ".join(config.FAMILIES)

NETWORK = """
[networks.ethereum]
family = "evm"
chain_id = 1
endpoints = ["http://node-a:8545"]
confirmations = 12
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "settings.toml"


def loaded(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return config.load(file, environ)


def problems(file: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text, **environ)
    assert str(caught.value)
    return caught.value.problems


def network(file: Path, text: str = "", **environ: str) -> EvmNetwork:
    found = loaded(file, NETWORK + text, **environ).networks["ethereum"]
    assert isinstance(found, EvmNetwork)
    return found


# ------------------------------------------------------------------ what is right


def test_everything_left_out_stands_at_its_default(file: Path) -> None:
    settings = loaded(file, NETWORK)
    assert (settings.database, settings.secret_key) == (None, None)
    assert settings.data_dir == Path(".depositd")
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 8080)
    assert not settings.callbacks.allow_private
    assert not settings.callbacks.allow_http
    found = network(file)
    assert (found.finality, found.reorg_window, found.start) == ("network", 128, "latest")
    assert (found.poll_interval, found.native, found.verify) == (1.0, "transactions", "full")
    assert (found.quorum, found.label, found.required) == (1, None, 12)
    assert (found.coin, found.symbol, found.decimals) == ("eth", "ETH", 18)
    assert settings.warnings == ()


def test_no_networks_are_no_problem_before_run(file: Path) -> None:
    assert loaded(file, "").networks == {}


def test_the_example_loads_as_it_is(file: Path) -> None:
    settings = loaded(file, EXAMPLE)
    assert list(settings.networks) == ["ethereum"]
    assert settings.warnings == ()


def test_the_example_names_every_key_and_its_default(file: Path) -> None:
    """What is commented out can be turned on, and changes nothing where it states a default."""
    on = re.sub(r"^(?:    )?# (?=(\w+ = |\{ url))", "", EXAMPLE, flags=re.MULTILINE)
    on = on.replace('secret_key = ""', f'secret_key = "{"x" * 16}"')
    on = on.replace('admin_key = ""', f'admin_key = "{"x" * 16}"')
    for name in ("cert.pem", "key.pem"):
        Path(name).write_text("pem")
    settings = loaded(file, on)
    assert settings.database is not None
    plain = loaded(file, EXAMPLE)
    given = {"tls_cert", "tls_key", "admin_key"}
    assert settings.api.model_dump(exclude=given) == plain.api.model_dump(exclude=given)
    assert settings.callbacks == plain.callbacks
    nodes = {"endpoints", "label", "tip_alarm"}
    assert settings.networks["ethereum"].model_dump(exclude=nodes) == plain.networks[
        "ethereum"
    ].model_dump(exclude=nodes)
    tables = tomllib.loads(on)
    assert set(tables) == set(Settings.model_fields)
    assert set(tables["api"]) == set(config.Api.model_fields)
    assert set(tables["callbacks"]) == set(config.Callbacks.model_fields)
    assert set(tables["networks"]["ethereum"]) | {"id"} == set(EvmNetwork.model_fields)


@pytest.mark.parametrize(
    ("chain_id", "coin", "symbol"),
    [
        (1, "eth", "ETH"), (56, "bnb", "BNB"), (137, "pol", "POL"),
        (8453, "mine", "ETH"), (31337, "mine", "MINE"),
    ],
)  # fmt: skip
def test_the_native_coin_comes_from_the_chain_or_the_networks_name(
    file: Path, chain_id: int, coin: str, symbol: str
) -> None:
    text = NETWORK.replace("ethereum", "mine").replace("= 1\n", f"= {chain_id}\n")
    found = loaded(file, text).networks["mine"]
    assert (found.coin, found.symbol, found.decimals) == (coin, symbol, 18)


def test_the_native_coin_can_be_named(file: Path) -> None:
    found = network(file, 'coin = "ether"\nsymbol = "Ξ"\ndecimals = 9\n')
    assert (found.coin, found.symbol, found.decimals) == ("ether", "Ξ", 9)


def test_no_two_known_chains_claim_one_coin() -> None:
    ids = [coin.id for coin in NATIVE_COINS.values() if coin.id is not None]
    assert len(ids) == len(set(ids))


def test_endpoints_are_urls_or_tables(file: Path) -> None:
    text = NETWORK.replace(
        '["http://node-a:8545"]',
        '["http://a:1", {url = "https://b", headers = {Authorization = "x"}, ws = "wss://b"}]',
    )
    found = loaded(file, text).networks["ethereum"]
    assert isinstance(found, EvmNetwork)
    first, second = found.endpoints
    assert (first.url, dict(first.headers), first.ws) == ("http://a:1", {}, None)
    assert (second.url, second.headers["Authorization"], second.ws) == (
        "https://b", "x", "wss://b",
    )  # fmt: skip


def test_finalized_asks_for_no_number(file: Path) -> None:
    text = NETWORK.replace("= 12", '= "finalized"')
    assert loaded(file, text).networks["ethereum"].required is None


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("0.0.0.0:80", "0.0.0.0", 80), ("[::1]:8080", "::1", 8080), ("localhost:0", "localhost", 0)],
)
def test_listen_is_read_apart(file: Path, listen: str, host: str, port: int) -> None:
    api = loaded(file, f'api.listen = "{listen}"').api
    assert (api.host, api.port) == (host, port)


def test_proxies_are_ranges(file: Path) -> None:
    api = loaded(file, 'api.trusted_proxies = ["10.0.0.0/8", "::1"]').api
    assert api.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


def test_settings_cannot_be_changed(file: Path) -> None:
    settings = loaded(file, NETWORK)
    with pytest.raises(ValidationError):
        settings.networks["ethereum"].quorum = 2


# ------------------------------------------------------------------ the environment


def test_the_environment_wins(file: Path) -> None:
    settings = loaded(
        file,
        NETWORK + "[api]\nlisten = '127.0.0.1:1'\n",
        DEPOSITD_API__LISTEN="127.0.0.1:2",
        DEPOSITD_NETWORKS__ETHEREUM__CONFIRMATIONS="20",
        DEPOSITD_NETWORKS__ETHEREUM__START="latest",
        DEPOSITD_NETWORKS__ETHEREUM__ENDPOINTS='["http://b", { url = "http://c" }]',
        DEPOSITD_CALLBACKS__ALLOW_HTTP="true",
        UNRELATED="1",
    )
    found = settings.networks["ethereum"]
    assert settings.api.port == 2
    assert (found.confirmations, found.start) == (20, "latest")
    assert [endpoint.url for endpoint in found.endpoints] == ["http://b", "http://c"]
    assert settings.callbacks.allow_http


def test_a_network_can_stand_in_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prefix = "DEPOSITD_NETWORKS__MY_CHAIN__"
    environ = {
        prefix + "FAMILY": "evm",
        prefix + "CHAIN_ID": "31337",
        prefix + "ENDPOINTS": '["http://a"]',
        prefix + "CONFIRMATIONS": "finalized",
    }
    assert config.load(None, environ).networks["my_chain"].confirmations == "finalized"


def test_a_text_that_looks_like_a_number_stays_a_text(file: Path) -> None:
    settings = loaded(
        file,
        NETWORK,
        DEPOSITD_SECRET_KEY="1234567890123456",
        DEPOSITD_NETWORKS__ETHEREUM__LABEL="20",
        DEPOSITD_API__ADMIN_KEY='"quoted as in TOML"',
    )
    assert settings.secret_key == "1234567890123456"
    assert settings.networks["ethereum"].label == "20"
    assert settings.api.admin_key == "quoted as in TOML"


def test_an_unknown_variable_is_a_warning(file: Path) -> None:
    settings = loaded(
        file,
        NETWORK,
        DEPOSITD_LISTEN="secret value",
        DEPOSITD_NETWORKS__COIN="x",
        DEPOSITD_NETWORKS__ETHEREUM__ID="x",
        DEPOSITD_NETWORKS__ETHEREUM__CONFIRMATION="3",
        DEPOSITD_API__LISTEN__PORT="3",
    )
    assert [warning.split()[0] for warning in settings.warnings] == [
        "DEPOSITD_API__LISTEN__PORT",
        "DEPOSITD_LISTEN",
        "DEPOSITD_NETWORKS__COIN",
        "DEPOSITD_NETWORKS__ETHEREUM__CONFIRMATION",
        "DEPOSITD_NETWORKS__ETHEREUM__ID",
    ]
    assert "secret value" not in str(settings.warnings)
    assert list(settings.networks) == ["ethereum"]


def test_a_wrong_variable_is_a_problem_at_its_key(file: Path) -> None:
    assert problems(file, NETWORK, DEPOSITD_NETWORKS__ETHEREUM__QUORUM="many") == [
        "networks.ethereum.quorum: must be a whole number"
    ]


# ------------------------------------------------------------------ the file


def test_the_file_in_the_working_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load(None, {}).networks == {}
    Path("depositd.toml").write_text(NETWORK)
    assert list(config.load(None, {}).networks) == ["ethereum"]


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml can't be read: No such file"):
        config.load(tmp_path / "absent.toml", {})
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path, {})


def test_what_is_no_toml_is_told_with_its_line(file: Path) -> None:
    [problem] = problems(file, "[api]\nlisten = \n")
    assert "settings.toml is not TOML" in problem
    assert "line 2" in problem
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.load(file, {})


# ------------------------------------------------------------------ what is wrong


def test_every_problem_is_told_at_once(file: Path) -> None:
    found = problems(
        file,
        """
        databse = "postgresql://x"
        secret_key = "short"
        [api]
        listen = "8080"
        port = 1
        [networks.a]
        family = "evm"
        chain_id = 5
        endpoints = ["ftp://node", { url = "http://n", heders = {} }]
        confirmation = 1
        [networks.b]
        family = "evm"
        chain_id = 5
        endpoints = []
        confirmations = 200
        poll_interval = 0
        quorum = 0
        [networks.c]
        family = "cosmos"
        [callbacks]
        allow_http = 1
        """,
    )
    assert sorted(found) == sorted(
        [
            "unknown key `databse`; did you mean `database`?",
            "secret_key: must have at least 16 characters",
            "api.listen: must be host:port, like 127.0.0.1:8080",
            "api: unknown key `port`; known: listen, admin_key, tls_cert, tls_key, trusted_proxies",
            "networks.a.endpoints[0].url: must begin with http:// or https://",
            "networks.a.endpoints[1]: unknown key `heders`; did you mean `headers`?",
            "networks.a: unknown key `confirmation`; did you mean `confirmations`?",
            "networks.a.confirmations: is missing",
            "networks.b.chain_id: networks.a has the same",
            "networks.b.endpoints: must name at least one node",
            "networks.b.confirmations: 200 is more than reorg_window (128)",
            "networks.b.poll_interval: must be more than 0.0",
            "networks.b.quorum: must be at least 1",
            f"networks.c.family: is no known family; known: {KNOWN}",
            "callbacks.allow_http: must be true or false",
        ]
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('chain_id = "1"', "chain_id: must be a whole number"),
        ("chain_id = true", "chain_id: must be a whole number"),
        ("chain_id = 0", "chain_id: must be at least 1"),
        ("confirmations = 0", 'confirmations: must be a whole number of at least 1, or "final'),
        ("confirmations = 1.5", 'confirmations: must be a whole number of at least 1, or "final'),
        ("confirmations = true", 'confirmations: must be a whole number of at least 1, or "final'),
        ('confirmations = "final"', "confirmations: must be a whole number of at least 1, or"),
        ("start = -1", 'start: must be a whole number of at least 0, or "latest"'),
        ("reorg_window = 0", "reorg_window: must be at least 1"),
        ("reorg_window = 100001", "reorg_window: must be at most 100000"),
        ("poll_interval = inf", "poll_interval: must be "),
        ("poll_interval = true", "poll_interval: must be a number"),
        ('finality = "deep"', "finality: must be 'network' or 'depth'"),
        ('native = "on"', "native: must be 'off', 'transactions' or 'traces'"),
        ("verify = false", "verify: must be 'full', 'bloom' or 'off'"),
        ("quorum = 2", "quorum: 2 endpoints can never agree where there are 1"),
        ('coin = "ETH"', "coin: must begin with a-z"),
        ("decimals = 78", "decimals: must be at most 77"),
        ('label = ""', "label: must have at least 1 characters"),
        ("endpoints = 'http://a'", "endpoints: must be a list"),
        ("endpoints = [1]", "endpoints[0]: must be a table"),
        ("endpoints = ['http://']", "endpoints[0].url: must be a URL like http://host:port"),
        ("endpoints = ['http://a b']", "endpoints[0].url: must be a URL like http://host:port"),
        ("endpoints = ['http://a:99999']", "endpoints[0].url: must be a URL like"),
        ("endpoints = ['http://a', 'http://a/']", "endpoints: number 2 is the same as number 1"),
        ("endpoints = [{url = 'http://a', ws = 'http://a'}]", "endpoints[0].ws: must begin with"),
        ("endpoints = [{url = 'http://a', headers = {a = 1}}]", "endpoints[0].headers.a: must be"),
        ("endpoints = [{url = 'http://a', headers = {'a b' = ''}}]", "endpoints[0].headers.a b:"),
        ('endpoints = [{url = "http://a", headers = {a = "\\n"}}]', "endpoints[0].headers.a:"),
        ("endpoints = [{}]", "endpoints[0].url: is missing"),
        ('id = "other"', "unknown key `id`"),
    ],
)
def test_a_wrong_value_of_a_network_is_told(file: Path, line: str, sentence: str) -> None:
    key = line.split(" = ")[0]
    text = re.sub(rf"^{key} = .*\n", "", NETWORK, flags=re.MULTILINE)
    [problem] = problems(file, f"{text}{line}\n")
    assert re.match(r"networks\.ethereum[.:] ?", problem)
    assert re.sub(r"^networks\.ethereum[.:] ?", "", problem).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("networks = 1", "networks: must be a table"),
        ("networks.a = 1", "networks.a: must be a table"),
        ("api = 1", "api: must be a table"),
        ("networks.a = {}", f"networks.a.family: is missing; known: {KNOWN}"),
        (
            "networks.a.family = 1",
            f"networks.a.family: is no known family; known: {KNOWN}",
        ),
        ("database = 1", "database: must be a text in quotes"),
        ("data_dir = 1", "data_dir: must be a path in quotes"),
        ("database = 'mysql://x'", "database: must be a URL like postgresql://user@host/database"),
        ("database = 'postgresql://x/y'", "secret_key: is required with `database`"),
        ("api.listen = '::1:80'", "api.listen: an IPv6 address needs brackets"),
        ("api.listen = 'a:65536'", "api.listen: must be host:port"),
        ("api.admin_key = 'short'", "api.admin_key: must have at least 16 characters"),
        ("api.trusted_proxies = ['10.0.0.1/8']", "api.trusted_proxies[0]: must be an address rang"),
        ("api.tls_cert = 'absent.pem'", "api.tls_cert: there is no file absent.pem"),
        ("api.tls_key = 'settings.toml'", "api.tls_key: tls_cert and tls_key stand together"),
        ("api.tls_cert = 'settings.toml'", "api.tls_key: tls_cert and tls_key stand together"),
    ],
)
def test_a_wrong_value_is_told(file: Path, text: str, sentence: str) -> None:
    [problem] = problems(file, text)
    assert problem.startswith(sentence)


@pytest.mark.parametrize("name", ["Eth", "1a", "a-b", "é"])
def test_a_networks_name_has_one_form(file: Path, name: str) -> None:
    text = NETWORK.replace("ethereum", f'"{name}"').replace("= 1\n", "= 31337\n")
    assert problems(file, text) == [
        f"networks.{name}: must begin with a-z and go on with a-z, 0-9 or _"
    ]


def test_networks_share_neither_coin_nor_label(file: Path) -> None:
    second = NETWORK.replace("ethereum", "second").replace("= 1\n", "= 2\n")
    found = problems(
        file, NETWORK + 'label = "ERC20"\n' + second + 'label = "ERC20"\ncoin = "eth"\n'
    )
    assert found == [
        "networks.second.coin: networks.ethereum has the same",
        "networks.second.label: networks.ethereum has the same",
    ]
    assert problems(file, NETWORK + second + 'label = "ethereum"\n') == [
        "networks.second.label: another network has it as its id"
    ]


# ------------------------------------------------------------------ secrets

SECRETS = """
database = "postgresql://user:hunter2@host/db"
secret_key = "hunter2hunter2hunter2"
api.admin_key = "hunter2hunter2hunter2"
[networks.ethereum]
family = "evm"
chain_id = 1
confirmations = 1
endpoints = [{ url = "http://user:hunter2@node/hunter2?key=hunter2", headers = {A = "hunter2"} }]
"""


def test_no_representation_shows_a_secret(file: Path) -> None:
    settings = loaded(file, SECRETS)
    for shown in (settings, settings.api, settings.networks, settings.networks["ethereum"]):
        assert "hunter2" not in repr(shown)
        assert "hunter2" not in str(shown)
    assert settings.networks["ethereum"].endpoints[0].name == "http://node"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"postgresql://', '"mysql://'),
        ("hunter2hunter2hunter2", "hunter2"),
        ("user:hunter2@node", "user:hunter2/@no de"),
        ("@node/", "@node:hunter2/"),
        ('{A = "hunter2"}', '{A = "hunter2\\u0007"}'),
        ('{A = "hunter2"}', '"hunter2"'),
        ("secret_key =", "secret_kee ="),
        ("confirmations = 1", "confirmations = 'hunter2'"),
    ],
)
def test_no_problem_shows_a_secret(file: Path, right: str, wrong: str) -> None:
    file.write_text(SECRETS.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        config.load(file, {})
    everything: Any = (caught.value.problems, str(caught.value), repr(caught.value))
    assert "hunter2" not in str(everything)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert b"hunter2" not in pickle.dumps(caught.value.problems)
