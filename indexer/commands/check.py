"""`depositd check`: the configuration, tried."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from indexer import check
from indexer.console import (
    EXIT_FAILED,
    EXIT_NO_DATABASE,
    Commands,
    configured,
    opened,
    printing,
    settings,
    show,
    table,
)
from indexer.database import DatabaseUnavailable
from indexer.model import Refused


def add(commands: Commands) -> None:
    text = "test the configuration: database, and each endpoint of each network"
    printing(configured(commands.add("check", run, text)))


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Everything is tried, whatever fails; what the database says decides first."""
    read = settings(chosen, environ)
    known: Mapping[str, str] = {}
    code, problem = 0, None
    try:
        async with opened(read) as installation:
            known = await check.identities(installation.pool)
    except DatabaseUnavailable as unavailable:
        code, problem = EXIT_NO_DATABASE, str(unavailable)
    except Refused as refused:
        code, problem = EXIT_FAILED, str(refused)
    checks = await check.endpoints(read, known)
    if not check.enough(read, checks):
        code = code or EXIT_FAILED
    rows = [c.row() for c in checks]
    database = {"ok": problem is None, "problem": problem}
    show(
        chosen,
        {"ok": code == 0, "database": database, "endpoints": rows},
        f"database: {problem or 'ok'}\n\n{table(rows) or 'no networks are configured'}",
    )
    return code
