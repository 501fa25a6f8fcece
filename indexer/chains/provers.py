"""Processes that prove blocks beside the event loop: one pool for all networks of a process.

A catch-up's proofs would keep the loop's core busy and leave the others idle. The pool begins with
the first question, ends when nobody has asked for a while, and knows nothing of what is asked:
bytes go out over a socket, bytes come back. Each process ends when its socket is closed, so also
when this one is killed. They are started by command line and not by `multiprocessing`, which would
import this process's main module into each.

What can't be answered here (one core, a process that died, no memory for another) is not an error:
who asked does the work itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from typing import Final

import structlog

MODULE: Final = "indexer.chains.evm_prover"
PROCESSES: Final = 4  # at most; one a core
QUESTIONS: Final = 2  # of one process at once: the next one waits there, not for our loop
ANSWER_SECONDS: Final = 60.0  # for one answer; then the process is ended
IDLE_SECONDS: Final = 60.0  # without a question, until all are ended
REST_SECONDS: Final = 30.0  # after one died, until another is started
READY: Final = b"!"  # what a process says first
LENGTH_BYTES: Final = 4  # before each message, big-endian
BUFFER_BYTES: Final = 2**20

log = structlog.get_logger()


def framed(message: bytes) -> bytes:
    """A message as it goes over the socket."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def usable_cores() -> int:
    """That the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Prover:
    """One process, and the questions that it has not answered yet."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.process = process
        self.ready = False
        self.ended = False
        self._reader = reader
        self._writer = writer
        self._asked: deque[asyncio.Future[bytes | None]] = deque()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, module: str) -> _Prover:
        """Raises OSError where the system has no room for it."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=BUFFER_BYTES)
            try:
                return cls(_process(module, theirs), reader, writer)
            except OSError:
                writer.close()
                raise

    @property
    def waiting(self) -> int:
        return len(self._asked)

    async def ask(self, question: bytes) -> bytes | None:
        """None where it died over it."""
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(framed(question))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            self.process.kill()
            return None

    async def end(self) -> int:
        """Its exit code. It holds nothing that would have to be finished."""
        self.process.kill()
        await self._reading
        return await asyncio.to_thread(self.process.wait)

    async def _read(self) -> None:
        try:
            await self._reader.readexactly(len(READY))
            self.ready = True
            while True:
                length = await self._reader.readexactly(LENGTH_BYTES)
                answer = await self._reader.readexactly(int.from_bytes(length, "big"))
                self._settle(answer)
        except (asyncio.IncompleteReadError, OSError):
            self.ready = False
            self.ended = True
            self._writer.close()
            while self._asked:
                self._settle(None)

    def _settle(self, answer: bytes | None) -> None:
        asked = self._asked.popleft()
        if not asked.done():  # else nobody waits for it any more
            asked.set_result(answer)


class Provers:
    """The pool. Whoever makes it closes it."""

    def __init__(self, processes: int | None = None, module: str = MODULE) -> None:
        """`processes`: how many at most; None: one a core, none where there is but one.

        `module`: what each of them runs.
        """
        cores = usable_cores()
        by_cores = min(cores, PROCESSES) if cores > 1 else 0
        self._most = by_cores if processes is None else processes
        self._module = module
        # Held by who asks, so that no more questions are written out than are soon read.
        self.room = asyncio.Semaphore(max(1, self._most * QUESTIONS))
        self._asking = 0
        self._choosing = asyncio.Lock()
        self._running: list[_Prover] = []
        self._rest_until = 0.0  # these two by the loop's clock
        self._asked_at = 0.0
        self._watching: asyncio.Task[None] | None = None

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [prover.process.pid for prover in self._running]

    async def ask(self, question: bytes) -> bytes | None:
        """A process's answer; None where none can give it now."""
        self._asking += 1
        try:
            prover = await self._choose()
            answer = None if prover is None else await prover.ask(question)
        finally:
            self._asking -= 1
            self._asked_at = _now()
        if prover is not None and answer is None:
            await self._lost(prover)
        return answer

    async def close(self) -> None:
        """End all; from now on nothing is answered."""
        self._most = 0
        if self._watching is not None:
            self._watching.cancel()
        async with self._choosing:  # after one that is being started
            await self._end_all()

    async def _choose(self) -> _Prover | None:
        """The one with the least to do. If all have something to do, another is started.

        That takes a while, for which who asks doesn't wait.
        """
        async with self._choosing:
            for prover in [each for each in self._running if each.ended]:
                await self._lost(prover)
            ready = [prover for prover in self._running if prover.ready]
            least = min(ready, key=lambda prover: prover.waiting, default=None)
            idle = least is not None and not least.waiting
            full = len(self._running) >= self._most or _now() < self._rest_until
            if not idle and not full and len(ready) == len(self._running):
                await self._start()
            return least

    async def _start(self) -> None:
        try:
            prover = await _Prover.start(self._module)
        except OSError as error:
            self._rest()
            log.warning("no process to prove blocks in could be started", error=str(error))
            return
        self._running.append(prover)
        self._asked_at = _now()
        if self._watching is None:
            self._watching = asyncio.create_task(self._end_when_idle())

    async def _lost(self, prover: _Prover) -> None:
        if prover in self._running:  # else somebody saw it before us, or we ended it
            self._running.remove(prover)
            self._rest()
            # Whatever becomes of who asked: it is waited for, and named.
            await asyncio.shield(asyncio.create_task(_bury(prover)))

    def _rest(self) -> None:
        self._rest_until = _now() + REST_SECONDS

    async def _end_when_idle(self) -> None:
        left = IDLE_SECONDS
        while left > 0 or self._asking:
            await asyncio.sleep(max(left, IDLE_SECONDS / 4))
            left = self._asked_at + IDLE_SECONDS - _now()
        self._watching = None
        await self._end_all()

    async def _end_all(self) -> None:
        running, self._running = self._running, []
        for prover in running:
            await prover.end()


async def _bury(prover: _Prover) -> None:
    pid = prover.process.pid
    log.warning("a process that proved blocks ended", pid=pid, code=await prover.end())


def _process(module: str, peer: socket.socket) -> subprocess.Popen[bytes]:
    """One that runs a module of ours, whose standard input is a socket."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module],
        stdin=peer.fileno(),
        process_group=0,  # Ctrl-C is for us: we end it
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
