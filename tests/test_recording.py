"""A recording replays to the same rows on a fresh database, without any node."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from indexer.database import connect_pool
from indexer.model import Refused
from tests.conftest import TEMPLATE, Server
from tests.harness.contracts import contracts
from tests.harness.past import (
    FAMILIES,
    STANDING,
    command,
    opened,
    past,
    register_alike,
    site,
    toml,
)
from tests.harness.world import NETWORK, network, world

STEPS: Final = 200 if os.environ.get("DEPOSITD_SOAK") else 40
NOWHERE: Final = "http://127.0.0.1:1"
FILE: Final = "past.rec"
PAYEES: Final = ("0x" + "a1" * 20, "0x" + "b2" * 20)


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


@pytest.mark.node
async def test_a_recording_of_a_real_node_does_too(
    dsn: str, fresh: Callable[[], Awaitable[str]], tmp_path: Path
) -> None:
    """Tokens whose balances are checked, payments by contracts, and a reorganisation."""
    file = tmp_path / FILE
    async with world(dsn, tmp_path, native="traces") as live:
        token = await live.token(balanceCheck=True)
        disperse = await live.node.deploy(contracts()["Disperse"])
        await live.watch(*PAYEES)
        first = await live.node.height()
        for units in range(1, 6):
            await token.send("transfer", PAYEES[0], units)
            await disperse.send("pay", list(PAYEES), [units, units], value=2 * units)
            await live.mine()
        await live.swap(2)
        await live.follow()
        sent = await live.node.pay(PAYEES[1], 7)
        await live.mine(3)
        assert await live.node.receipt(sent)
        last = str(await live.node.height())
        blocks = (NETWORK, "--from", str(first), "--to", last)
        text = toml(dsn, {NETWORK: network(live.node.url, native="traces")})
        await command(opened(tmp_path / "live", text), "record", *blocks, "-o", str(file))
        rows = await live.database.fetch(STANDING)
        assert {row["state"] for row in rows} == {"confirmed"}
        for number in range(2):
            copy = await fresh()
            text = toml(copy, {NETWORK: network(NOWHERE, native="traces")})
            terminal = opened(tmp_path / str(number), text)
            source = ("replay", *blocks, "--source", str(file), "--write")
            await command(terminal, *source)
            pool = await connect_pool(copy)
            await register_alike(live.database, pool)
            said = await command(terminal, *source, "--json", code=1)
            assert said.json["written"] == len(rows)
            assert await pool.fetch(STANDING) == rows
            assert (await command(terminal, *source, "--json")).json["same"] == len(rows)
            await pool.close()


@pytest.mark.timeout(600)  # the full numbers take their time
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
        made = await live.command("record", *live.range, "-o", str(file), "--json")
        assert made.json["bytes"] == file.stat().st_size
        rows = await live.standing()
        assert len(rows) > STEPS // 2
    for number in range(2):  # the node is gone by now
        async with site(live.simulation, NOWHERE, await fresh(), tmp_path / str(number)) as other:
            source = ("replay", *live.range, "--source", str(file))
            with pytest.raises(Refused, match="has not started yet: --write begins it"):
                await other.command(*source)
            await other.command(*source, "--write")
            await other.register()
            said = await other.command(*source, "--write", "--json", code=1)
            assert (said.json["missing"], said.json["written"]) == (len(rows), len(rows))
            assert await other.standing() == rows
            events = await other.events()
            said = await other.command(*source, "--write", "--json")
            assert (said.json["same"], said.json["missing"]) == (len(rows), 0)
            assert await other.events() == events
