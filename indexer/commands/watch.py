"""`depositd watch import`: addresses to watch from a file, by the million."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Final

import asyncpg

from indexer.bulk import CsvLines, Spool, register
from indexer.chains.families import codec
from indexer.console import (
    Commands,
    Progress,
    configured,
    network,
    opened,
    printing,
    settings,
    show,
    text_argument,
)
from indexer.coverage import Registered
from indexer.model import Refused

PIECE: Final = 256 * 1024  # bytes that are read at once
STDIN: Final = "-"


def add(commands: Commands) -> None:
    watch = commands.group("watch", "watched addresses")
    text = "watch the addresses of a CSV file: address[,reference[,fromBlock]]"
    added = printing(configured(watch.add("import", run, text)))
    added.add_argument("file", metavar="FILE.csv", help=f"{STDIN}: standard input")
    added.add_argument("--account", type=text_argument, required=True, metavar="A")
    added.add_argument("--network", type=text_argument, required=True, metavar="N")
    added.add_argument(
        "--no-callbacks", action="store_true", help="keep what fromBlock brings to light silent"
    )


async def run(chosen: argparse.Namespace, environ: Mapping[str, str]) -> int:
    read = settings(chosen, environ)
    wanted = network(read, chosen.network)
    with tempfile.TemporaryFile() as file:
        spool = Spool(file, CsvLines(codec(wanted).parse_address))
        await _check(chosen.file, spool)
        async with opened(read) as installation:
            done = await _register(installation.pool, wanted.id, chosen, spool)
    covered_from = done.covered_from if spool.rows else None
    show(
        chosen,
        {"created": done.created, "existing": done.existing, "coveredFrom": covered_from},
        f"{done.created} new and {done.existing} known addresses of {chosen.account} are watched "
        f"on {wanted.id}" + (f", from block {covered_from} on at the latest" if spool.rows else ""),
    )
    return 0


async def _check(name: str, spool: Spool) -> None:
    """Read all lines, before anything is asked of the database. Refused names the bad ones."""
    try:
        with _source(name) as source:
            size = os.fstat(source.fileno()).st_size or None
            with Progress(size, "bytes", "reading") as bar:
                while data := source.read(PIECE):
                    spool.feed(data)
                    spool.write()
                    bar.advance(len(data))
                    await asyncio.sleep(0)  # for Ctrl-C
        spool.end()
        spool.write()
    except OSError as problem:
        raise Refused(f"{name} can't be read: {problem.strerror}") from None


@contextmanager
def _source(name: str) -> Iterator[IO[bytes]]:
    if name == STDIN:
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file


async def _register(
    pool: asyncpg.Pool, network: str, chosen: argparse.Namespace, spool: Spool
) -> Registered:
    """All of them in one transaction: they show at once or not at all."""
    done = Registered(0, 0, 0)
    with Progress(spool.rows, "addresses", "registering") as bar:
        async with pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(
                "select exists (select from account where id = $1)", chosen.account
            ):
                raise Refused(f"there is no account {chosen.account!r}")
            parts = register(connection, network, chosen.account, spool, silent=chosen.no_callbacks)
            before = 0
            async for done in parts:
                bar.advance(done.created + done.existing - before)
                before = done.created + done.existing
    return done
