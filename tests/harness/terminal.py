"""`depositd` as somebody at a terminal has it: a folder, a file of settings, commands, signals."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from indexer.devnet.evm_node import EvmNode

SECONDS: Final = 40.0  # for a command
LOOK: Final = 0.1  # seconds between two looks
# What no output may show, wherever it stands in the settings.
SECRETS: Final = ("NODE-PASSWORD", "NODE-KEY", "ADMIN-KEY", "SECRET-KEY", "DATABASE-PASSWORD")
SCREEN: Final = (24, 80)  # lines, columns
COMMAND: Final = (sys.executable, "-m", "indexer")


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The only line on stderr, where nothing is on stdout."""
        assert self.out == "", self
        assert self.err.count("\n") == 1, self
        return self.err.rstrip("\n")


class Terminal:
    """Runs commands in a folder; each must say nothing secret and show no traceback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.log = folder / "run.log"

    def write(self, settings: str, name: str = "depositd.toml") -> None:
        (self.folder / name).write_text(settings, encoding="utf-8")

    async def run(self, *arguments: str, code: int = 0) -> Said:
        """`depositd ARGUMENTS`, which must end with `code`."""
        return await self.call(COMMAND, arguments, code)

    async def call(self, command: Sequence[str], arguments: Sequence[str], code: int) -> Said:
        process = await self._start([*command, *arguments], PIPE, PIPE)
        try:
            out, err = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError:
            process.kill()
            raise
        said = Said(await process.wait(), out.decode(), err.decode())
        no_secret(said.out + said.err)
        assert "Traceback" not in said.err, said.err
        assert said.code == code, said
        return said

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[Process]:
        """The same, still running; its output is in `log`. Killed if the test leaves it."""
        with self.log.open("ab") as log:
            process = await self._start([*COMMAND, *arguments], log, log)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = self.log.read_text()
        no_secret(text)
        assert "Traceback" not in text, text

    async def seen(self, *arguments: str) -> tuple[str, str]:
        """What a command shows where stderr is a terminal, and what it writes to stdout."""
        screen, theirs = os.openpty()
        termios.tcsetwinsize(theirs, SCREEN)
        try:
            process = await self._start([*COMMAND, *arguments], PIPE, theirs)
        finally:
            os.close(theirs)
        shown = asyncio.create_task(asyncio.to_thread(_read_all, screen))
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        return await shown, out.decode()

    async def _start(self, command: Sequence[str], out: Any, err: Any) -> Process:
        ours = {n: v for n, v in os.environ.items() if not n.startswith("DEPOSITD_")}
        root = str(Path(__file__).parents[2])
        environ = {**ours, "PYTHONPATH": root, **self.environ}
        return await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, env=environ, stdin=PIPE, stdout=out, stderr=err
        )


def _read_all(screen: int) -> str:
    """All that a terminal gets until whoever writes to it has ended."""
    shown = b""
    with os.fdopen(screen, "rb", buffering=0) as file, suppress(OSError):
        while piece := file.read(4096):
            shown += piece
    return shown.decode()


def no_secret(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, text


async def until(true: Callable[[], Awaitable[bool]], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(LOOK)


class Node(EvmNode):
    """A simulated node that can be made to answer nothing; `asked` once somebody waits."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()

    async def __aenter__(self) -> Node:
        await super().__aenter__()
        return self

    @property
    def address(self) -> str:
        """Its URL with secrets in all the places that have room for one."""
        return self.url.replace("//", "//user:NODE-PASSWORD@") + "/?key=NODE-KEY"

    async def _serve(self, request: web.Request) -> web.Response:
        if not self.answering.is_set():
            self.asked.set()
        await self.answering.wait()
        return await super()._serve(request)


def settings(
    nodes: Mapping[str, Sequence[str]],
    *,
    port: int = 0,
    database: str | None = None,
    chain_id: int = 420_042,
    **more: object,
) -> str:
    """`depositd.toml` for networks by their nodes' URLs; the first network gets `more`."""
    lines = [] if database is None else [f'database = "{database}"']
    lines += ['secret_key = "SECRET-KEY-0123456789"'] if database is not None else []
    lines += ["[api]", f'listen = "127.0.0.1:{port}"', 'admin_key = "ADMIN-KEY-0123456789"']
    for number, (name, urls) in enumerate(nodes.items()):
        table = {
            "family": "evm",
            "chain_id": chain_id + number,
            "endpoints": list(urls),
            "confirmations": 2,
            "poll_interval": 0.1,
            "reorg_window": 4,
            **(more if number == 0 else {}),
        }
        lines.append(f"[networks.{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"
