"""Processes of their own: servers that stay, and code that is measured alone.

Linux pins them: what serves to the last core, what is measured to the first, unless it is measured
on all of them. PostgreSQL goes where the kernel puts it, and so does what an unpinned process
starts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import uvloop

from indexer import log
from tests.bench.http import Answer, HttpServer

START_SECONDS: Final = 30.0  # for a server to say its port
RUN_SECONDS: Final = 120.0  # for one measurement
STOP_SECONDS: Final = 5.0
ONE: Final = "one"  # core for what is measured; servers have another
ALL: Final = "all"  # also what the servers run on

T = TypeVar("T")

_spawn: Final = multiprocessing.get_context("spawn")


class Served:
    """A server in a process of its own, while it is entered: `with Served(answers) as url`.

    `make` is called there with `arguments` and returns what answers requests. The process ends when
    this one leaves, or dies.
    """

    def __init__(
        self, make: Callable[..., Answer], *arguments: object, latency: float = 0.0
    ) -> None:
        self._ours, theirs = _spawn.Pipe()
        self._process: SpawnProcess = _spawn.Process(
            target=_serve, args=(theirs, make, arguments, latency), daemon=True
        )
        self._theirs = theirs

    def __enter__(self) -> str:
        self._process.start()
        self._theirs.close()
        if not self._ours.poll(START_SECONDS):
            raise TimeoutError(f"a server said nothing for {START_SECONDS:g} s")
        return f"http://127.0.0.1:{self._ours.recv()}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ours.close()
        self._process.join(STOP_SECONDS)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()


def run_alone(
    measure: Callable[..., Coroutine[Any, Any, T]], *arguments: object, cores: str = ONE
) -> T:
    """What a coroutine function returns when it runs in a fresh process, on its own core or all."""
    with ProcessPoolExecutor(max_workers=1, mp_context=_spawn) as pool:
        return pool.submit(_measured, measure, arguments, cores).result(timeout=RUN_SECONDS)


class Clock:
    """Wall and CPU seconds of this process since it was made, and its peak memory.

    The CPU seconds are also those of the processes that it started, once they have ended.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return _cpu_seconds() - self._cpu

    @property
    def peak_bytes(self) -> int:
        """Of resident memory. A spawned process's `ru_maxrss` counts its parent's on Linux."""
        status = Path("/proc/self/status")
        if status.exists():
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            return int(fields["VmHWM"].split()[0]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )


def _cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _measured(
    measure: Callable[..., Coroutine[Any, Any, T]], arguments: tuple[object, ...], cores: str
) -> T:
    if cores == ONE:
        _pin(0)
    log.configure(quiet=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure(*arguments))


def _serve(
    pipe: Connection, make: Callable[..., Answer], arguments: tuple[object, ...], latency: float
) -> None:
    _pin(-1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_until_closed(pipe, make(*arguments), latency))


async def _serve_until_closed(pipe: Connection, answer: Answer, latency: float) -> None:
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    server = await loop.create_server(
        lambda: HttpServer(answer, latency=latency), "127.0.0.1", 0, backlog=1024
    )
    loop.add_reader(pipe.fileno(), closed.set)
    pipe.send(server.sockets[0].getsockname()[1])
    await closed.wait()
    loop.remove_reader(pipe.fileno())
    server.close()


def _pin(core: int) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
