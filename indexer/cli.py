"""`depositd`: parse, run one of `commands`, and say what became of it.

Bad input is one line on stderr and exit 2, a database out of reach exit 3, anything else that can't
be done now exit 1; never a traceback.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Final, NoReturn

import uvloop

from indexer import config, log
from indexer.commands import (
    accounts,
    check,
    demo,
    explain,
    init,
    listen,
    record,
    replay,
    rewind,
    run,
    scan,
    status,
    watch,
)
from indexer.console import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NO_DATABASE,
    Commands,
    Parser,
)
from indexer.database import DatabaseUnavailable
from indexer.model import Impossible, Refused, Unavailable

COMMANDS: Final = (  # as --help lists them
    demo,
    init,
    check,
    run,
    status,
    explain,
    watch,
    scan,
    replay,
    record,
    rewind,
    listen,
    accounts,
)


def main() -> NoReturn:
    """`depositd`, and `python -m indexer`."""
    _use_standard_streams()
    code = command(sys.argv[1:], os.environ)
    try:
        sys.stdout.flush()
    except OSError:  # command() has said so; the interpreter would again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code."""
    try:
        chosen = parser().parse_args(arguments)
        log.configure(quiet=True)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code: int = runner.run(chosen.act(chosen, environ))
            return code
    except config.ConfigError as wrong:
        return _told(EXIT_BAD_INPUT, *wrong.problems)
    except Refused as refused:
        return _told(EXIT_BAD_INPUT, refused)
    except DatabaseUnavailable as unavailable:
        return _told(EXIT_NO_DATABASE, unavailable)
    except (Unavailable, Impossible) as problem:
        return _told(EXIT_FAILED, problem)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def parser() -> Parser:
    top = Parser(prog="depositd", description="Blockchain deposits as signed callbacks.")
    top.add_argument("--version", action="version", version=f"depositd {version('depositd')}")
    commands = Commands(top)
    for module in COMMANDS:
        module.add(commands)
    return top


def _told(code: int, *problems: object) -> int:
    with suppress(OSError):  # nobody hears it, but the code says it too
        for problem in problems:
            print(" ".join(str(problem).split()), file=sys.stderr)
    return code


def _use_standard_streams() -> None:
    """Whatever was closed leads nowhere, and what a terminal can't show is escaped."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)
