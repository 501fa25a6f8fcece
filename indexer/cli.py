"""Every command: parse, call, print.

Bad input is one line on stderr and exit 2, a database out of reach exit 3, anything else that can't
be done now exit 1; never a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson
import uvloop

from indexer import check, config, log, origin, status
from indexer.api import accounts
from indexer.chains.families import open_chain
from indexer.config_example import EXAMPLE
from indexer.database import DatabaseUnavailable
from indexer.demo import run_demo
from indexer.engine import ROLES, Engine
from indexer.installation import opened
from indexer.model import Impossible, Refused, Unavailable

EXIT_FAILED: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_NO_DATABASE: Final = 3
EXIT_INTERRUPTED: Final = 130


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong is one line."""

    def error(self, message: str) -> NoReturn:
        raise Refused(f"{message} (see `{self.prog} --help`)")


def main() -> NoReturn:
    """`depositd`, and `python -m indexer`."""
    sys.exit(command(sys.argv[1:], os.environ))


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code."""
    try:
        chosen = parser().parse_args(arguments)
        log.configure(quiet=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code: int = runner.run(chosen.act(chosen, environ))
            return code
    except config.ConfigError as wrong:
        for problem in wrong.problems:
            print(problem, file=sys.stderr)
        return EXIT_BAD_INPUT
    except Refused as refused:
        print(refused, file=sys.stderr)
        return EXIT_BAD_INPUT
    except DatabaseUnavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return EXIT_NO_DATABASE
    except (Unavailable, Impossible) as problem:
        print(problem, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def parser() -> Parser:
    top = Parser(prog="depositd", description="Blockchain deposits as signed callbacks.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(
        name: str,
        act: Callable[[argparse.Namespace, Mapping[str, str]], Awaitable[int]],
        text: str,
        within: Any = commands,
    ) -> Parser:
        added: Parser = within.add_parser(name, help=text, description=text)
        added.set_defaults(act=act)
        added.add_argument(
            "-c", "--config", type=Path, metavar="FILE", help="settings (default: depositd.toml)"
        )
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    demo = add("demo", _demo, "everything on simulated nodes, nothing to configure")
    demo.add_argument("--blocks", type=int, metavar="N", help="end by itself after N blocks")
    init = add("init", _init, "write a commented depositd.toml")
    init.add_argument("file", type=Path, nargs="?", default=config.DEFAULT_FILE, metavar="FILE")
    add("check", _check, "test the configuration: database, and each endpoint of each network")
    run = add("run", _run, "run until SIGTERM")
    run.add_argument("--role", default=",".join(ROLES), help=f"any of {','.join(ROLES)}")
    run.add_argument("--network", action="append", metavar="ID", help="only this one (repeatable)")
    add("status", _status, "networks and deliveries at a glance")
    rewind = add("rewind", _rewind, "read a network again from HEIGHT + 1")
    rewind.add_argument("network", metavar="NETWORK")
    rewind.add_argument("height", type=int, metavar="HEIGHT")

    account = commands.add_parser("account", help="accounts").add_subparsers(
        required=True, metavar="COMMAND", parser_class=Parser
    )
    create = add("create", _create_account, "add an account; prints its id", account)
    create.add_argument("name", metavar="NAME")
    create.add_argument("--id", help="default: made from the name")
    key = commands.add_parser("key", help="API keys").add_subparsers(
        required=True, metavar="COMMAND", parser_class=Parser
    )
    create = add("create", _create_key, "add an API key; prints it, once", key)
    create.add_argument("account", nargs="?", metavar="ACCOUNT")
    create.add_argument("--scope", action="append", choices=("read", "write"))
    create.add_argument("--admin", action="store_true", help="a key of the installation's operator")
    return top


def _settings(chosen: argparse.Namespace, environ: Mapping[str, str]) -> config.Settings:
    settings = config.load(chosen.config, environ)
    for warning in settings.warnings:
        print(warning, file=sys.stderr)
    return settings


async def _demo(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.blocks is not None and chosen.blocks < 1:
        raise Refused(f"--blocks must be 1 or more, not {chosen.blocks}")
    return await run_demo(chosen.blocks)


async def _init(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        with chosen.file.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except FileExistsError:
        raise Refused(f"{chosen.file} exists already; nothing was written") from None
    except OSError as problem:
        raise Refused(f"{chosen.file} can't be written: {problem.strerror}") from None
    _print(chosen, {"file": str(chosen.file)}, f"wrote {chosen.file}")
    return 0


async def _check(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(chosen, environ)
    async with opened(settings):
        pass
    checks = await check.endpoints(settings)
    good = check.enough(settings, checks)
    rows = [c.row() for c in checks]
    _print(chosen, {"ok": good, "endpoints": rows}, _table(rows) or "no networks are configured")
    return 0 if good else EXIT_FAILED


async def _run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(chosen, environ)
    roles = frozenset(chosen.role.split(","))
    if unknown := roles - set(ROLES):
        raise Refused(f"no role {sorted(unknown)[0]!r}: there are {', '.join(ROLES)}")
    if not settings.networks:
        raise Refused("networks: none is configured; `depositd init` writes an example")
    wanted = settings.networks if chosen.network is None else _chosen_networks(chosen, settings)
    log.configure()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with opened(settings) as installation:
        return await Engine(settings, installation, roles, wanted).run(stop)


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
    async with opened(_settings(chosen, environ)) as installation:
        networks = await status.networks(installation.pool)
        deliveries = await status.deliveries(installation.pool)
    text = _table(networks) or "no network has started yet"
    owed = "  ".join(f"{name} {count}" for name, count in deliveries.items())
    _print(
        chosen, {"networks": networks, "deliveries": deliveries}, f"{text}\n\ndeliveries: {owed}"
    )
    return 0


async def _rewind(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = _settings(chosen, environ)
    network = _network(settings, chosen.network)
    chain = open_chain(network.id, network)
    try:
        async with opened(settings) as installation:
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
        opened(_settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        account = await accounts.create_account(connection, chosen.name, chosen.id)
    _print(chosen, {"id": account}, account)
    return 0


async def _create_key(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.admin == (chosen.account is not None):
        raise Refused("name an account, or say --admin: `depositd key create ACCOUNT`")
    scopes = ("admin",) if chosen.admin else tuple(dict.fromkeys(chosen.scope or ("read", "write")))
    async with (
        opened(_settings(chosen, environ)) as installation,
        installation.pool.acquire() as connection,
    ):
        key_id, key = await accounts.create_key(connection, chosen.account, scopes)
    _print(chosen, {"id": key_id, "key": key}, key)
    return 0


def _print(chosen: argparse.Namespace, result: Any, text: str) -> None:
    print(orjson.dumps(result).decode() if chosen.json else text)


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
