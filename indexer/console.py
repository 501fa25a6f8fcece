"""What commands share: how they are parsed, what they open, and how they print."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from tqdm import tqdm

from indexer import config, installation
from indexer.database import unavailable_database
from indexer.model import Refused, Unavailable

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_NO_DATABASE: Final = 3
EXIT_INTERRUPTED: Final = 130

Act = Callable[[argparse.Namespace, Mapping[str, str]], Awaitable[int]]


# ------------------------------------------------------------------------------ parsing


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong is one line, and an option has one spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


class Commands:
    """The commands of one level: `depositd …`, or a group as `depositd key …`."""

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(self, name: str, act: Act, text: str) -> Parser:
        """A command; `act` returns its exit code."""
        added: Parser = self._parsers.add_parser(name, help=text, description=text)
        added.set_defaults(act=act)
        return added

    def group(self, name: str, text: str) -> Commands:
        return Commands(self._parsers.add_parser(name, help=text, description=text))


def configured(added: Parser) -> Parser:
    """A command that reads the settings."""
    added.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="settings (default: depositd.toml)"
    )
    return added


def printing(added: Parser) -> Parser:
    """A command with a result."""
    added.add_argument("--json", action="store_true", help="print JSON")
    return added


def ranged(added: Parser) -> Parser:
    """A command about blocks of a network: `chosen.network`, and see `chosen_range`."""
    added.add_argument("network", metavar="NETWORK")
    for name, meaning in (("from", "first"), ("to", "last")):
        added.add_argument(
            f"--{name}",
            dest=meaning,
            type=int,
            required=True,
            metavar="HEIGHT",
            help=f"the {meaning} block",
        )
    return added


def chosen_range(chosen: argparse.Namespace) -> tuple[int, int]:
    """The first and the last block; Refused where there is none between them."""
    first, last = chosen.first, chosen.last
    if first < 0:
        raise Refused(f"--from must be 0 or more, not {first}")
    if first > last:
        raise Refused(f"--from {first} is above --to {last}")
    return first, last


def text_argument(argument: str) -> str:
    """Python keeps the bytes of an argument that is no UTF-8 as characters that there are not."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8 text") from None
    return argument


# ------------------------------------------------------------------------------ opening


def settings(chosen: argparse.Namespace, environ: Mapping[str, str]) -> config.Settings:
    read = config.load(chosen.config, environ)
    for warning in read.warnings:
        print(warning, file=sys.stderr)
    return read


@asynccontextmanager
async def opened(read: config.Settings) -> AsyncIterator[installation.Installation]:
    """The installation for a command that asks it once: no second try if it goes away meanwhile."""
    async with installation.opened(read) as found:
        with unavailable_database():
            yield found


def network(read: config.Settings, name: str) -> config.Network:
    """A configured network; Refused with the names of those that there are."""
    if name not in read.networks:
        known = ", ".join(read.networks) or "none"
        raise Refused(f"no network {name!r} is configured; there are: {known}")
    return read.networks[name]


def stopped_by_signals() -> asyncio.Event:
    """Set by SIGTERM or Ctrl-C, for a command that ends what is in hand."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


# ------------------------------------------------------------------------------ printing


def show(chosen: argparse.Namespace, result: Any, text: str) -> None:
    """The result: JSON where it was asked for, else text."""
    try:
        print(json.dumps(result) if chosen.json else text, flush=True)
    except OSError as problem:
        raise Unavailable(f"the result can't be printed: {problem.strerror}") from None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns as wide as they need to be; what is not known is a dash."""
    if not rows:
        return ""
    cells = [[name.upper() for name in rows[0]]]
    cells += [["-" if v is None else str(v) for v in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    return "\n".join(lines)


class Progress:
    """A bar on stderr with rate and time left; nothing where stderr is no terminal."""

    def __init__(self, total: int | None, unit: str, label: str, done: int = 0) -> None:
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=f" {unit}",
            unit_scale=True,
            dynamic_ncols=True,
            leave=False,
            disable=None,
        )

    def advance(self, count: int) -> None:
        self._bar.update(count)

    def aside(self) -> AbstractContextManager[None]:
        """For what is printed meanwhile: the bar makes room and comes back below."""
        return tqdm.external_write_mode(sys.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
