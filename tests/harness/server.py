"""An aiohttp application on a loopback port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

SETTLE: Final = 0.001  # seconds
GRACE: Final = 0.2  # seconds that open requests get at the end


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """Its base URL while it runs."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await settle()
        await runner.cleanup()


async def settle() -> None:
    """To be awaited before a server of asyncio is closed: then no accepted connection is lost.

    One whose task has not run yet is neither attached to a server that is closed nor closed
    itself. Who wakes up by a timer comes after the tasks of what was accepted until then; one
    turn of the loop is not enough.
    """
    await asyncio.sleep(SETTLE)
