"""`depositd record`: a node's raw answers about a range of blocks, in a file."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from indexer import record
from indexer.check import identities
from indexer.console import (
    Commands,
    Progress,
    chosen_range,
    configured,
    network,
    opened,
    printing,
    ranged,
    settings,
    show,
)
from indexer.model import Refused, Unavailable
from indexer.recording import About, part_of


def add(commands: Commands) -> None:
    text = "keep a node's raw answers about blocks, for `replay --source`"
    added = ranged(printing(configured(commands.add("record", run, text))))
    added.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    first, last = chosen_range(chosen)
    path: Path = chosen.output
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    async with opened(read) as installation:
        known = (await identities(installation.pool)).get(wanted.id)
        watch = await record.checked_watch(installation.pool, wanted)
    chain, tape, identity = await record.open_taped(wanted)
    try:
        if known not in (None, identity):
            raise Refused(f"this database follows {known}; the endpoints serve {identity}")
        with Progress(last - first + 1, "blocks", wanted.id) as bar:
            about = About(identity, wanted.asked, first, last)
            size = await record.Recorder(chain, tape, watch).record(path, about, bar.advance)
    except Unavailable as problem:
        raise Unavailable(f"{problem}{_kept(path)}") from None
    except asyncio.CancelledError:
        sys.stderr.write(f"interrupted{_kept(path)}\n")
        raise
    finally:
        await chain.close()
    result = {"file": str(path), "network": wanted.id, "identity": identity}
    text = f"wrote {path}: blocks {first} to {last} of {wanted.id}, {size} bytes"
    show(chosen, {**result, "from": first, "to": last, "bytes": size}, text)
    return 0


def _kept(path: Path) -> str:
    """What whoever goes on later needs to know."""
    part = part_of(path)
    if not part.exists():
        return ""
    return f"; what was recorded is in {part}: the same command goes on from there"
