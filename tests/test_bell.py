"""The bell's listener notices by itself that nobody rings any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from indexer import bell
from indexer.database import connect_pool
from indexer.secret import Vault
from tests.harness.cluster import cluster

SOON = 30.0  # seconds
LOOK = 0.02  # seconds between two looks


async def test_a_server_that_fell_silent_is_noticed_and_heard_again(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(bell, "ANSWER_SECONDS", 0.5)
    heard: list[str] = []
    async with cluster(tmp_path, vault) as server:
        pool = await connect_pool(server.dsn)
        with capture_logs() as logs:
            listening = asyncio.create_task(bell.listen(pool, heard.append))
            async with asyncio.timeout(SOON):
                while not heard:
                    await asyncio.sleep(LOOK)
                await asyncio.sleep(0.5)  # asked and answered, more than once
                assert not logs
                server.freeze()
                while not logs:
                    await asyncio.sleep(LOOK)
                server.thaw()
                while len(heard) < 2:
                    await asyncio.sleep(LOOK)
                async with pool.acquire() as connection:
                    await bell.ring(connection, ["endpoint"])
                while heard[-1] != "endpoint":
                    await asyncio.sleep(LOOK)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await pool.close()
    assert logs[0]["event"] == "bell lost"
