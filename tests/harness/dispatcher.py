"""A dispatcher as a process of its own, to be killed, stopped and let go on.

`depositd run --role dispatcher` does the same with the limits that production has; these here are
the test's, so that a lease ends in seconds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvloop

from callbacks.dispatcher import Dispatcher, Limits
from indexer import log
from indexer.config import Callbacks
from indexer.database import connect_pool
from indexer.secret import Vault

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 40.0  # a SIGTERM may take an attempt's time and that of the last outcomes
LOG_TAIL: Final = 4000  # characters of its log in a failure
RULES: Final = Callbacks(allow_private=True, allow_http=True)


class DispatcherProcess:
    """`start` it as often as it ended; all its lives write one log."""

    def __init__(self, folder: Path, name: str, dsn: str, key: str, limits: Limits) -> None:
        self._arguments = (dsn, key, json.dumps(asdict(limits)))
        self._log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def resident_bytes(self) -> int:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024

    async def start(self) -> None:
        """Start it and wait until it works."""
        assert not self.running, "it runs already"
        with self._log.open("ab") as log_file:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.harness.dispatcher", *self._arguments),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
            )
        assert self._process.stdout is not None
        said = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        assert said, f"the dispatcher did not start:\n{self.log[-LOG_TAIL:]}"

    async def kill(self) -> None:
        """kill -9, also of one that stands still."""
        if self.running:
            self.signal(signal.SIGKILL)
            await self._ended()

    async def stop(self) -> None:
        """SIGTERM, after which it ends by itself and well."""
        self.signal(signal.SIGTERM)
        code = await self._ended()
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log[-LOG_TAIL:]}"

    def signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        assert self.running, f"the dispatcher ended:\n{self.log[-LOG_TAIL:]}"
        self._process.send_signal(what)

    async def _ended(self) -> int:
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), STOP_SECONDS)


@asynccontextmanager
async def dispatchers(
    count: int, folder: Path, dsn: str, key: str, limits: Limits
) -> AsyncIterator[list[DispatcherProcess]]:
    """So many running; at the end they run still, stop as they should, and met nothing odd."""
    made = [DispatcherProcess(folder, f"dispatcher-{n}", dsn, key, limits) for n in range(count)]
    try:
        for each in made:
            await each.start()
        yield made
        for each in made:
            await each.stop()
    finally:
        for each in made:
            await each.kill()
    for each in made:
        assert "Traceback" not in each.log, each.log[-LOG_TAIL:]
        assert key not in each.log


async def main(dsn: str, key: str, limits: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pool = await connect_pool(dsn)
    async with pool:
        dispatcher = Dispatcher(pool, Vault(key), RULES, Limits(**json.loads(limits)))
        sys.stdout.write("at work\n")
        sys.stdout.flush()
        await dispatcher.run(stop)


if __name__ == "__main__":
    log.configure()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
