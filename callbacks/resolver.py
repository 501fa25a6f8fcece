"""From a host to its addresses: within seconds, bounded, and none of them forbidden."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

from aiohappyeyeballs import AddrInfoType
from yarl import URL

from callbacks.guard import FORBIDDEN, Blocked, forbidden
from indexer.config import Callbacks
from indexer.model import Refused

DNS_SECONDS: Final = 3.0
LOOKUPS: Final = 128  # at once; the others wait for one of them
MAX_ANSWERS: Final = 64  # addresses of one host; what is beyond is not used

LookUp: TypeAlias = Callable[[str, int], list[AddrInfoType]]


def ask_system(host: str, port: int) -> list[AddrInfoType]:
    """As getaddrinfo answers. Blocks; OSError where there is no answer."""
    return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)]


class Resolver:
    """DNS without blocking, a lookup at a time for a host: one that hangs holds up no other.

    Nothing can stop a lookup that hangs; hence the bound, and threads that no process waits for at
    its end.
    """

    def __init__(self, rules: Callbacks, look_up: LookUp = ask_system) -> None:
        self._rules = rules
        self._look_up = look_up
        self._under_way: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}
        self._free = asyncio.Semaphore(LOOKUPS)

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """The host's addresses. Blocked where one is forbidden; OSError where there is none."""
        try:
            async with asyncio.timeout(DNS_SECONDS):
                answers = await asyncio.shield(self._lookup(host, port))
        except TimeoutError:
            raise OSError(f"DNS did not answer within {DNS_SECONDS:g} s") from None
        if not answers:
            raise OSError("DNS knows no address of this host")
        for *_, address in answers:
            if forbidden(str(address[0]), allow_private=self._rules.allow_private):
                raise Blocked
        return answers

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._under_way.values():
            task.cancel()

    def _lookup(self, host: str, port: int) -> asyncio.Task[list[AddrInfoType]]:
        """The one that is under way for this host, or a new one."""
        key = host, port
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(self._ask(host, port))
            self._under_way[key].add_done_callback(lambda task: self._on_done(key, task))
        return self._under_way[key]

    async def _ask(self, host: str, port: int) -> list[AddrInfoType]:
        async with self._free:
            return (await _in_thread(self._look_up, host, port))[:MAX_ANSWERS]

    def _on_done(self, key: tuple[str, int], task: asyncio.Task[list[AddrInfoType]]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # whoever asked may have gone


def _in_thread(look_up: LookUp, host: str, port: int) -> asyncio.Future[list[AddrInfoType]]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[AddrInfoType]] = loop.create_future()

    def settle(set_value: Callable[[Any], None], value: object) -> None:
        if not answer.done():
            set_value(value)

    def run() -> None:
        try:
            found = look_up(host, port)
        except (OSError, UnicodeError) as problem:  # UnicodeError: not a name at all
            outcome: tuple[Callable[[Any], None], object] = (
                answer.set_exception,
                OSError(str(problem)),
            )
        else:
            outcome = (answer.set_result, found)
        with suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="callback-dns", daemon=True).start()
    return answer


async def check_answers(url: URL, rules: Callbacks, look_up: LookUp = ask_system) -> None:
    """Refused if a name resolves to what is forbidden; one that does not resolve yet passes.

    For registration: it tells an owner early what every connect would find.
    """
    resolver = Resolver(rules, look_up)
    try:
        await resolver.resolve(url.raw_host or "", url.port or 0)
    except Blocked:
        raise Refused(FORBIDDEN) from None
    except OSError:
        pass
    finally:
        resolver.close()
