"""A PostgreSQL of our own under `data_dir`, for who configures none.

Whoever needs the server uses it: it is started if it does not run and stopped by the last one to
leave. Two locks of the kernel, which no kill -9 leaves behind, keep that order: `gate` is held
while someone starts or stops, `users` is shared by all that use it. A server whose users were all
killed is adopted by the next one; one that was killed itself recovers at the next start.

It listens on 127.0.0.1 and not on a Unix socket: a socket's path may have 107 bytes, fewer than
many a `data_dir`. The password keeps other users of the machine out.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

import asyncpg
import structlog

from indexer.database import DatabaseUnavailable
from indexer.model import Refused
from indexer.postgres import Programs, owner, wheel_bin_dirs
from indexer.secret import write_private

START_SECONDS: Final = 300  # a recovery after a crash replays up to max_wal_size
START_ATTEMPTS: Final = 4
STOP_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05  # between two looks at a lock or a server that starts
CONNECT_SECONDS: Final = 10.0
LOG_BYTES: Final = 10_000_000  # of the server's log; it begins anew at the next start above that
USER: Final = "depositd"
DATABASE: Final = "depositd"
PASSWORD_BYTES: Final = 24

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # containers give little shared memory
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_error_statement": "panic",  # a statement's text may hold what is nobody's business
}
# Fast and lost at a crash of the machine: for tests.
NOT_DURABLE: Final[Mapping[str, str]] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}

log = structlog.get_logger()


class _Running(NamedTuple):
    """A live server of ours; `port` is None before it listens."""

    pid: int
    port: int | None


class Embedded:
    """`async with Embedded(data_dir) as dsn:` — a server that runs for at least that long."""

    def __init__(
        self, data_dir: Path, *, durable: bool = True, bin_dir: Path | None = None
    ) -> None:
        """`bin_dir`: programs of another PostgreSQL than the wheel's."""
        self._dir = data_dir.absolute()
        self._data = self._dir / "postgres"
        self._durable = durable
        self._bin_dir = bin_dir
        self._programs: Programs | None = None
        self._users: int | None = None  # descriptor of the shared lock
        self._known = False  # whether there has been a server

    async def __aenter__(self) -> str:
        try:
            return await self.start()
        except BaseException:
            await asyncio.shield(self.close())
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> str:
        """The server's URL, once it answers. Called again, it brings a server back that died.

        Raises Refused where it can never run here, DatabaseUnavailable where it did not start.
        """
        try:
            self._dir.mkdir(mode=0o711, parents=True, exist_ok=True)
            async with self._gate():
                if self._users is None:
                    self._users = os.open(
                        self._dir / "postgres.users", os.O_RDWR | os.O_CREAT, 0o600
                    )
                fcntl.flock(self._users, fcntl.LOCK_SH)
                await self._find_programs()
                await self._initialise()
                url = await self._serve()
                self._known = True
                return url
        except OSError as problem:
            raise Refused(
                f"data_dir can't be used: {problem.filename}: {problem.strerror}"
            ) from None

    async def close(self) -> None:
        """Leave; the last one stops the server."""
        if self._users is None:
            return
        users, self._users = self._users, None
        try:
            async with self._gate():
                if _locked(users):  # nobody else uses it
                    await self._stop()
        finally:
            os.close(users)

    # ---------------------------------------------------------------- inside

    @asynccontextmanager
    async def _gate(self) -> AsyncIterator[None]:
        gate = os.open(self._dir / "postgres.gate", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                async with asyncio.timeout(START_SECONDS + STOP_SECONDS):
                    while True:
                        if _locked(gate):
                            break
                        await asyncio.sleep(POLL_SECONDS)
            except TimeoutError:
                raise DatabaseUnavailable(f"another process keeps starting {self._data}") from None
            yield
        finally:
            os.close(gate)

    async def _find_programs(self) -> None:
        if self._programs is None:
            version = self._data / "PG_VERSION"
            major = int(version.read_text()) if version.exists() else None
            bin_dirs = wheel_bin_dirs() if self._bin_dir is None else [self._bin_dir]
            self._programs = await Programs.find(self._dir, bin_dirs, major)

    async def _run(self, program: str, *arguments: str) -> str:
        assert self._programs is not None
        return await self._programs.run(program, *arguments)

    async def _initialise(self) -> None:
        """Make the folder of data, if there is none: elsewhere, so that it is whole or absent."""
        if self._data.exists():
            return
        if self._known:
            raise DatabaseUnavailable(f"{self._data} is gone")  # an empty one would not be it
        password = self._dir / "postgres.password"
        # A killed start's initdb may still be writing, so each has a folder of its own.
        for left in self._dir.glob("postgres.new.*"):
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="postgres.new.", dir=self._dir))
        password.unlink(missing_ok=True)
        write_private(password, secrets.token_urlsafe(PASSWORD_BYTES))
        given = self._dir / "postgres.given"  # the same, for the user who runs initdb
        given.unlink(missing_ok=True)
        try:
            write_private(given, self._password())
            for path in (given, fresh):
                os.chown(path, *owner())
            await self._run(
                "initdb",
                f"--pgdata={fresh}",
                f"--username={USER}",
                f"--pwfile={given}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                *(() if self._durable else ("--no-sync",)),
            )
        finally:
            given.unlink(missing_ok=True)
        os.rename(fresh, self._data)

    def _password(self) -> str:
        return (self._dir / "postgres.password").read_text(encoding="ascii").strip()

    async def _serve(self) -> str:
        """Adopt the server that runs or start one, and wait until it answers."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    running = self._running()
                    if running is None:
                        await self._start_server()
                    elif running.port is not None and await self._answers(running.port):
                        return self._url(running.port, DATABASE)
                    else:
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise DatabaseUnavailable(f"PostgreSQL in {self._data} is too slow") from None

    async def _start_server(self) -> None:
        """Raises DatabaseUnavailable when it has failed START_ATTEMPTS times."""
        server_log = self._data / "server.log"
        if server_log.exists() and server_log.stat().st_size > LOG_BYTES:
            os.truncate(server_log, 0)
        for attempt in range(1, START_ATTEMPTS + 1):
            self._configure(self._free_port(keep=attempt == 1))
            begin = server_log.stat().st_size if server_log.exists() else 0
            try:
                await self._run(
                    "pg_ctl", "start", f"--pgdata={self._data}", f"--log={server_log}",
                    "--wait", f"--timeout={START_SECONDS}", "--silent",
                )  # fmt: skip
            except DatabaseUnavailable as problem:
                if attempt == START_ATTEMPTS:
                    reason = _last_words(server_log, begin) or str(problem)
                    raise DatabaseUnavailable(
                        f"the embedded PostgreSQL does not start: {reason}"
                    ) from None
                # Its port was taken meanwhile, or processes of a killed server are still ending.
                await asyncio.sleep(attempt)
            else:
                log.info("postgres_started", folder=str(self._data))
                return

    def _configure(self, port: int) -> None:
        settings = {**SETTINGS, **({} if self._durable else NOT_DURABLE), "port": str(port)}
        text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        (self._data / "postgresql.conf").write_text(text, encoding="ascii")
        # A process that is not the server may have its old id by now; the server would not start.
        if self._running() is None:
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _free_port(self, *, keep: bool) -> int:
        """The port of last time, which pools of other processes still know, or a new one."""
        remembered = self._dir / "postgres.port"
        wanted = int(remembered.read_text()) if keep and remembered.exists() else 0
        for port in (wanted, 0):
            with closing(socket.socket()) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    free = int(probe.getsockname()[1])
                    remembered.write_text(str(free))
                    return free
        raise DatabaseUnavailable("no port is free on 127.0.0.1")

    def _running(self) -> _Running | None:
        """What postmaster.pid says, if that process is alive and a server of this folder."""
        try:
            lines = (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
            pid = int(lines[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError, ValueError):
            return None
        folder = Path(f"/proc/{pid}/cwd")
        if Path("/proc/self/cwd").exists() and not _same(folder, self._data):
            return None
        return _Running(pid, int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else None)

    async def _answers(self, port: int) -> bool:
        """Whether the server takes connections; makes our database in it if there is none."""
        url = self._url(port, "postgres")
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            return False
        except asyncpg.InvalidPasswordError:
            raise Refused(f"{self._dir}/postgres.password is not the server's password") from None
        try:
            known = "select exists (select from pg_database where datname = $1)"
            if not await connection.fetchval(known, DATABASE):
                await connection.execute(f"create database {DATABASE}")
        finally:
            await connection.close()
        return True

    def _url(self, port: int, database: str) -> str:
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{port}/{database}?sslmode=disable"

    async def _stop(self) -> None:
        if self._running() is not None:
            await self._run(
                "pg_ctl", "stop", f"--pgdata={self._data}", "--mode=fast",
                "--wait", f"--timeout={STOP_SECONDS}", "--silent",
            )  # fmt: skip
            log.info("postgres_stopped", folder=str(self._data))


def _locked(descriptor: int) -> bool:
    """Take the lock alone, if nobody else has it now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(link: Path, folder: Path) -> bool:
    try:
        return link.samefile(folder)
    except OSError:  # it ended meanwhile, or is another user's and so not our server
        return False


def _last_words(server_log: Path, begin: int) -> str | None:
    """The reason in what the server logged since `begin`: its last line that is no hint."""
    if not server_log.exists():
        return None
    lines = server_log.read_bytes()[begin:].decode(errors="replace").splitlines()
    said = [line for line in lines if "FATAL:" in line] or lines
    return said[-1].rpartition("FATAL:")[2].strip() if said else None
