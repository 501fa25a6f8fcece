"""`depositd listen`: a local receiver of callbacks."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from functools import partial
from random import Random

from callbacks import listen
from indexer.console import Commands, printing, show, stopped_by_signals


def add(commands: Commands) -> None:
    text = "receive callbacks on loopback: verify, print, and say why one does not verify"
    added = printing(commands.add("listen", run, text))
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


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    secrets = listen.read_secrets(chosen.secret, environ)
    manners = listen.Manners(chosen.fail, chosen.drop, listen.seconds(chosen.delay))
    listener = listen.Listener(
        manners, partial(show, chosen), stopped_by_signals(), now=time.time, rng=Random()
    )
    await listener.run(secrets, chosen.port)
    return 0
