"""Debian's Chromium without a window, driven over its own debugging socket."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

CHROMIUM: Final = "chromium"
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)
START_SECONDS: Final = 60.0
SECONDS: Final = 30.0  # for anything that a page does
LOOK_SECONDS: Final = 0.05  # between two looks at it


class Page:
    """A tab. `requests` are the URLs that it asked for, `complaints` what its console says."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(said["params"]))

    async def ask(self, method: str, **params: Any) -> Any:
        """A command of the protocol (chromedevtools.github.io/devtools-protocol)."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(SECONDS):
            said = await self._answers[number]
        assert "error" not in said, (method, said)
        return said["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        said = await self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, script: str) -> Any:
        """Its value, once that is true."""
        async with asyncio.timeout(SECONDS):
            while not (value := await self.run(script)):
                await asyncio.sleep(LOOK_SECONDS)
        return value

    async def press(self, key: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text)

    async def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        said = await self.ask("Page.captureScreenshot")
        return base64.b64decode(said["data"])


def chromium() -> str:
    """Its path. Skips the test without it, and fails it where it must be there."""
    found = shutil.which(CHROMIUM)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{CHROMIUM} (Debian's package) must be there where CI is set")
    if found is None:
        pytest.skip(f"no {CHROMIUM} (Debian's package) on the PATH")
    return found


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """An empty page of a browser that knows nothing yet; `folder` is its own."""
    process = await asyncio.create_subprocess_exec(
        chromium(),
        *FLAGS,
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (port := _port(folder / "DevToolsActivePort")):
                await asyncio.sleep(LOOK_SECONDS)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                [tab] = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                listening.cancel()
    finally:
        process.terminate()
        await process.wait()


def _port(file: Path) -> int:
    """Where it listens, once it has written that down; 0 before."""
    said = file.read_text(encoding="ascii") if file.exists() else ""
    return int(said.split("\n")[0]) if "\n" in said else 0
