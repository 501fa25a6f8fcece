"""`depositd scan`: past blocks read again, for what should be there and is not."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping
from typing import Final

from indexer import config, origin
from indexer.booking import Terms
from indexer.chains.families import open_chain
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
from indexer.installation import Installation
from indexer.scan.request import Errand, Request, State, ask, state

OMISSIONS: Final = (
    "The node named the blocks: what it left out is missing, and so are native coins. "
    "Without --candidates logs every block is read."
)


def add(commands: Commands) -> None:
    text = "read past blocks again and write what is missing inside coverage"
    added = ranged(printing(configured(commands.add("scan", run, text))))
    added.add_argument(
        "--all-history", action="store_true", help="also below coverage: it is credited then"
    )
    added.add_argument(
        "--no-callbacks", action="store_true", help="tell nobody of what is written, now or later"
    )
    added.add_argument(
        "--candidates",
        choices=("blocks", "logs"),
        default="blocks",
        help="logs (EVM): read only blocks that the node names, which may leave out some",
    )


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    first, last = chosen_range(chosen)
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    terms = Terms(all_history=chosen.all_history, silent=chosen.no_callbacks)
    request = Request(wanted.id, first, last, terms, by_logs=chosen.candidates == "logs")
    async with opened(read) as installation:
        done = await _read_again(wanted, installation, request)
    result = {"network": wanted.id, "from": first, "to": last, "deposits": done.deposits}
    text = f"read blocks {first} to {last} of {wanted.id} again; {done.deposits} deposits written"
    result["complete"] = not request.by_logs
    show(chosen, result, f"{text}\n{OMISSIONS}" if request.by_logs else text)
    return 0


async def _read_again(
    wanted: config.Network, installation: Installation, request: Request
) -> State:
    chain = open_chain(wanted.id, wanted)
    try:
        await origin.identify(installation.pool, wanted.id, await chain.connect())
        errand = await Errand.open(wanted, chain, installation.pool, request)
        scan = await ask(installation.pool, request)
        before = await state(installation.pool, scan)
        blocks = request.last - request.first + 1
        if before.unread < blocks:
            sys.stderr.write(f"{blocks - before.unread} of {blocks} blocks are read already\n")
        unread = before.unread
        with Progress(blocks, "blocks", wanted.id, done=blocks - unread) as bar:

            def say(now: State) -> None:
                nonlocal unread
                bar.advance(unread - now.unread)
                unread = now.unread

            return await errand.run(scan, say)
    except asyncio.CancelledError:
        sys.stderr.write("interrupted; the same command goes on where it was\n")
        raise
    finally:
        await chain.close()
