"""`depositd replay`: what the decoder finds in blocks, against what is stored."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import asyncpg
from pydantic import ValidationError

from indexer import config, replay
from indexer.chains import Chain, Codec
from indexer.chains.families import open_chain
from indexer.check import identities
from indexer.console import (
    EXIT_FAILED,
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
from indexer.model import Refused
from indexer.recording import Recording
from indexer.recording.chain import RecordedChain
from indexer.replay import Compared, Replay, Sign
from indexer.watchset import WatchSet

LISTED: Final = 10_000  # lines in a JSON result; all are counted


def add(commands: Commands) -> None:
    text = "compare what is stored with blocks of the node, of another one, or of a recording"
    added = ranged(printing(configured(commands.add("replay", run, text))))
    added.add_argument("--endpoint", metavar="URL", help="ask this node: an audit")
    added.add_argument("--source", type=Path, metavar="FILE", help="read what `record` wrote")
    added.add_argument("--write", action="store_true", help="book what is missing here")
    added.add_argument("--verbose", action="store_true", help="list what is the same, too")


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    first, last = chosen_range(chosen)
    if chosen.endpoint is not None and chosen.source is not None:
        raise Refused("--endpoint and --source don't go together: blocks come from one of them")
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    async with opened(read) as installation, AsyncExitStack() as stack:
        pool, recorded = installation.pool, None
        if chosen.source is None:
            chain = await _asked(stack, pool, wanted, chosen.endpoint)
        else:
            recording = await asyncio.to_thread(Recording, chosen.source)
            stack.callback(recording.close)
            chain, recorded = await _recorded(pool, wanted, recording, chosen), recording.about
        if chosen.write:
            await replay.activate(pool, wanted.id)
        watch = WatchSet(wanted.id, wanted.reorg_window)
        replaying = Replay(
            wanted.id, wanted, chain, pool, watch, write=chosen.write, recorded=recorded
        )
        report = Report(chosen, chain.codec)
        with Progress(last - first + 1, "blocks", wanted.id) as bar:
            async for some in replaying.compare(first, last):
                with bar.aside():
                    report.take(some)
                bar.advance(some.last - some.first + 1)
        report.conclude(scanning=await replay.scanning(pool, wanted.id, first, last))
    return EXIT_FAILED if report.differences else 0


class Report:
    """What is said of it: a line a difference as they come, and what they come to."""

    def __init__(self, chosen: argparse.Namespace, codec: Codec) -> None:
        self._chosen = chosen
        self._codec = codec
        self._counts: Counter[Sign] = Counter()
        self._written = 0
        self._listed: list[dict[str, Any]] = []  # for JSON

    @property
    def differences(self) -> int:
        return self._counts.total() - self._counts[Sign.SAME]

    def take(self, some: Compared) -> None:
        self._written += some.written
        for line in some.lines:
            self._counts[line.sign] += 1
            if line.sign is Sign.SAME and not self._chosen.verbose:
                continue
            row = replay.row(line, some.coins, self._codec)
            if not self._chosen.json:
                show(self._chosen, None, _text(row))
            elif len(self._listed) < LISTED:
                self._listed.append(row)

    def conclude(self, *, scanning: bool) -> None:
        """`scanning`: what is missing may come by itself."""
        chosen, counts = self._chosen, self._counts
        written = f"; {self._written} written" if chosen.write else ""
        rest = "; not all of these blocks are scanned yet" if scanning else ""
        show(
            chosen,
            {
                "network": chosen.network,
                "from": chosen.first,
                "to": chosen.last,
                "same": counts[Sign.SAME],
                "missing": counts[Sign.MISSING],
                "notInChain": counts[Sign.NOT_IN_CHAIN],
                "different": counts[Sign.DIFFERS],
                "written": self._written,
                "scanning": scanning,
                "lines": self._listed,
            },
            f"{chosen.network} {chosen.first} to {chosen.last}: {counts[Sign.SAME]} same (=), "
            f"{counts[Sign.MISSING]} missing here (+), {counts[Sign.NOT_IN_CHAIN]} not in the "
            f"chain (-), {counts[Sign.DIFFERS]} different (~){written}{rest}",
        )


async def _asked(
    stack: AsyncExitStack, pool: asyncpg.Pool, wanted: config.Network, url: str | None
) -> Chain:
    """The configured nodes, or another one, if they have the chain that is followed."""
    asked = wanted if url is None else wanted.alone(_endpoint(wanted, url))
    known = (await identities(pool)).get(wanted.id)
    if known is None:
        raise Refused(f"network {wanted.id} has not started yet: there is nothing to compare")
    chain = open_chain(asked.id, asked)
    stack.push_async_callback(chain.close)
    identity = await chain.connect()
    if identity != known:
        raise Refused(f"this database follows {known}; that node serves {identity}")
    return chain


async def _recorded(
    pool: asyncpg.Pool, wanted: config.Network, recording: Recording, chosen: argparse.Namespace
) -> Chain:
    """A recording's chain; where nothing was followed yet, it says where to stand."""
    known = (await identities(pool)).get(wanted.id)
    recording.refuse_unless(known, wanted.asked, chosen.first, chosen.last)
    chain = RecordedChain(recording, wanted)
    if not await pool.fetchval("select exists (select from cursor where network = $1)", wanted.id):
        if not chosen.write:
            raise Refused(
                f"network {wanted.id} has not started yet: --write begins it where "
                f"{chosen.source} ends"
            )
        await replay.begin(pool, chain, wanted, recording.about.first)
    return chain


def _endpoint(wanted: config.Network, url: str) -> config.Endpoint:
    """A node of the network's family, by its URL alone."""
    try:
        return type(wanted.endpoints[0])(url=url)
    except ValidationError as wrong:
        said = wrong.errors(include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise Refused(f"--endpoint {said}") from None


def _text(row: Mapping[str, Any]) -> str:
    where = f"{row['blockHeight']} {row['transactionHash']} {row['toAddress']} {row['ordinal']}"
    text = f"{row['sign']} {where} {row['amount']} {row['coin']} {row['account']}"
    if not row["chain"]:
        return text
    otherwise = ", ".join(f"{name} {value}" for name, value in row["chain"].items())
    return f"{text} ({row['status']}; in the chain: {otherwise})"
