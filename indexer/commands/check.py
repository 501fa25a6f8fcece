"""`depositd check`: the configuration, tried."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

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
        f"database: {problem or 'ok'}\n\n{_text(rows)}",
    )
    return code


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """What fits a terminal: a line an endpoint, then what is wrong with one and what to do."""
    below = ("problem", "advice")
    lines = [{name: row[name] for name in row if name not in below} for row in rows]
    ills = [
        f"{row['network']}: {row['problem']}" + (f"\n  -> {row['advice']}" if row["advice"] else "")
        for row in rows
        if row["problem"] is not None
    ]
    return "\n\n".join([table(lines) or "no networks are configured", *ills])
