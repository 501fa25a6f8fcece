"""Connections between two requests: kept a while, found again by where they lead."""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from typing import Final, NamedTuple

from callbacks.connection import Connection

MAX_IDLE: Final = 4096  # connections; fewer where the process may not open twice as many files
SWEEP_SECONDS: Final = 5.0


class Origin(NamedTuple):
    """What two requests must share to go over one connection."""

    scheme: str
    host: str
    port: int


class Idle:
    """The connections of one event loop that wait for a request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = min(MAX_IDLE, files // 2) if files > 0 else MAX_IDLE
        self._kept: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._count = 0
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def take(self, origin: Origin) -> Connection | None:
        """The one used last that can be used again; the others have the right to grow old."""
        kept = self._kept.get(origin)
        while kept:
            self._count -= 1
            connection = kept.pop()
            if connection.usable():
                return connection
            connection.close()
        return None

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep it for later, or close it where it is of no use any more."""
        if self._count < self._room and connection.reusable:
            self._count += 1
            self._kept[origin].append(connection)
        else:
            connection.close()

    def close(self) -> None:
        self._timer.cancel()
        for kept in self._kept.values():
            for connection in kept:
                connection.close()
        self._kept.clear()

    def _sweep(self) -> None:
        """Close what nobody came back for."""
        for origin, kept in [*self._kept.items()]:
            self._count -= len(kept)
            del self._kept[origin]
            for connection in kept:
                if connection.usable():
                    self.put(origin, connection)
                else:
                    connection.close()
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)
