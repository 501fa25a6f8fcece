"""`depositd init`: a commented depositd.toml."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from indexer import config
from indexer.config.example import EXAMPLE
from indexer.console import Commands, printing, show
from indexer.model import Refused
from indexer.secret import write_private


def add(commands: Commands) -> None:
    init = printing(commands.add("init", run, "write a commented depositd.toml"))
    init.add_argument("file", type=Path, nargs="?", default=config.DEFAULT_FILE, metavar="FILE")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    path: Path = chosen.file
    try:
        write_private(path, EXAMPLE)  # it will hold keys
    except FileExistsError:
        raise Refused(f"{path} exists already; nothing was written") from None
    except OSError as problem:
        raise Refused(f"{path} can't be written: {problem.strerror}") from None
    show(chosen, {"file": str(path)}, f"wrote {path}")
    return 0
