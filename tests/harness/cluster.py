"""A PostgreSQL of a test's own, which restarts, crashes and stands still as others do."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg

from indexer.database import migrate
from indexer.embedded import Embedded
from indexer.secret import Vault

SECONDS: Final = 60.0  # in which a server must have ended
LOOK: Final = 0.02  # seconds between two looks


class Cluster:
    """One server, one database with the schema. What it took it keeps, also through `crash`."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "postgres"
        self._embedded = Embedded(folder)
        self._frozen: list[int] = []
        self.dsn = ""

    async def start(self) -> None:
        """Start it, at first or again; `dsn` stays what it was."""
        dsn = await self._embedded.start()
        assert self.dsn in ("", dsn), "the server came back with another URL"
        self.dsn = dsn

    async def prepare(self, vault: Vault) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await migrate(connection, vault)
        finally:
            await connection.close()

    async def close(self) -> None:
        self.thaw()
        await self._embedded.close()

    async def restart(self) -> None:
        """As an operator does: open transactions are rolled back, clients cut off."""
        await self._end(signal.SIGINT)
        await self.start()

    async def crash(self) -> None:
        """Every process ends at once; the start recovers what was committed."""
        await self._end(signal.SIGQUIT)
        await self.start()

    async def _end(self, how: signal.Signals) -> None:
        server = self._server
        os.kill(server, how)
        async with asyncio.timeout(SECONDS):
            with suppress(ProcessLookupError):
                while True:
                    os.kill(server, 0)
                    await asyncio.sleep(LOOK)

    def freeze(self) -> None:
        """It answers nobody, and nobody is told."""
        server = self._server
        self._frozen = [server, *_children(server)]
        for pid in self._frozen:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._frozen = []

    @property
    def _server(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])


@asynccontextmanager
async def cluster(folder: Path, vault: Vault) -> AsyncIterator[Cluster]:
    made = Cluster(folder)
    try:
        await made.start()
        await made.prepare(vault)
        yield made
    finally:
        await made.close()


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            after_name = stat.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == parent:
                found.append(int(stat.parent.name))
    return found
