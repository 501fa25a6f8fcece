"""A job, who can do it, and how a run is scored."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import asyncpg

INSTALL_SECONDS: Final = 600
RUN_SECONDS: Final = 240  # for one run of one peer
LOOK_SECONDS: Final = 0.05
PRINTED: Final = "printed"  # in a run's folder
SAID: Final = 600  # characters of what a program said last, for who looks why it failed


class Failed(Exception):
    """A peer that can't be installed, or doesn't do what it must: it gets no figure."""


@dataclass(frozen=True, slots=True)
class Job:
    """Store every ERC-20 Transfer of blocks 1..`last`."""

    url: str  # of the node
    honest: str  # of one that leaves nothing out; the same for most jobs
    last: int
    database: str  # URL of a fresh one
    folder: Path  # an empty one, for this run
    tools: Path  # where the peer was installed


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start. One that doesn't end by itself is told to once `finished` says so."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    finished: Callable[[], bool] | None = None


class Peer(Protocol):
    name: str  # with its version
    stores: str  # where its rows go
    to_head: bool  # it reads (and stores) the blocks above the last as well
    erc721: bool  # it takes the Transfers of collectibles for rows as well

    def install(self, tools: Path) -> None: ...
    def command(self, job: Job) -> Command: ...
    async def rows(self, job: Job) -> int:
        """How many Transfers the run stored."""
        ...


@dataclass(frozen=True, slots=True)
class Score:
    rows: int
    wall: float  # seconds, from the process's start to its end
    cpu: float  # seconds of the process, PostgreSQL and node not counted
    peak_bytes: int
    code: int  # it left with


def run(job: Job, command: Command, rows: Callable[[], int]) -> Score:
    """One run of one process; what it prints goes into PRINTED. Raises Failed past RUN_SECONDS."""
    started = time.monotonic()
    with (job.folder / PRINTED).open("wb") as printed:
        process = subprocess.Popen(
            command.arguments,
            cwd=job.folder,
            env={**os.environ, **command.environment},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        stopped = 0.0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            now = time.monotonic()
            if pid:
                break
            if not stopped and command.finished is not None and command.finished():
                stopped = now
                process.terminate()
            if now - started > RUN_SECONDS:
                process.kill()
                process.wait()
                raise Failed(f"not done in {RUN_SECONDS} s")
            time.sleep(LOOK_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    code = 0 if stopped else process.returncode
    cpu = usage.ru_utime + usage.ru_stime
    return Score(rows(), (stopped or now) - started, cpu, usage.ru_maxrss * 1024, code)


def install(
    arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run an installer, quietly. Raises Failed."""
    name = Path(arguments[0]).name
    try:
        done = subprocess.run(  # the arguments are constants of these modules
            arguments,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise Failed(f"{name} is not here") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} was not done in {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise Failed(f"{name} failed: {(done.stderr or done.stdout)[-SAID:]}")


async def count(database: str, table: str) -> int:
    """Rows of a table; 0 where there is none."""
    connection = await asyncpg.connect(database)
    try:
        if await connection.fetchval("select to_regclass($1)", table) is None:
            return 0
        return int(await connection.fetchval(f"select count(*) from {table}"))  # noqa: S608
    finally:
        await connection.close()
