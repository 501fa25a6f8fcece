"""PostgreSQL in a simulation: real, one call at a time, and lost where the seed says so.

While a call is under way nobody else does anything. One that waits for somebody's lock is put aside
until it has it: the server is asked who it waits for, so that nothing depends on how long a call
takes. What a client is told may come a little later, and the connection may be lost before the call
was heard, or after it took effect.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Final, Protocol, TypeAlias

import asyncpg

from tests.simulation.clock import Time
from tests.simulation.loop import Loop
from tests.simulation.sessions import Server

CONNECTIONS: Final = 10  # of one process, as its pool has them
PATIENCE_SECONDS: Final = 0.03  # real ones, before the server is asked what a call waits for
HEARD: Final = 0.5  # part of the notifications that arrive
LATE: Final = 0.3  # part of the answers that take their time
LATE_SECONDS: Final = (0.02, 0.1, 1.0)  # at most; one of them in each history
CLOSED: Final = "connection is closed"  # as asyncpg says it


Method: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


class Lost(Enum):
    """When a connection was lost."""

    BEFORE = "before"  # the server never heard of the call, and rolled back
    AFTER = "after"  # the call took effect, its answer did not arrive


class Faults(Protocol):
    """Whoever decides what becomes of calls."""

    def strike(self) -> Lost | None:
        """What becomes of the call that the running process makes now.

        CancelledError where it is dead.
        """
        ...

    def slowness(self) -> float:
        """Seconds that an answer to the running process takes at most, where it is slow."""
        ...

    def deadlocked(self, statements: Sequence[str]) -> None:
        """Transactions wait for each other: somebody took locks in another order."""
        ...


@dataclass(slots=True)
class Waiting:
    """A call that waits for a lock."""

    client: Connection
    statement: str
    call: asyncio.Task[Any]
    answered: asyncio.Future[None]


class Database:
    """One history's clients of a server."""

    def __init__(
        self,
        server: Server,
        loop: Loop,
        time: Time,
        faults: Faults,
        fence: Callable[[Sequence[Any], Any], None],
        choices: Random,
    ) -> None:
        """`fence` is told of each call that took effect, with its result."""
        self.server = server
        self.calls = 0
        self.waits = 0  # of calls, for locks
        self.listeners: list[Callable[..., object]] = []
        self._loop = loop
        self._time = time
        self._faults = faults
        self._choices = choices
        self._late_seconds = choices.choice(LATE_SECONDS)
        self._fence = fence
        self._waiting: list[Waiting] = []
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """Of all calls, with what they were told."""
        return self._trace.hexdigest()

    async def call(
        self, client: Connection, method: Method, *arguments: Any, timed: bool = True
    ) -> Any:
        """One call of a client, which the rest of the world sees whole."""
        await asyncio.sleep(0)  # others may go first
        lost = self._faults.strike()
        client.check()
        self.calls += 1
        if lost is Lost.BEFORE:
            client.lose()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        try:
            if timed:
                self.server.tell_time(client.raw, self._time.database())
            result = await self._call(client, method, arguments)
        finally:
            self._unblock()
        if lost is Lost.AFTER:
            client.lose()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed")
        most = max(self._late(), self._faults.slowness())
        if most:
            await asyncio.sleep(self._choices.random() * most)
        return result

    def _late(self) -> float:
        return self._late_seconds if self._choices.random() < LATE else 0.0

    async def _call(self, client: Connection, method: Method, arguments: tuple[Any, ...]) -> Any:
        task = self.server.finished(method(*arguments), PATIENCE_SECONDS)
        if not self._answered(client, task):
            await self._locked(client, str(arguments[0]), task)
        error = task.exception()
        told = type(error).__name__ if error is not None else task.result()
        self.note(arguments, told)
        if error is None:
            self._fence(arguments, told)
        return task.result()

    def note(self, *what: Any) -> None:
        """Something that a replay must do alike."""
        self._trace.update(f"{self._loop.now:.6f} {what!r}\n".encode())

    def _answered(self, client: Connection, task: asyncio.Task[Any]) -> bool:
        """Wait until a call is answered; False where it waits for a lock."""
        while not task.done():
            if self.server.waits_for(client.raw):
                return False
            self.server.wait(task, PATIENCE_SECONDS)
        return True

    async def _locked(self, client: Connection, statement: str, task: asyncio.Task[Any]) -> None:
        """Until somebody gives the lock away, which is when the call is answered."""
        self.waits += 1
        waiting = Waiting(client, statement, task, self._loop.create_future())
        self._waiting.append(waiting)
        self._look_for_deadlock()
        try:
            await waiting.answered
        except asyncio.CancelledError:
            self._give_up(client)
            raise

    def _give_up(self, client: Connection) -> None:
        """Whoever waited for its call does so no longer."""
        for waiting in [each for each in self._waiting if each.client is client]:
            self._waiting.remove(waiting)
            self.server.cancel(client.raw)
            self.server.wait(waiting.call)
            waiting.call.exception()

    def _unblock(self) -> None:
        """Whoever waits no longer is answered, in the order in which they came."""
        again = True
        while again:
            again = False
            for waiting in list(self._waiting):
                if self._answered(waiting.client, waiting.call):
                    self._waiting.remove(waiting)
                    if not waiting.answered.done():
                        waiting.answered.set_result(None)
                    again = True

    def ring(self) -> None:
        """Something was committed: who listens hears of it, or does not."""
        for callback in list(self.listeners):
            if self._choices.random() < HEARD:
                callback("")

    def release(self, client: Connection) -> None:
        """A client is gone: its locks are free."""
        self._give_up(client)
        self.server.give_back(client.raw)
        self._unblock()

    def _look_for_deadlock(self) -> None:
        edges: dict[int, set[int]] = {}
        for each in self._waiting:
            edges[each.client.raw.get_server_pid()] = self.server.waits_for(each.client.raw)
        for start in edges:
            seen, ahead = set(), set(edges[start])
            while ahead:
                if start in ahead:
                    self._faults.deadlocked([each.statement for each in self._waiting])
                    return
                seen |= ahead
                ahead = set().union(*(edges.get(each, set()) for each in ahead)) - seen


class Connection:
    """What `asyncpg.Connection` is to the program."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.raw = database.server.take()
        self.depth = 0  # of transactions in each other
        self._open = True
        self._ended: list[Callable[..., object]] = []
        self._heard: list[Callable[..., object]] = []

    def check(self) -> None:
        if not self._open:
            raise asyncpg.InterfaceError(CLOSED)

    def close(self) -> None:
        """The server rolls back what was not committed."""
        if self._open:
            self._open = False
            for callback in self._heard:
                self._database.listeners.remove(callback)
            self._database.release(self)

    def lose(self) -> None:
        """The same, and not by our will: who listens for that is told."""
        self.close()
        for callback in self._ended:
            callback(self)

    async def execute(self, statement: str, *arguments: Any, timeout: Any = None) -> Any:
        return await self._database.call(self, self.raw.execute, statement, *arguments)

    async def executemany(self, statement: str, rows: Any, timeout: Any = None) -> Any:
        return await self._database.call(self, self.raw.executemany, statement, rows)

    async def fetch(self, statement: str, *arguments: Any, timeout: Any = None) -> Any:
        return await self._database.call(self, self.raw.fetch, statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any, timeout: Any = None) -> Any:
        return await self._database.call(self, self.raw.fetchrow, statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any, timeout: Any = None) -> Any:
        return await self._database.call(self, self.raw.fetchval, statement, *arguments)

    async def roll_back(self, statement: str) -> None:
        """A transaction that has failed takes nothing else."""
        self._database.server.forget_time(self.raw)
        await self._database.call(self, self.raw.execute, statement, timed=False)

    async def copy_from_query(
        self, statement: str, *arguments: Any, output: Any, **options: Any
    ) -> Any:
        copy = partial(self.raw.copy_from_query, output=output, **options)
        return await self._database.call(self, copy, statement, *arguments)

    def transaction(self, *, readonly: bool = False) -> Transaction:
        return Transaction(self, readonly=readonly)

    def ring(self) -> None:
        self._database.ring()

    async def cursor(self, statement: str, *arguments: Any) -> Cursor:
        return Cursor(await self.fetch(statement, *arguments))

    async def add_listener(self, channel: str, callback: Callable[..., object]) -> None:
        self.check()
        self._heard.append(callback)
        self._database.listeners.append(callback)

    async def remove_listener(self, channel: str, callback: Callable[..., object]) -> None:
        self._heard.remove(callback)
        self._database.listeners.remove(callback)

    def terminate(self) -> None:
        self.lose()

    def is_in_transaction(self) -> bool:
        return self.depth > 0

    def is_closed(self) -> bool:
        return not self._open

    def add_termination_listener(self, callback: Callable[..., object]) -> None:
        self._ended.append(callback)

    def remove_termination_listener(self, callback: Callable[..., object]) -> None:
        self._ended.remove(callback)


class Cursor:
    """All rows at once: who takes them in turns sees no difference."""

    def __init__(self, rows: list[asyncpg.Record]) -> None:
        self._rows = rows

    async def fetch(self, count: int) -> list[asyncpg.Record]:
        some, self._rows = self._rows[:count], self._rows[count:]
        return some


class Transaction:
    """A transaction, or a part of one, begun and ended by calls like any other."""

    def __init__(self, client: Connection, *, readonly: bool = False) -> None:
        self._client = client
        self._readonly = readonly

    async def __aenter__(self) -> None:
        client = self._client
        depth, client.depth = client.depth, client.depth + 1
        self._name = f"part{depth}" if depth else ""
        begin = "begin read only" if self._readonly else "begin"
        await client.execute(f"savepoint {self._name}" if self._name else begin)

    async def start(self) -> None:
        await self.__aenter__()

    async def commit(self) -> None:
        await self.__aexit__(None, None, None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        client = self._client
        client.depth -= 1
        if kind is None:
            await client.execute(f"release {self._name}" if self._name else "commit")
            if not self._name:
                client.ring()
            return
        await client.roll_back(f"rollback to {self._name}" if self._name else "rollback")


class Pool:
    """What `asyncpg.Pool` is to the program: one process's connections."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._open: list[Connection] = []

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[Connection]:
        async with self._room:
            client = Connection(self._database)
            self._open.append(client)
            try:
                yield client
            finally:
                self._open.remove(client)
                client.close()

    def die(self) -> None:
        """The process is gone, and the server knows."""
        for client in self._open:
            client.close()

    async def execute(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as client:
            return await client.execute(statement, *arguments)

    async def executemany(self, statement: str, rows: Any) -> Any:
        async with self.acquire() as client:
            return await client.executemany(statement, rows)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as client:
            return await client.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as client:
            return await client.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as client:
            return await client.fetchval(statement, *arguments)
