"""Machines of their own on one machine: network namespaces, whose links are cut and healed.

Where the kernel or our rights allow no namespaces a relay stands on the way to a service instead,
and stops forwarding; then only that way is cut. Nothing leaves this machine either way.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from tests.harness.server import settle

CHUNK_BYTES: Final = 2**16


class Relay:
    """Forwards TCP connections to a loopback port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._forwards = asyncio.Event()
        self._forwards.set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> int:
        """The port that it listens on."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            await settle()
            self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """What is sent waits, and nobody is told."""
        self._forwards.clear()

    def heal(self) -> None:
        self._forwards.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # the service is down: so is this
            writer.close()
            return
        for each in (self._pump(reader, back), self._pump(there, writer)):
            task = asyncio.create_task(each)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK_BYTES):
                    await self._forwards.wait()
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()


class Link(ABC):
    """The way between here and one machine."""

    prefix: tuple[str, ...] = ()  # of a command that runs there

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    @abstractmethod
    async def reach(self, port: int) -> tuple[str, int]:
        """Host and port under which a loopback port of ours is found there."""

    @abstractmethod
    async def publish(self, port: int) -> tuple[str, int]:
        """Host and port under which every machine and we ourselves find it."""

    @abstractmethod
    async def cut(self) -> None: ...

    @abstractmethod
    async def heal(self) -> None: ...

    async def _relay(self, host: str, port: int) -> tuple[Relay, int]:
        relay = Relay(port)
        self._stack.push_async_callback(relay.close)
        return relay, await relay.start(host)


class Relayed(Link):
    def __init__(self, stack: AsyncExitStack) -> None:
        super().__init__(stack)
        self._relays: list[Relay] = []

    async def reach(self, port: int) -> tuple[str, int]:
        relay, ours = await self._relay("127.0.0.1", port)
        self._relays.append(relay)
        return "127.0.0.1", ours

    async def publish(self, port: int) -> tuple[str, int]:
        return "127.0.0.1", port

    async def cut(self) -> None:
        for relay in self._relays:
            relay.cut()

    async def heal(self) -> None:
        for relay in self._relays:
            relay.heal()


class Namespace(Link):
    """A network namespace and a pair of virtual devices, one end on each side."""

    def __init__(self, stack: AsyncExitStack, number: int) -> None:
        super().__init__(stack)
        name = f"dt{os.getpid()}n{number}"
        self._name, self._near, self._far = name, f"{name}a", f"{name}b"
        self._host = f"10.213.{os.getpid() % 250}.{4 * number + 1}"
        self._guest = f"10.213.{os.getpid() % 250}.{4 * number + 2}"
        self.prefix = ("ip", "netns", "exec", name)

    async def make(self) -> bool:
        """False where that is not allowed."""
        if not await ip("netns", "add", self._name):
            return False
        self._stack.push_async_callback(ip, "netns", "delete", self._name)
        made = await ip("link", "add", self._near, "type", "veth", "peer", "name", self._far)
        self._stack.push_async_callback(ip, "link", "delete", self._near)
        there = ("-n", self._name)
        return made and all(
            [
                await ip("link", "set", self._far, "netns", self._name),
                await ip("address", "add", f"{self._host}/30", "dev", self._near),
                await ip(*there, "address", "add", f"{self._guest}/30", "dev", self._far),
                await ip(*there, "link", "set", "lo", "up"),
                await ip(*there, "link", "set", self._far, "up"),
                await ip("link", "set", self._near, "up"),
                await self._route(),
            ]
        )

    async def reach(self, port: int) -> tuple[str, int]:
        _, ours = await self._relay(self._host, port)
        return self._host, ours

    async def publish(self, port: int) -> tuple[str, int]:
        return await self.reach(port)  # whichever link it comes by, the address is ours

    async def cut(self) -> None:
        assert await ip("-n", self._name, "link", "set", self._far, "down")

    async def heal(self) -> None:
        assert await ip("-n", self._name, "link", "set", self._far, "up")
        assert await self._route()

    async def _route(self) -> bool:
        """It is lost with the link."""
        return await ip("-n", self._name, "route", "replace", "default", "via", self._host)


@asynccontextmanager
async def links(count: int) -> AsyncIterator[list[Link]]:
    """To so many machines: namespaces if they can be had, else relays."""
    async with AsyncExitStack() as stack:
        spaces = [Namespace(stack, number) for number in range(count)]
        if shutil.which("ip") and all([await each.make() for each in spaces]):
            yield [*spaces]
        else:
            yield [Relayed(stack) for _ in range(count)]


async def ip(*arguments: str) -> bool:
    """Whether `ip` did it."""
    process = await asyncio.create_subprocess_exec(
        *("ip", *arguments), stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0
