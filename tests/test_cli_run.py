"""`depositd run` beside the other commands: as it starts, works, loses its database, and stops."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from indexer.commands.run import FILES, raise_file_limit
from indexer.devnet.evm_chain import SimulatedChain
from indexer.engine import FINISH_SECONDS
from tests.harness.engine import free_port
from tests.harness.terminal import Node, Terminal, settings, until

BLOCKS: Final = 12
STOP_SECONDS: Final = 15.0


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    chain = SimulatedChain(1, finality=8)
    for _ in range(BLOCKS):
        chain.mine()
    async with Node(chain) as node:
        yield node
        node.answering.set()


async def network(terminal: Terminal) -> dict[str, Any]:
    networks: list[dict[str, Any]] = (await terminal.run("status", "--json")).json["networks"]
    return networks[0] if networks else {}


async def reaches(terminal: Terminal, state: str, cursor: int) -> None:
    """Wait until `status` tells of the network so."""

    async def there() -> bool:
        told = await network(terminal)
        return (told.get("state"), told.get("cursor")) == (state, cursor)

    await until(there)


async def stops(process: Process, name: signal.Signals = signal.SIGTERM) -> float:
    """It ends with exit 0; the seconds that it took."""
    asked = time.monotonic()
    process.send_signal(name)
    assert await asyncio.wait_for(process.wait(), STOP_SECONDS) == 0
    return time.monotonic() - asked


async def answer(port: int, path: str) -> tuple[int, Any]:
    """Status and body; (0, None) while nobody listens."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.json()
    except aiohttp.ClientConnectionError:
        return 0, None


async def listens(port: int) -> None:
    async def there() -> bool:
        return (await answer(port, "/healthz"))[0] == 200

    await until(there)


async def test_commands_work_beside_a_run_on_the_embedded_database(
    terminal: Terminal, node: Node
) -> None:
    port = free_port()
    terminal.write(settings({"sim": [node.address]}, port=port))
    async with terminal.running("run") as process:
        await listens(port)
        await reaches(terminal, "following", BLOCKS)
        assert (await terminal.run("account", "create", "A", "--id", "a")).out == "a\n"
        assert (await terminal.run("key", "create", "a")).out.startswith("dk_")
        taken = await terminal.run("run", code=2)
        assert (
            taken.err.splitlines()[-1]
            == f"can't listen on 127.0.0.1:{port}: Address already in use"
        )
        node.chain.mine()
        await reaches(terminal, "following", BLOCKS + 1)
        node.answering.clear()
        await asyncio.wait_for(node.asked.wait(), 20)
        assert await stops(process) < FINISH_SECONDS + 3  # it waits for no answer of the node
    after = await network(terminal)
    assert (after["state"], after["cursor"]) == ("following", BLOCKS + 1)
    assert after["secondsAgo"] > 0  # that is how old the word is
    assert not (terminal.folder / ".depositd/postgres/postmaster.pid").exists()


async def test_the_embedded_server_is_brought_back_when_it_is_killed(
    terminal: Terminal, node: Node
) -> None:
    port = free_port()
    terminal.write(settings({"sim": [node.address]}, port=port))
    async with terminal.running("run") as process:
        await listens(port)
        await reaches(terminal, "following", BLOCKS)
        data = terminal.folder / ".depositd/postgres"

        def kill(folder: Path) -> None:
            os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

        async def logs(text: str) -> None:
            async def there() -> bool:
                return text in terminal.log.read_text()

            await until(there)

        kill(data)
        node.chain.mine()
        await logs(f'"height":{BLOCKS + 1}')  # nobody but the run itself was there to start it
        hidden = data.rename(data.with_name("away"))
        kill(hidden)
        await logs(f"{data} is gone")  # and no empty one is made in its place
        hidden.rename(data)
        node.chain.mine()
        await logs(f'"height":{BLOCKS + 2}')
        assert (await answer(port, "/readyz"))[0] == 200
        await reaches(terminal, "following", BLOCKS + 2)
        await stops(process, signal.SIGINT)
    assert "database restarted" in terminal.log.read_text()


async def test_a_halted_network_goes_on_after_a_rewind(
    terminal: Terminal, node: Node, empty_dsn: str
) -> None:
    port = free_port()
    terminal.write(settings({"sim": [node.address]}, port=port, database=empty_dsn))
    assert "has never been run" in (await terminal.run("rewind", "sim", "3", code=2)).line
    async with terminal.running("run") as process:
        await listens(port)
        await reaches(terminal, "following", BLOCKS)
        said = await terminal.run("rewind", "sim", str(BLOCKS), code=2)
        assert f"is at height {BLOCKS}: it can only be rewound to a lower height" in said.line
        node.chain.reorg(9, longer=1)  # reorg_window is 4
        await reaches(terminal, "halted", BLOCKS)
        assert "depositd rewind sim HEIGHT" in (await network(terminal))["reason"]
        ready, body = await answer(port, "/readyz")
        assert ready == 503
        assert "halted" in body["details"][0]
        said = await terminal.run("rewind", "sim", str(BLOCKS - 2), code=2)
        assert "the node has another block than ours" in said.line
        assert (await network(terminal))["cursor"] == BLOCKS
        result = await terminal.run("rewind", "sim", "2", "--json")
        assert result.json == {"network": "sim", "height": 2, "unplaced": 0}
        await reaches(terminal, "following", BLOCKS + 1)
        assert (await answer(port, "/readyz"))[0] == 200
        await stops(process)


async def test_a_run_ends_when_no_network_is_left_and_not_before(
    terminal: Terminal, node: Node, empty_dsn: str
) -> None:
    port = free_port()
    both = {"sim": [node.address], "far": [node.address]}
    terminal.write(settings(both, port=port, database=empty_dsn))
    async with terminal.running("run", "--network", "far") as process:
        assert await asyncio.wait_for(process.wait(), 30) == 1
    assert f"serves chain {node.chain.chain_id}, not" in terminal.log.read_text()
    async with terminal.running("run") as process:
        await listens(port)

        async def both_said() -> bool:
            told = (await terminal.run("status", "--json")).json["networks"]
            return [each["state"] for each in told] == ["refused", "following"]

        await until(both_said)
        ready, body = await answer(port, "/readyz")
        assert ready == 503
        assert body["details"][0].startswith("network far: refused")
        await stops(process)


async def test_a_process_of_the_api_alone_serves_until_it_is_stopped(
    terminal: Terminal, node: Node, empty_dsn: str
) -> None:
    port = free_port()
    terminal.write(settings({"sim": [node.address]}, port=port, database=empty_dsn))
    async with terminal.running("run", "--role", "api") as process:
        await listens(port)

        async def begun() -> bool:
            return (await network(terminal)).get("cursor") == BLOCKS

        await until(begun)
        node.chain.mine()
        await asyncio.sleep(1)
        assert (await answer(port, "/readyz"))[0] == 200
        assert (await network(terminal))["cursor"] == BLOCKS  # it follows nothing
        await stops(process)


def test_a_run_may_open_as_many_files_as_the_system_lets_it() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
        raise_file_limit()
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
