"""`depositd demo`: everything on simulated nodes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from indexer.console import Commands
from indexer.demo import run_demo
from indexer.model import Refused


def add(commands: Commands) -> None:
    demo = commands.add("demo", run, "everything on simulated nodes, nothing to configure")
    demo.add_argument("--blocks", type=int, metavar="N", help="end by itself after N blocks")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if chosen.blocks is not None and chosen.blocks < 1:
        raise Refused(f"--blocks must be 1 or more, not {chosen.blocks}")
    return await run_demo(chosen.blocks)
