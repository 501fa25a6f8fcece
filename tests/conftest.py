"""Fixtures that tests of several parts share: a PostgreSQL server, a fresh database, recordings."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog

from indexer.database import connect_pool, migrate
from indexer.embedded import Embedded
from indexer.secret import Vault

SECRET_KEY: Final = "a secret key of the tests"
TEMPLATE: Final = "depositd_template"
POOL_CLOSE_SECONDS: Final = 10.0
# Where the programs of each server are; None: in the wheel.
SERVERS: Final[dict[str, Path | None]] = {
    "embedded": None,
    "debian": Path("/usr/lib/postgresql/15/bin"),
}


class Server:
    """A PostgreSQL for the whole session, with a migrated database that is cloned for each test."""

    def __init__(self, folder: Path, bin_dir: Path | None) -> None:
        self._runner = asyncio.Runner()
        self._embedded = Embedded(folder, durable=False, bin_dir=bin_dir)
        self._numbers = count(1)
        self.dsn = ""

    def start(self) -> None:
        self.dsn = self._runner.run(self._start())

    def stop(self) -> None:
        self._runner.run(self._embedded.close())
        self._runner.close()

    async def _start(self) -> str:
        dsn = await self._embedded.start()
        await _execute(dsn, f"create database {TEMPLATE}")
        connection = await asyncpg.connect(_database(dsn, TEMPLATE))
        try:
            await migrate(connection, Vault(SECRET_KEY))
        finally:
            await connection.close()
        return dsn

    async def create(self, template: str | None = None) -> str:
        """The URL of a new database: empty, or a copy of a template."""
        name = f"test_{next(self._numbers)}"
        copied = "" if template is None else f" template {template}"
        await _execute(self.dsn, f"create database {name}{copied}")
        return _database(self.dsn, name)

    async def drop(self, dsn: str) -> None:
        await _execute(self.dsn, f"drop database {urlsplit(dsn).path[1:]} with (force)")


def _database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The servers that were needed so far, by their name in SERVERS."""
    started: dict[str, Server] = {}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture
def server_name() -> str:
    """Which of SERVERS a test runs on; a module overrides it to run on each."""
    return "embedded"


@pytest.fixture
def server(
    server_name: str, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    if server_name not in servers:
        bin_dir = SERVERS[server_name]
        if bin_dir is not None and not bin_dir.is_dir():
            pytest.skip(f"no PostgreSQL in {bin_dir}")
        server = Server(tmp_path_factory.mktemp(server_name), bin_dir)
        servers[server_name] = server
        server.start()
    return servers[server_name]


@pytest.fixture
async def empty_dsn(server: Server) -> AsyncIterator[str]:
    """The URL of a database in which nothing is."""
    dsn = await server.create()
    yield dsn
    await server.drop(dsn)


@pytest.fixture
async def dsn(server: Server) -> AsyncIterator[str]:
    """The URL of a fresh database with the schema."""
    dsn = await server.create(TEMPLATE)
    yield dsn
    await server.drop(dsn)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """Connections to a fresh database, as the program makes them."""
    pool = await connect_pool(dsn)
    yield pool
    async with asyncio.timeout(POOL_CLOSE_SECONDS):
        await pool.close()


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets up the log: not for the tests after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines in this process soon look for scans, and ask a node again that failed."""
    monkeypatch.setattr("indexer.network.BACKOFF_SECONDS", (0.1,))
    monkeypatch.setattr("indexer.network.SCAN_POLL_SECONDS", 0.05)


@pytest.fixture(scope="session")
def vault() -> Vault:
    """The one whose fingerprint the databases of the tests have."""
    return Vault(SECRET_KEY)


@pytest.fixture(scope="session")
def chain_fixtures() -> Path:
    """The folder of recorded mainnet blocks."""
    folder = os.environ.get("CHAIN_FIXTURES")
    if not folder:
        pytest.skip("CHAIN_FIXTURES does not name the folder of recorded blocks")
    return Path(folder)
