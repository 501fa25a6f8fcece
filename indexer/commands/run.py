"""`depositd run`: the roles of a process, until SIGTERM."""

from __future__ import annotations

import argparse
import gc
import resource
from collections.abc import Mapping
from typing import Final

from indexer import log
from indexer.console import Commands, configured, network, settings, stopped_by_signals
from indexer.engine import ROLES, Engine
from indexer.installation import opened
from indexer.model import Refused

FILES: Final = 65_536  # open at once, where the system lets us: connections to receivers
GC_THRESHOLDS: Final = (50_000, 20, 100)  # objects, collections, collections; see gc.set_threshold


def add(commands: Commands) -> None:
    run_ = configured(commands.add("run", run, "run until SIGTERM"))
    run_.add_argument("--role", default=",".join(ROLES), help=f"any of {','.join(ROLES)}")
    run_.add_argument("--network", action="append", metavar="ID", help="only this one (repeatable)")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    read = settings(chosen, environ)
    roles = frozenset(chosen.role.split(","))
    if unknown := roles - set(ROLES):
        raise Refused(f"no role {sorted(unknown)[0]!r}: there are {', '.join(ROLES)}")
    if not read.networks:
        raise Refused("networks: none is configured; `depositd init` writes an example")
    wanted = {name: network(read, name) for name in chosen.network or read.networks}
    raise_file_limit()
    stop = stopped_by_signals()
    async with opened(read) as installation:
        log.configure()  # now that what is refused would have been
        # What is loaded by now stays, and blocks come and go by the thousand: looking through them
        # all the time took 2 of the 16.5 ms of CPU that a mainnet-size block cost in a profile.
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        return await Engine(read, installation, roles, wanted).run(stop)


def raise_file_limit() -> None:
    """To FILES, or as far as the system lets: many begin with 1,024, which callbacks soon need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
