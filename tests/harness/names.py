"""A DNS that lies, and sockets that are never made: what the guard is tried with."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Final

from aiohappyeyeballs import AddrInfoType

from callbacks.guard import GuardedSockets
from indexer.config import Callbacks

HOST: Final = "hooks.example"


class Names:
    """Answers lookups in turn; the last answer stays. `asked` counts them."""

    def __init__(
        self, *answers: Iterable[str] | Callable[[], list[str]], port: int | None = None
    ) -> None:
        """Each a list of addresses, or what is called, in the lookup's thread, to make one.

        `port` is answered instead of the one that is asked for.
        """
        self._answers = answers
        self._port = port
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[AddrInfoType]:
        found = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        port = self._port or port
        return [_info(address, port) for address in (found() if callable(found) else found)]


def _info(address: str, port: int) -> AddrInfoType:
    if ":" in address:
        where: tuple[str, int] | tuple[str, int, int, int] = (address, port, 0, 0)
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", where)
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


class Reached(OSError):
    """A connect got past the guard; nothing was sent."""


class Tripwire(GuardedSockets):
    """The real guard; what it allows beyond loopback ends here, before its first packet."""

    def __init__(self, rules: Callbacks) -> None:
        super().__init__(rules)
        self.allowed: list[str] = []  # addresses

    def __call__(self, info: AddrInfoType) -> socket.socket:
        made = super().__call__(info)
        self.allowed.append(str(info[4][0]))
        if not self.allowed[-1].startswith("127."):
            made.close()
            raise Reached
        return made
