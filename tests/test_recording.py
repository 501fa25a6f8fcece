"""A recording replays to the same rows on a fresh database, without any node."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import TEMPLATE, Server
from tests.harness.past import FAMILIES, past, site

STEPS: Final = 200 if os.environ.get("DEPOSITD_SOAK") else 40
NOWHERE: Final = "http://127.0.0.1:1"
FILE: Final = "past.rec"


@pytest.fixture
async def fresh(server: Server) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes databases with the schema and nothing else."""
    made: list[str] = []

    async def make() -> str:
        made.append(await server.create(TEMPLATE))
        return made[-1]

    yield make
    for dsn in made:
        await server.drop(dsn)


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_recording_replays_to_the_same_rows_on_any_fresh_database(
    family: str,
    dsn: str,
    fresh: Callable[[], Awaitable[str]],
    tmp_path: Path,
) -> None:
    file = tmp_path / FILE
    async with past(family, dsn, tmp_path / "live", STEPS) as live:
        assert live.simulation.reorgs > STEPS // 20
        made = await live.terminal.run("record", *live.range, "-o", str(file), "--json")
        assert made.json["bytes"] == file.stat().st_size
        rows = await live.standing()
        assert len(rows) > STEPS // 2
    for number in range(2):  # the node is gone by now
        async with site(live.simulation, NOWHERE, await fresh(), tmp_path / str(number)) as other:
            source = ("replay", *live.range, "--source", str(file))
            said = await other.terminal.run(*source, code=2)
            assert "has not started yet: --write begins it" in said.line
            await other.terminal.run(*source, "--write")
            await other.register()
            said = await other.terminal.run(*source, "--write", "--json", code=1)
            assert (said.json["missing"], said.json["written"]) == (len(rows), len(rows))
            assert await other.standing() == rows
            events = await other.events()
            said = await other.terminal.run(*source, "--write", "--json")
            assert (said.json["same"], said.json["missing"]) == (len(rows), 0)
            assert await other.events() == events
