"""What a single value in the settings may be, and the sentence for one that may not.

No sentence shows the value: it may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PlainValidator, StrictStr

MIN_SECRET_CHARS: Final = 16
MAX_IPC_BYTES: Final = 107  # of a path: what a Unix socket's address holds


class NativeCoin(NamedTuple):
    """What a known EVM chain calls its native coin; None: the network's id."""

    id: str | None
    symbol: str | None
    decimals: int = 18


# By chain id. Only one chain may own a coin id, so rollups that pay in ether take the network's.
NATIVE_COINS: Final[Mapping[int, NativeCoin]] = {
    1: NativeCoin("eth", "ETH"),
    10: NativeCoin(None, "ETH"),
    25: NativeCoin("cro", "CRO"),
    56: NativeCoin("bnb", "BNB"),
    100: NativeCoin("xdai", "XDAI"),
    137: NativeCoin("pol", "POL"),
    146: NativeCoin("s", "S"),
    250: NativeCoin("ftm", "FTM"),
    324: NativeCoin(None, "ETH"),
    5000: NativeCoin("mnt", "MNT"),
    8217: NativeCoin("kaia", "KAIA"),
    8453: NativeCoin(None, "ETH"),
    42161: NativeCoin(None, "ETH"),
    42220: NativeCoin("celo", "CELO"),
    43114: NativeCoin("avax", "AVAX"),
    59144: NativeCoin(None, "ETH"),
    81457: NativeCoin(None, "ETH"),
    534352: NativeCoin(None, "ETH"),
}


def shown(url: str) -> str:
    """A URL as logs and errors may show it: scheme://host:port, without user, path or query."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _http_url(text: str) -> str:
    return _checked_url(text, "http", "https")


def _ws_url(text: str) -> str:
    return _checked_url(text, "ws", "wss")


def _checked_url(text: str, *schemes: str) -> str:
    """The text itself; ValueError, which never shows it, if it is no URL of these schemes."""
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0 and not re.search(r"\s", text)
    except ValueError:
        usable = False
        parts = urlsplit("")
    if usable and parts.scheme not in schemes:
        raise ValueError(f"must begin with {allowed}")
    if not usable:
        raise ValueError(
            f"must be a URL like {schemes[0]}://host:port, its password percent-encoded"
        )
    return text


def _zmq_address(text: str) -> str:
    """Where a publisher is, as libzmq takes it; never where one binds, like `tcp://*:28332`."""
    path = text.removeprefix("ipc://")
    if path != text:
        if not path.startswith("/") or len(path.encode()) > MAX_IPC_BYTES:
            raise ValueError(f"must have a full path of at most {MAX_IPC_BYTES} bytes after ipc://")
        return text
    host = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
    found = re.fullmatch(rf"tcp://{host}:(\d{{1,5}})", text, re.ASCII)
    if found is None or not 0 < int(found[1]) <= 65535:
        raise ValueError("must be tcp://host:port or ipc:///path")
    return text


def _postgres_url(text: str) -> str:
    if not re.match(r"postgres(ql)?://\S+$", text):
        raise ValueError("must be a URL like postgresql://user@host/database")
    return text


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, like [::1]:8080")
    if not host or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("must be host:port, like 127.0.0.1:8080")
    return text


def _range(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be an address range, like 10.0.0.0/8") from None


def whole_or(word: str, least: int) -> PlainValidator:
    def check(value: Any) -> Any:
        if value == word or (type(value) is int and value >= least):
            return value
        raise ValueError(f'must be a whole number of at least {least}, or "{word}"')

    return PlainValidator(check)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def checked_name(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]*", text):
        raise ValueError("must begin with a-z and go on with a-z, 0-9 or _")
    return text


def _header_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9!#$%&'*+.^_`|~-]+", text):
        raise ValueError("is no name of an HTTP header")
    return text


def _header_value(text: str) -> str:
    if not re.fullmatch("[\t -~]*", text):
        raise ValueError("must be printable ASCII")
    return text


Name = Annotated[StrictStr, AfterValidator(checked_name)]
Text = Annotated[StrictStr, Field(min_length=1, max_length=64)]
Secret = Annotated[StrictStr, Field(min_length=MIN_SECRET_CHARS)]
Listen = Annotated[StrictStr, AfterValidator(_listen)]
HttpUrl = Annotated[StrictStr, AfterValidator(_http_url)]
ZmqAddress = Annotated[StrictStr, AfterValidator(_zmq_address)]
WsUrl = Annotated[StrictStr, AfterValidator(_ws_url)]
PostgresUrl = Annotated[StrictStr, AfterValidator(_postgres_url)]
ReadableFile = Annotated[Path, AfterValidator(_file)]
Range = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, PlainValidator(_range)]
HeaderName = Annotated[StrictStr, AfterValidator(_header_name)]
HeaderValue = Annotated[StrictStr, AfterValidator(_header_value)]
