"""A port to which no connection completes until a test lets it: nothing is sent there till then."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

SECONDS: Final = 10.0  # TCP tries again after 1, 3 and 7


class Blocked:
    """Its queue is full, so that the kernel answers nobody: nothing can be sent to it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._filler = socket.create_connection(self._listener.getsockname())

    def knocked(self) -> bool:
        """Whether somebody is trying to connect."""
        wanted = f"0100007F:{self.port:04X} 02"  # 127.0.0.1, SYN_SENT
        return wanted in Path("/proc/net/tcp").read_text()

    def admit(self) -> bytes:
        """Let in who knocks, with TCP's second try or third; all that he sends until he goes."""
        self._filler.close()
        self._listener.accept()[0].close()
        self._listener.settimeout(SECONDS)
        with closing(self._listener.accept()[0]) as connection:
            connection.settimeout(SECONDS)
            return connection.recv(1 << 16)

    def close(self) -> None:
        self._filler.close()
        self._listener.close()


@contextmanager
def blocked() -> Iterator[Blocked]:
    made = Blocked()
    try:
        yield made
    finally:
        made.close()
