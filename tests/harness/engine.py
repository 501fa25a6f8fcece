"""The engine with a configuration file and a database: as a process of its own, or inside this one.

As an operator runs it it can be killed, logs, and is cut off from its tests; inside it starts fast.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

import indexer.engine
from indexer import config
from indexer.installation import opened
from tests.conftest import SECRET_KEY

ROOT: Final = Path(__file__).parent.parent.parent
START: Final = 30.0  # seconds until it must be ready
STOP: Final = 20.0  # seconds that a SIGTERM may take
LOOK: Final = 0.05  # seconds between two looks
LOG_TAIL: Final = 4000  # characters of its log in a failure
ADMIN_KEY: Final = "admin-key-of-the-tests-and-nobody-else"


def free_port() -> int:
    """A loopback port that nothing uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Engine:
    """One installation: `start`, `stop` and `kill` its process as often as a test likes."""

    def __init__(self, folder: Path, dsn: str, networks: Mapping[str, Mapping[str, Any]]) -> None:
        self._made_of = (folder, dsn, networks)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._config = folder / f"depositd-{self.port}.toml"
        self._log = folder / f"depositd-{self.port}.log"
        self._process: asyncio.subprocess.Process | None = None
        self.prefix: tuple[str, ...] = ()  # of the command that starts it
        self._config.write_text(
            _toml(
                {
                    "": {"database": dsn, "secret_key": SECRET_KEY},
                    "api": {"listen": f"127.0.0.1:{self.port}", "admin_key": ADMIN_KEY},
                    "callbacks": {"allow_private": True, "allow_http": True},
                    **{f"networks.{name}": settings for name, settings in networks.items()},
                }
            )
        )

    def another(self) -> Engine:
        """A second process with the same settings on the same database."""
        return type(self)(*self._made_of)

    def like(self, folder: Path, dsn: str, keys: Mapping[str, Any]) -> Engine:
        """One in another place, with some other keys of every network."""
        _, _, networks = self._made_of
        return type(self)(folder, dsn, {name: {**n, **keys} for name, n in networks.items()})

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """All that its processes wrote."""
        return self._log.read_text() if self._log.exists() else ""

    async def run(self, *arguments: str) -> tuple[int, str]:
        """A command with this configuration; its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "indexer", *arguments, "-c", str(self._config)),
            cwd=ROOT,
            env=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), START)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def launch(self) -> None:
        """Start the process and don't wait for it."""
        assert not self.running, "it runs already"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self.prefix, sys.executable, "-m", "indexer", "run", "-c", str(self._config)),
                cwd=ROOT,
                env=_environment(),
                stdout=log,
                stderr=log,
            )

    async def start(self) -> None:
        """Start the process and wait until it answers requests."""
        await self.launch()
        await self.ready()

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as session, asyncio.timeout(START):
            while True:
                assert self.running, f"the engine ended:\n{self.log[-LOG_TAIL:]}"
                try:
                    async with session.get(f"{self.base}/readyz") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientConnectionError:
                    pass
                await asyncio.sleep(LOOK)

    async def ended(self) -> int:
        """Wait until the process ends by itself; its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), START)

    async def stop(self) -> None:
        """As an operator does: SIGTERM, and it ends with exit code 0."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                code = await asyncio.wait_for(self._process.wait(), STOP)
            except TimeoutError:
                await self.kill()
                raise AssertionError(f"SIGTERM was ignored:\n{self.log[-LOG_TAIL:]}") from None
            assert code == 0, f"exit code {code} after SIGTERM:\n{self.log[-LOG_TAIL:]}"

    async def kill(self) -> None:
        """kill -9: no time for anything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """It does nothing and is not told."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, what: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(what)


class Inside(Engine):
    """The same in this process; what it logs goes where the test's own output goes."""

    def __init__(self, folder: Path, dsn: str, networks: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(folder, dsn, networks)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[int] | None = None

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def launch(self) -> None:
        assert not self.running, "it runs already"
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> int:
        settings = config.load(self._config, {})
        async with opened(settings) as installation:
            return await indexer.engine.Engine(settings, installation).run(self._stop)

    async def ended(self) -> int:
        assert self._task is not None
        return await asyncio.wait_for(self._task, START)

    async def stop(self) -> None:
        if self._task is not None:
            self._stop.set()
            assert await asyncio.wait_for(self._task, STOP) == 0
            self._task = None

    async def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def engine(
    folder: Path, dsn: str, networks: Mapping[str, Mapping[str, Any]], *, inside: bool = True
) -> AsyncIterator[Engine]:
    """A started engine; it ends properly, and wrote no traceback and no secret."""
    made = Inside(folder, dsn, networks) if inside else Engine(folder, dsn, networks)
    try:
        await made.start()
        yield made
        await made.stop()
    finally:
        await made.kill()
    assert "Traceback" not in made.log, made.log[-LOG_TAIL:]
    assert SECRET_KEY not in made.log
    assert ADMIN_KEY not in made.log


def _environment() -> dict[str, str]:
    """Ours, without settings that would win over the file's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DEPOSITD_")}


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON's scalars and arrays are TOML's too."""
    lines = []
    for table, entries in tables.items():
        if table:
            lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in entries.items()]
    return "\n".join(lines) + "\n"
