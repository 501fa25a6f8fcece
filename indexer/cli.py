"""Every command: parse, call, print.

Bad input is one line on stderr and exit 2, a database out of reach exit 3, anything else that can't
be done now exit 1; never a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Final, NoReturn

import uvloop

from callbacks import listen
from indexer import check, config, log, origin, status
from indexer.api import accounts
from indexer.chains.families import open_chain
from indexer.config_example import EXAMPLE
from indexer.database import DatabaseUnavailable, unavailable_database
from indexer.demo import run_demo
from indexer.engine import ROLES, Engine
from indexer.installation import Installation, opened
from indexer.model import Impossible, Refused, Unavailable
from indexer.secret import write_private

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_NO_DATABASE: Final = 3
EXIT_INTERRUPTED: Final = 130
GC_THRESHOLDS: Final = (50_000, 20, 100)  # objects, collections, collections; see gc.set_threshold

Act = Callable[[argparse.Namespace, Mapping[str, str]], Awaitable[int]]


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong is one line, and an option has one spelling."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


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


def parser() -> Parser:
    top = Parser(prog="depositd", description="Blockchain deposits as signed callbacks.")
    top.add_argument("--version", action="version", version=f"depositd {version('depositd')}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, act: Act, text: str, within: Any = commands) -> Parser:
        added: Parser = within.add_parser(name, help=text, description=text)
        added.set_defaults(act=act)
        return added

    demo = add("demo", _demo, "everything on simulated nodes, nothing to configure")
    demo.add_argument("--blocks", type=int, metavar="N", help="end by itself after N blocks")
    init = _printing(add("init", _init, "write a commented depositd.toml"))
    init.add_argument("file", type=Path, nargs="?", default=config.DEFAULT_FILE, metavar="FILE")
    text = "test the configuration: database, and each endpoint of each network"
    _printing(_configured(add("check", _check, text)))
    run = _configured(add("run", _run, "run until SIGTERM"))
    run.add_argument("--role", default=",".join(ROLES), help=f"any of {','.join(ROLES)}")
    run.add_argument("--network", action="append", metavar="ID", help="only this one (repeatable)")
    _printing(_configured(add("status", _status, "networks and deliveries at a glance")))
    rewind = _printing(_configured(add("rewind", _rewind, "read a network again from HEIGHT + 1")))
    rewind.add_argument("network", metavar="NETWORK")
    rewind.add_argument("height", type=int, metavar="HEIGHT")
    text = "receive callbacks on loopback: verify, print, and say why one does not verify"
    _add_listen_options(_printing(add("listen", _listen, text)))

    account = _group(commands, "account", "accounts")
    text = "add an account; prints its id"
    create = _printing(_configured(add("create", _create_account, text, account)))
    create.add_argument("name", type=_text, metavar="NAME")
    create.add_argument("--id", type=_text, help="default: a random one")
    key = _group(commands, "key", "API keys")
    text = "add an API key; prints it, once"
    create = _printing(_configured(add("create", _create_key, text, key)))
    create.add_argument("account", type=_text, nargs="?", metavar="ACCOUNT")
    create.add_argument("--scope", action="append", choices=("read", "write"))
    create.add_argument("--admin", action="store_true", help="a key of the installation's operator")
    return top


def _add_listen_options(added: Parser) -> None:
    added.add_argument("--port", type=int, default=listen.PORT, metavar="P", help="0: any free one")
    added.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="whsec_…",
        help=f"repeatable; more, apart by blanks, in {listen.SECRET_VARIABLE}",
    )
    added.add_argument("--fail", type=float, default=0.0, metavar="0.2", help="chance of a 500")
    added.add_argument("--drop", type=float, default=0.0, metavar="0.1", help="of no answer at all")
    added.add_argument("--delay", default="0", metavar="2s", help="before each answer")


def _group(commands: Any, name: str, text: str) -> Any:
    group = commands.add_parser(name, help=text, description=text)
    return group.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)


def _configured(added: Parser) -> Parser:
    added.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="settings (default: depositd.toml)"
    )
    return added


def _printing(added: Parser) -> Parser:
    added.add_argument("--json", action="store_true", help="print JSON")
    return added


def _text(argument: str) -> str:
    """Python keeps the bytes of an argument that is no UTF-8 as characters that there are not."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("is not UTF-8 text") from None
    return argument


def _settings(chosen: argparse.Namespace, environ: Mapping[str, str]) -> config.Settings:
    settings = config.load(chosen.config, environ)
    for warning in settings.warnings:
        print(warning, file=sys.stderr)
    return settings


@asynccontextmanager
async def _opened(settings: config.Settings) -> AsyncIterator[Installation]:
    """The installation for a command that asks it once: no second try if it goes away meanwhile."""
    async with opened(settings) as installation:
        with unavailable_database():
            yield installation


async def _demo(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.blocks is not None and chosen.blocks < 1:
        raise Refused(f"--blocks must be 1 or more, not {chosen.blocks}")
    return await run_demo(chosen.blocks)


async def _init(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    path: Path = chosen.file
    try:
        write_private(path, EXAMPLE)  # it will hold keys
    except FileExistsError:
        raise Refused(f"{path} exists already; nothing was written") from None
    except OSError as problem:
        raise Refused(f"{path} can't be written: {problem.strerror}") from None
    _print(chosen, {"file": str(path)}, f"wrote {path}")
    return 0


async def _check(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Everything is tried, whatever fails; what the database says decides first."""
    settings = _settings(chosen, environ)
    known: Mapping[str, str] = {}
    code, problem = 0, None
    try:
        async with _opened(settings) as installation:
            known = await check.identities(installation.pool)
    except DatabaseUnavailable as unavailable:
        code, problem = EXIT_NO_DATABASE, str(unavailable)
    except Refused as refused:
        code, problem = EXIT_FAILED, str(refused)
    checks = await check.endpoints(settings, known)
    if not check.enough(settings, checks):
        code = code or EXIT_FAILED
    rows = [c.row() for c in checks]
    database = {"ok": problem is None, "problem": problem}
    _print(
        chosen,
        {"ok": code == 0, "database": database, "endpoints": rows},
        f"database: {problem or 'ok'}\n\n{_table(rows) or 'no networks are configured'}",
    )
    return code


async def _run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(chosen, environ)
    roles = frozenset(chosen.role.split(","))
    if unknown := roles - set(ROLES):
        raise Refused(f"no role {sorted(unknown)[0]!r}: there are {', '.join(ROLES)}")
    if not settings.networks:
        raise Refused("networks: none is configured; `depositd init` writes an example")
    wanted = settings.networks if chosen.network is None else _chosen_networks(chosen, settings)
    stop = _stopped_by_signals()
    async with opened(settings) as installation:
        log.configure()  # now that what is refused would have been
        # What is loaded by now stays, and blocks come and go by the thousand: looking through them
        # all the time took 2 of the 16.5 ms of CPU that a mainnet-size block cost in a profile.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        return await Engine(settings, installation, roles, wanted).run(stop)


async def _listen(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    secrets = listen.read_secrets(chosen.secret, environ)
    manners = listen.Manners(chosen.fail, chosen.drop, listen.seconds(chosen.delay))
    show, stop = partial(_print, chosen), _stopped_by_signals()
    listener = listen.Listener(manners, show, stop, now=time.time, rng=Random())
    await listener.run(secrets, chosen.port)
    return 0


def _stopped_by_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


def _chosen_networks(
    chosen: argparse.Namespace, settings: config.Settings
) -> Mapping[str, config.Network]:
    return {name: _network(settings, name) for name in chosen.network}


def _network(settings: config.Settings, name: str) -> config.Network:
    if name not in settings.networks:
        known = ", ".join(settings.networks) or "none"
        raise Refused(f"no network {name!r} is configured; there are: {known}")
    return settings.networks[name]


async def _status(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    async with _opened(_settings(chosen, environ)) as installation:
        networks = await status.networks(installation.pool)
        seen = await status.seen(installation.pool)
        deliveries = await status.deliveries(installation.pool)
    rows: list[dict[str, Any]] = []
    for network in networks:
        row: dict[str, Any] = {**network, "secondsAgo": round(seen[network["network"]], 1)}
        row["reason"] = row.pop("reason")  # the longest comes last
        rows.append(row)
    text = _table(rows) or "no network has started yet"
    owed = "  ".join(f"{name} {count}" for name, count in deliveries.items())
    _print(chosen, {"networks": rows, "deliveries": deliveries}, f"{text}\n\ndeliveries: {owed}")
    return 0


async def _rewind(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(chosen, environ)
    network = _network(settings, chosen.network)
    chain = open_chain(network.id, network)
    try:
        async with _opened(settings) as installation:
            identity = await chain.connect()
            await origin.identify(installation.pool, network.id, identity)
            waiting = await origin.rewind(
                installation.pool, chain, network.id, network, chosen.height
            )
    finally:
        await chain.close()
    _print(
        chosen,
        {"network": network.id, "height": chosen.height, "unplaced": waiting},
        f"{network.id} reads again from {chosen.height + 1}; "
        f"{waiting} deposits wait to be found again",
    )
    return 0


async def _create_account(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    async with (
        _opened(_settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        account = await accounts.create_account(connection, chosen.name, chosen.id)
    _print(chosen, {"id": account}, account)
    return 0


async def _create_key(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.admin == (chosen.account is not None):
        raise Refused("name an account, or say --admin: `depositd key create ACCOUNT`")
    if chosen.admin and chosen.scope:
        raise Refused("--admin and --scope don't go together: an operator's key may do everything")
    scopes = ("admin",) if chosen.admin else tuple(dict.fromkeys(chosen.scope or ("read", "write")))
    async with (
        _opened(_settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        made = await accounts.create_key(connection, installation.vault, chosen.account, scopes)
    _print(chosen, {"id": made.id, "key": made.key}, made.key)
    return 0


def _print(chosen: argparse.Namespace, result: Any, text: str) -> None:
    try:
        print(json.dumps(result) if chosen.json else text, flush=True)
    except OSError as problem:
        raise Unavailable(f"the result can't be printed: {problem.strerror}") from None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
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
