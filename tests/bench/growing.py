"""A node whose chain grows: a recording, served block by block, told of over WebSocket.

In a process of its own: `python -m tests.bench.growing FOLDER FIRST`, which prints its port. It
stands at FIRST until `POST /grow?every=SECONDS`; `GET /grown` says when it could serve what.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from tests.bench.blocks import CHAIN_ID
from tests.bench.recording import Recording
from tests.bench.replay import Replay

JITTER: Final = 0.5  # of the pause between two blocks, either way
REQUEST_BYTES: Final = 2**20


class Growing(Recording):
    """A recording as far as its chain has grown."""

    def __init__(self, folder: Path, first: int) -> None:
        super().__init__(folder)
        self._grown = first

    @property
    def tip(self) -> int:
        return self._grown

    def grow(self) -> bool:
        """One block more; False if there is none."""
        self._grown += self._grown + 1 < len(self.entries)
        return self._grown + 1 < len(self.entries)


class Node:
    def __init__(self, folder: Path, first: int) -> None:
        self._chain = Growing(folder, first)
        self._replay = Replay(self._chain, CHAIN_ID)
        self._listeners: set[web.WebSocketResponse] = set()
        self._grown: dict[int, float] = {}  # by height, Unix seconds
        self._growing: asyncio.Task[None] | None = None

    def application(self) -> web.Application:
        app = web.Application(client_max_size=REQUEST_BYTES)
        app.router.add_post("/", self._answer)
        app.router.add_get("/", self._listen)
        app.router.add_post("/grow", self._start)
        app.router.add_get("/grown", self._tell)
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        pieces = self._replay.answer(b"", await request.read())
        return web.Response(body=b"".join(pieces), content_type="application/json")

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()  # `eth_subscribe`
        await socket.send_str('{"jsonrpc":"2.0","id":1,"result":"0x1"}')
        self._listeners.add(socket)
        await socket.receive()  # until it goes
        self._listeners.discard(socket)
        return socket

    async def _start(self, request: web.Request) -> web.Response:
        self._growing = asyncio.create_task(self._grow(float(request.query["every"])))
        return web.Response()

    async def _grow(self, every: float) -> None:
        rng, more = random.Random(1), True
        while more:
            await asyncio.sleep(every * (1 + JITTER * rng.uniform(-1, 1)))
            more = self._chain.grow()
            self._grown[self._chain.tip] = time.time()
            entry = self._chain.entries[self._chain.tip]
            header = bytes(self._chain.read(entry.header)).decode()
            params = f'{{"subscription":"0x1","result":{header}}}'
            notice = f'{{"jsonrpc":"2.0","method":"eth_subscription","params":{params}}}'
            for socket in self._listeners:
                await socket.send_str(notice)

    async def _tell(self, _: web.Request) -> web.Response:
        return web.json_response([*self._grown.items()])


@contextmanager
def growing(folder: Path, first: int) -> Iterator[str]:
    """Its URL while it runs."""
    command = (sys.executable, "-m", __name__, str(folder), str(first))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def _serve(folder: Path, first: int) -> None:
    runner = web.AppRunner(Node(folder, first).application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
