"""The connections to a PostgreSQL, kept from history to history, on a loop of their own."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import datetime
from typing import Any

import asyncpg

from indexer.database import CONNECTION, prepare


class Patient(selectors.DefaultSelector):
    """Looks for news of connections only where there is nothing else to do: looking is slow."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return [] if timeout == 0 else super().select(timeout)


class Server:
    """What simulations ask of it: to do something now, whatever loop runs otherwise."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.SelectorEventLoop(Patient())
        self._dsn = dsn
        self._idle: list[asyncpg.Connection] = []
        self._told: dict[asyncpg.Connection, datetime] = {}  # what time it is
        self._monitor: asyncpg.Connection = self.run(self._connect())

    def close(self) -> None:
        for connection in [*self._idle, self._monitor]:
            self.run(connection.close(timeout=5))
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it now, whatever loop runs otherwise."""
        return self.finished(work).result()

    def finished(
        self, work: Coroutine[Any, Any, Any], seconds: float | None = None
    ) -> asyncio.Task[Any]:
        """Begin it and wait: for its end, or no longer than some real seconds."""
        task = self._loop.create_task(work)
        self.wait(task, seconds)
        return task

    def wait(self, task: asyncio.Task[Any], seconds: float | None = None) -> None:
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        until = None if seconds is None else self._loop.time() + seconds
        timer = None if seconds is None else self._loop.call_later(seconds, self._loop.stop)
        task.add_done_callback(self._stop)
        try:
            while not task.done() and (until is None or self._loop.time() < until):
                self._loop.run_forever()
        finally:
            task.remove_done_callback(self._stop)
            if timer is not None:
                timer.cancel()
            asyncio._set_running_loop(outer)

    def _stop(self, _: object) -> None:
        self._loop.stop()

    def take(self) -> asyncpg.Connection:
        return self._idle.pop() if self._idle else self.run(self._connect())

    def give_back(self, connection: asyncpg.Connection) -> None:
        """As the server leaves a client that is gone: its transaction is rolled back."""
        if connection.is_in_transaction():
            self.run(connection.execute("rollback"))
            self.forget_time(connection)
        self._idle.append(connection)

    def tell_time(self, connection: asyncpg.Connection, now: datetime) -> None:
        if self._told.get(connection) != now:
            self.run(connection.execute(f"set depositd.clock = '{now.isoformat()}'"))
            self._told[connection] = now

    def forget_time(self, connection: asyncpg.Connection) -> None:
        """A transaction is rolled back, and with it what it was told in there."""
        self._told.pop(connection, None)

    def forget_times(self) -> None:
        self._told.clear()

    def ask(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """As an observer, who is no part of the simulated world."""
        rows: list[asyncpg.Record] = self.run(self._monitor.fetch(statement, *arguments))
        return rows

    def execute(self, statements: str) -> None:
        self.run(self._monitor.execute(statements))

    def waits_for(self, connection: asyncpg.Connection) -> set[int]:
        [row] = self.ask("select pg_blocking_pids($1) as pids", connection.get_server_pid())
        return set(row["pids"])

    def cancel(self, connection: asyncpg.Connection) -> None:
        self.ask("select pg_cancel_backend($1)", connection.get_server_pid())

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(self._dsn, **{**CONNECTION, "command_timeout": None})
        await prepare(connection)
        return connection
