"""What the engine does about parts that fall: it says so, keeps the others, and exits non-zero."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest
import structlog
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from indexer import config
from indexer.engine import Engine
from indexer.installation import Installation
from indexer.model import Impossible
from indexer.network import Network
from indexer.secret import Vault
from tests.harness.terminal import until
from tests.scripted import ScriptedChain


def engine(pool: asyncpg.Pool, vault: Vault, *networks: str) -> Engine:
    tables = [
        {
            "id": name,
            "family": "evm",
            "chain_id": number,
            "endpoints": ["http://127.0.0.1:1"],
            "confirmations": 2,
            "poll_interval": 0.01,
        }
        for number, name in enumerate(networks, 1)
    ]
    configured = {
        str(table["id"]): config.EvmNetwork.model_validate(config.EvmNetwork.filled(table))
        for table in tables
    }
    settings = config.Settings().model_copy(update={"networks": configured})
    made = Engine(settings, Installation(pool, vault), ("follower",))
    for name, network in made.networks.items():
        network.chain = ScriptedChain(name)
    return made


@pytest.fixture
def corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network `a` meets a corrupt state as soon as it is followed."""
    follow = Network.follow

    async def follow_or_fall(network: Network, stop: asyncio.Event, holder: UUID) -> None:
        if network.id == "a":
            raise Impossible("its row is corrupt")
        await follow(network, stop, holder)

    monkeypatch.setattr(Network, "follow", follow_or_fall)


@pytest.mark.usefixtures("corrupt")
async def test_a_network_that_falls_leaves_the_others_at_work(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    two = engine(pool, vault, "a", "b")
    stop = asyncio.Event()
    running = asyncio.create_task(two.run(stop))

    async def seen() -> bool:
        said = await two.not_ready()
        return said == ["network a stopped: see the log"] and two.networks["b"].state == "following"

    await until(seen, 10)
    assert not running.done()
    stop.set()
    assert await asyncio.wait_for(running, 10) == 1


async def test_what_a_chain_logs_names_its_network(pool: asyncpg.Pool, vault: Vault) -> None:
    class Warned(ScriptedChain):
        async def connect(self) -> str:
            structlog.get_logger().warning("block_not_provable", count=1)
            return await super().connect()

    two = engine(pool, vault, "a", "b")
    for name, network in two.networks.items():
        network.chain = Warned(name)
    stop = asyncio.Event()
    with capture_logs([merge_contextvars]) as logs:
        running = asyncio.create_task(two.run(stop))
        await until(lambda: _following(two), 10)
        stop.set()
        assert await asyncio.wait_for(running, 10) == 0
    warned = [log["network"] for log in logs if log["event"] == "block_not_provable"]
    assert sorted(warned) == ["a", "b"]


async def _following(made: Engine) -> bool:
    return {network.state for network in made.networks.values()} == {"following"}


@pytest.mark.usefixtures("corrupt")
async def test_a_process_whose_last_network_fell_ends(pool: asyncpg.Pool, vault: Vault) -> None:
    one = engine(pool, vault, "a")
    assert await asyncio.wait_for(one.run(asyncio.Event()), 10) == 1
