"""Settings from TOML and the environment, every problem reported at once.

Source of every key, default and rule: the contract's "Configuration". What validates is a frozen
`Settings`; what does not is one `ConfigError` that names every wrong key and shows no value that
may hold a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from indexer.chains.utxo_network import NETWORKS as UTXO_NETWORKS
from indexer.config import source
from indexer.config.values import (
    NATIVE_COINS,
    HeaderName,
    HeaderValue,
    HttpUrl,
    Listen,
    Name,
    NativeCoin,
    PostgresUrl,
    Range,
    ReadableFile,
    Secret,
    Text,
    WsUrl,
    ZmqAddress,
    checked_name,
    shown,
    whole_or,
)
from indexer.model import MAX_DECIMALS, Refused

DEFAULT_FILE: Final = Path("depositd.toml")  # read from the working directory where none is named
MAX_REORG_WINDOW: Final = 100_000  # blocks; each is a stored header and, in a swap, a fetched block
MAX_POLL_INTERVAL: Final = 3600.0  # seconds


Table = TypeVar("Table", bound="_Table")


class ConfigError(Refused):
    """The settings are wrong; `problems` has a sentence for each thing to mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )


class Api(_Table):
    """`[api]`"""

    listen: Listen = "127.0.0.1:8080"
    admin_key: Secret | None = Field(default=None, repr=False)
    tls_cert: ReadableFile | None = None
    tls_key: ReadableFile | None = None
    trusted_proxies: tuple[Range, ...] = ()

    @field_validator("tls_key")
    @classmethod
    def _both_or_none(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_cert" in info.data and (value is None) != (info.data["tls_cert"] is None):
            raise ValueError("tls_cert and tls_key stand together or not at all")
        return value

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])


class Callbacks(_Table):
    """`[callbacks]`"""

    allow_private: StrictBool = False
    allow_http: StrictBool = False
    source_addresses: tuple[Range, ...] = ()  # from which callbacks come, for receivers to pin
    keep_answers: StrictBool = True  # the beginning of each, in the attempt log


class Endpoint(_Table):
    """One node of a network. Its URLs and headers may hold secrets: show `name`, never them."""

    url: HttpUrl
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        """scheme://host:port, for logs and errors."""
        return shown(self.url)

    def __repr_args__(self) -> Iterator[tuple[str, str]]:
        yield "name", self.name


class EvmEndpoint(Endpoint):
    """`ws`: where it tells of new blocks."""

    ws: WsUrl | None = None


class TronEndpoint(Endpoint):
    """`solidity`: its solidified side, where that is at another URL."""

    solidity: HttpUrl | None = None


class UtxoEndpoint(Endpoint):
    """`zmq`: where it publishes `hashblock`."""

    zmq: ZmqAddress | None = None


# A bare URL is an endpoint with nothing else to say.
_BARE_URL: Final = BeforeValidator(
    lambda value: {"url": value} if isinstance(value, str) else value
)


class Network(_Table):
    """What `[networks.ID]` has in every family. A family is a subclass and an entry in FAMILIES."""

    unique: ClassVar[tuple[str, ...]] = ("coin", "label")  # keys that no two networks share
    asking: ClassVar[tuple[str, ...]] = ()  # keys that decide what a node is asked

    id: Name
    family: str
    label: Text | None = None  # the exchange-style routes take it for the id
    coin: StrictStr
    symbol: Text
    decimals: Annotated[StrictInt, Field(ge=0, le=MAX_DECIMALS)]
    endpoints: tuple[Annotated[Endpoint, _BARE_URL], ...]
    quorum: Annotated[StrictInt, Field(ge=1)] = 1
    reorg_window: Annotated[StrictInt, Field(ge=1, le=MAX_REORG_WINDOW)] = 128
    confirmations: Annotated[int | Literal["finalized"], whole_or("finalized", 1)]
    finality: Literal["network", "depth"] = "network"
    start: Annotated[int | Literal["latest"], whole_or("latest", 0)] = "latest"
    poll_interval: Annotated[
        StrictFloat, Field(gt=0, le=MAX_POLL_INTERVAL, allow_inf_nan=False)
    ] = 1.0  # seconds
    tip_alarm: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)] | None = None  # seconds

    @field_validator("coin")
    @classmethod
    def _coin_id(cls, value: str, info: ValidationInfo) -> str:
        if "id" in info.data:  # else it may be the default, and the id's problem is told already
            return checked_name(value)
        return value

    @field_validator("confirmations")
    @classmethod
    def _within_the_window(cls, value: int | str, info: ValidationInfo) -> int | str:
        window = info.data.get("reorg_window")
        if window is not None and isinstance(value, int) and value > window:
            raise ValueError(f"{value} is more than reorg_window ({window})")
        return value

    @field_validator("endpoints")
    @classmethod
    def _some_and_no_twins(cls, value: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        if not value:
            raise ValueError("must name at least one node")
        urls = [endpoint.url.rstrip("/") for endpoint in value]
        for index, url in enumerate(urls):
            if (first := urls.index(url)) < index:
                raise ValueError(f"number {index + 1} is the same as number {first + 1}")
        return value

    @field_validator("quorum")
    @classmethod
    def _reachable(cls, value: int, info: ValidationInfo) -> int:
        endpoints = info.data.get("endpoints")
        if endpoints is not None and value > len(endpoints):
            raise ValueError(f"{value} endpoints can never agree where there are {len(endpoints)}")
        return value

    @property
    def required(self) -> int | None:
        """`confirmations` as deposits hold it: None means "when the network calls it final"."""
        return self.confirmations if isinstance(self.confirmations, int) else None

    @property
    def asked(self) -> dict[str, int | str]:
        """The family, and the settings that decide what a node is asked about a block."""
        return self.model_dump(include={"family", *self.asking})

    def alone(self, endpoint: Endpoint) -> Self:
        """The same with one endpoint, whose word is enough."""
        return self.model_copy(update={"endpoints": (endpoint,), "quorum": 1})

    @classmethod
    def filled(cls, table: dict[str, Any]) -> dict[str, Any]:
        """The raw table with the defaults that depend on other keys of it."""
        return table


class EvmNetwork(Network):
    """`[networks.ID]` with `family = "evm"`."""

    family: Literal["evm"]
    endpoints: tuple[Annotated[EvmEndpoint, _BARE_URL], ...]
    chain_id: Annotated[StrictInt, Field(ge=1)]
    native: Literal["off", "transactions", "traces"] = "transactions"
    verify: Literal["full", "bloom", "off"] = "full"

    unique: ClassVar[tuple[str, ...]] = (*Network.unique, "chain_id")
    asking: ClassVar[tuple[str, ...]] = ("chain_id", "native", "verify")

    @classmethod
    def filled(cls, table: dict[str, Any]) -> dict[str, Any]:
        chain_id = table.get("chain_id")
        known = NATIVE_COINS.get(chain_id) if type(chain_id) is int else None
        known = known or NativeCoin(None, None)
        coin = table.get("coin", known.id or table["id"])
        symbol = known.symbol or str(coin).upper()
        return {"coin": coin, "symbol": symbol, "decimals": known.decimals, **table}


class TronNetwork(Network):
    """`[networks.ID]` with `family = "tron"`."""

    family: Literal["tron"]
    endpoints: tuple[Annotated[TronEndpoint, _BARE_URL], ...]

    @classmethod
    def filled(cls, table: dict[str, Any]) -> dict[str, Any]:
        return {"coin": "trx", "symbol": "TRX", "decimals": 6, **table}


class UtxoNetwork(Network):
    """`[networks.ID]` with `family = "utxo"`."""

    family: Literal["utxo"]
    endpoints: tuple[Annotated[UtxoEndpoint, _BARE_URL], ...]
    coin: Literal["btc", "ltc", "doge"]
    chain: Literal["mainnet", "testnet", "signet", "regtest"] = "mainnet"
    asking: ClassVar[tuple[str, ...]] = ("coin", "chain")
    finality: Literal["depth"] = "depth"  # work can always be outdone: no node says what is final

    @field_validator("chain")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        coin = info.data.get("coin")
        if coin is not None and (coin, value) not in UTXO_NETWORKS:
            raise ValueError(f"{coin} has no {value}")
        return value

    @classmethod
    def filled(cls, table: dict[str, Any]) -> dict[str, Any]:
        symbol = str(table.get("coin", table["id"])).upper()
        return {"symbol": symbol, "decimals": 8, **table}


FAMILIES: Final[Mapping[str, type[Network]]] = {
    "evm": EvmNetwork,
    "tron": TronNetwork,
    "utxo": UtxoNetwork,
}


class Settings(_Table):
    """Everything in `depositd.toml`, with the environment over it."""

    database: PostgresUrl | None = Field(default=None, repr=False)  # None: the embedded one
    data_dir: Path = Path(".depositd")
    secret_key: Secret | None = Field(default=None, repr=False)
    api: Api = Api()
    networks: dict[str, Network] = Field(default_factory=dict)
    callbacks: Callbacks = Callbacks()
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("secret_key")
    @classmethod
    def _goes_with_database(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("database") is not None:
            raise ValueError("is required with `database`: it encrypts the secrets stored there")
        return value

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the log: what was given and has no effect."""
        return self._warnings


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of a file (None: `depositd.toml` if there is one) with `environ` over them.

    Raises ConfigError with every problem at once. No networks is no problem here.
    """
    path = _default_file() if path is None else path
    try:
        tables = {} if path is None else source.read(path)
    except Refused as problem:
        raise ConfigError([str(problem)]) from None
    warnings = source.overlay(tables, environ, Settings, FAMILIES)
    problems: list[str] = []
    networks = _networks(tables.pop("networks", {}), problems)
    settings = _validate(Settings, tables, (), problems)
    if problems or settings is None:
        raise ConfigError(problems)
    settings = settings.model_copy(update={"networks": networks})
    settings._warnings = tuple(warnings)
    return settings


def _default_file() -> Path | None:
    try:
        DEFAULT_FILE.stat()
    except FileNotFoundError:
        return None
    except OSError:  # what is wrong with it is told when it is read
        return DEFAULT_FILE
    return DEFAULT_FILE


def _validate(
    model: type[Table], table: Any, place: source.Place, problems: list[str]
) -> Table | None:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems += source.sentences(error, model, place)
        return None


def _networks(tables: Any, problems: list[str]) -> dict[str, Network]:
    """Every network by its own family's rules, then what no two may share."""
    if not isinstance(tables, dict):
        problems.append("networks: must be a table")
        return {}
    networks = {}
    filled: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        family = _family(name, table, problems)
        if family is None:
            continue
        filled[name] = family.filled({**table, "id": name})
        network = _validate(family, filled[name], ("networks", name), problems)
        if network is not None:
            networks[name] = network
    for name, table in filled.items():
        problems += _clashes(name, table, filled)
    return networks


def _family(name: str, table: Any, problems: list[str]) -> type[Network] | None:
    known = ", ".join(FAMILIES)
    if not isinstance(table, dict):
        problems.append(f"networks.{name}: must be a table")
        return None
    if "id" in table:
        problems.append(f"networks.{name}: unknown key `id`; a network's id is its table's name")
    family = table.get("family")
    if family is None:
        problems.append(f"networks.{name}.family: is missing; known: {known}")
    elif not isinstance(family, str) or family not in FAMILIES:
        problems.append(f"networks.{name}.family: is no known family; known: {known}")
    return FAMILIES.get(family) if isinstance(family, str) else None


def _clashes(name: str, table: dict[str, Any], tables: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What this network shares with one that stands before it."""
    others = list(tables)[: list(tables).index(name)]
    for key in FAMILIES[table["family"]].unique:
        mine = table.get(key)
        twins = [o for o in others if mine == tables[o].get(key) and type(mine) in (int, str)]
        if twins:
            yield f"networks.{name}.{key}: networks.{twins[0]} has the same"
    label = table.get("label")
    if label != name and isinstance(label, str) and label in tables:
        yield f"networks.{name}.label: another network has it as its id"
