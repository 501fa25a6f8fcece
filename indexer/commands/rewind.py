"""`depositd rewind`: an operator's answer to a halt."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from indexer import origin
from indexer.chains.families import open_chain
from indexer.console import Commands, configured, network, opened, printing, settings, show


def add(commands: Commands) -> None:
    text = "read a network again from HEIGHT + 1"
    rewind = printing(configured(commands.add("rewind", run, text)))
    rewind.add_argument("network", metavar="NETWORK")
    rewind.add_argument("height", type=int, metavar="HEIGHT")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    chain = open_chain(wanted.id, wanted)
    try:
        async with opened(read) as installation:
            identity = await chain.connect()
            await origin.identify(installation.pool, wanted.id, identity)
            waiting = await origin.rewind(
                installation.pool, chain, wanted.id, wanted, chosen.height
            )
    finally:
        await chain.close()
    show(
        chosen,
        {"network": wanted.id, "height": chosen.height, "unplaced": waiting},
        f"{wanted.id} reads again from {chosen.height + 1}; "
        f"{waiting} deposits wait to be found again",
    )
    return 0
