"""Several machines on one PostgreSQL over TCP: whatever befalls one, the others go on.

Three engine processes, two of them in network namespaces of their own where the machine allows it
(else behind relays that stop forwarding), while a chain goes on and forks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog

from indexer.lease import FOLLOW, LEASE
from indexer.secret import Vault
from tests.harness.cluster import Cluster, cluster
from tests.harness.engine import Engine
from tests.harness.life import Life, insist, promises, tron
from tests.harness.links import Link, links
from tests.harness.tron import CODEC, NETWORK, TronWorld

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
ROUNDS: Final = 20 if SOAK else 1  # of all that befalls a machine
# Until another process leads and follows: 10 s by the lease, more where the machine is busy with
# other tests.
FAIL_OVER: Final = 10.0 if SOAK else 90.0
PATIENCE: Final = 60.0  # seconds
LOOK: Final = 0.05  # seconds between two looks
ASLEEP: Final = LEASE.total_seconds() + 1.0

log = structlog.get_logger()

pytestmark = pytest.mark.timeout(3600 if SOAK else 300)


class Machines:
    """The engines that work on one database, and the links to those that are elsewhere."""

    def __init__(self, life: Life, world: TronWorld, server: Cluster) -> None:
        self.life = life
        self.world = world
        self.server = server
        self.elsewhere: dict[Engine, Link] = {}

    @property
    def engines(self) -> list[Engine]:
        return [self.world.engine, *self.elsewhere]

    async def start(self, link: Link, number: int, folder: Path) -> None:
        """One more, at the far end of a link."""
        place = folder / f"machine-{number}"
        place.mkdir()
        host, port = await link.reach(urlsplit(self.server.dsn).port or 0)
        dsn = _elsewhere(self.server.dsn, host, port)
        node = self.world.nodes[0].url
        host, port = await link.reach(urlsplit(node).port or 0)
        made = self.world.engine.like(place, dsn, {"endpoints": [_elsewhere(node, host, port)]})
        made.prefix = link.prefix
        await made.launch()
        self.elsewhere[made] = link
        await self.until(lambda: _says(made, "stands_by"), "it never stood by")

    async def leader(self) -> Engine | None:
        """Who holds the lease."""
        process = await self.world.database.fetchval(
            "select process from lease where name = $1 and until >= clock()", f"{FOLLOW}{NETWORK}"
        )
        return next((e for e in self.engines if process and process.endswith(f":{e.pid}")), None)

    async def leading(self) -> Engine:
        found: list[Engine] = []

        async def led() -> bool:
            leader = await self.leader()
            found.extend([] if leader is None else [leader])
            return leader is not None

        await self.until(led, "nobody leads")
        return found[0]

    async def leads_elsewhere(self) -> Engine:
        """The leader, once it is one whose link can be cut."""
        leader = await self.leading()
        if leader is self.world.engine:
            await leader.stop()
            await leader.start()
            leader = await self.leading()
        return leader

    async def taken_over(self, fallen: Engine) -> float:
        """Wait until another leads and has moved the cursor; the seconds that it took."""
        begun = time.monotonic()
        version = await self._version()

        async def followed() -> bool:
            leader = await self.leader()
            return leader not in (None, fallen) and await self._version() > version

        await self.until(followed, "nobody took over", FAIL_OVER)
        return time.monotonic() - begun

    async def until(
        self, done: Callable[[], Awaitable[bool]], otherwise: str, patience: float = PATIENCE
    ) -> None:
        end = time.monotonic() + patience
        while not await done():
            logs = "\n".join(engine.log[-2000:] for engine in self.engines)
            assert time.monotonic() < end, f"{otherwise}\n{logs}"
            await asyncio.sleep(LOOK)

    async def _version(self) -> int:
        found: int = await self.world.database.fetchval("select version from cursor")
        return found


@asynccontextmanager
async def machines(folder: Path, vault: Vault, seed: int) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(cluster(folder / "server", vault))
        life = await stack.enter_async_context(tron(server.dsn, folder, seed, fail=0.1, delay=0.02))
        world = life.scene
        assert isinstance(world, TronWorld)
        made = Machines(life, world, server)
        ways = await stack.enter_async_context(links(2))
        host, port = await ways[0].publish(urlsplit(world.receiver.url).port or 0)
        url = _elsewhere(world.receiver.url, host, port)
        await world.database.execute("update endpoint set url = $1", url)
        try:
            for number, way in enumerate(ways):
                await made.start(way, number, folder)
            yield made
            for engine in made.elsewhere:
                await engine.stop()
        finally:
            for engine in made.elsewhere:
                engine.thaw()
                await engine.kill()
        for engine in made.elsewhere:
            assert "Traceback" not in engine.log, engine.log[-4000:]


def _elsewhere(url: str, host: str, port: int) -> str:
    """The same at another host and port."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}:{port}" if user else f"{host}:{port}"))


async def _says(engine: Engine, word: str) -> bool:
    return word in engine.log


# ------------------------------------------------------------------------------ what befalls one


async def killed(m: Machines) -> float:
    leader = await m.leading()
    await leader.kill()
    took = await m.taken_over(leader)
    await leader.launch()
    return took


async def stopped_past_its_lease(m: Machines) -> float:
    leader = await m.leading()
    leader.freeze()
    try:
        took = await m.taken_over(leader)
        await asyncio.sleep(max(0.0, ASLEEP - took))
    finally:
        leader.thaw()
    await m.until(lambda: _stands_by(m, leader), "it still believes that it leads")
    return took


async def cut_off(m: Machines) -> float:
    leader = await m.leads_elsewhere()
    await m.elsewhere[leader].cut()
    try:
        took = await m.taken_over(leader)
    finally:
        await m.elsewhere[leader].heal()
    await m.until(lambda: _stands_by(m, leader), "it did not come back")
    return took


async def _stands_by(m: Machines, engine: Engine) -> bool:
    """Its last word on that is that another leads."""
    return engine.log.rfind("stands_by") > engine.log.rfind("leads ")


async def server_restarted(m: Machines) -> None:
    """Under load; whatever was acknowledged meanwhile stays."""
    acknowledged: list[str] = []
    ended = asyncio.Event()

    async def register() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            key = m.world.chain.wallet(f"registered {time.monotonic()} {number}").address
            address = CODEC.format_address(key)
            body = {"network": NETWORK, "addresses": [address]}
            await insist(m.world.account, "/v1/addresses", body)
            acknowledged.append(address)

    registering = asyncio.create_task(register())
    await m.until(lambda: _more(acknowledged, 0), "nothing was registered")
    await (m.server.crash if SOAK else m.server.restart)()
    m.world.database = await asyncpg.connect(m.server.dsn)
    before = len(acknowledged)
    await m.until(lambda: _more(acknowledged, before), "nothing is registered any more")
    ended.set()
    await registering
    listed = {row["address"] for row in await m.world.account.all("/v1/addresses")}
    assert listed >= set(acknowledged)


async def _more(found: list[Any], than: int) -> bool:
    return len(found) > than


@pytest.mark.pitfall("P114", "P120")
async def test_whatever_befalls_a_machine_the_others_go_on_and_nothing_is_lost_or_doubled(
    tmp_path: Path, vault: Vault
) -> None:
    took: dict[str, list[float]] = {}
    async with machines(tmp_path, vault, seed=3) as m:
        stop = asyncio.Event()
        living = asyncio.create_task(m.life.run(stop))
        for _ in range(ROUNDS):
            for befall in (killed, stopped_past_its_lease, cut_off):
                took.setdefault(befall.__name__, []).append(await befall(m))
            await server_restarted(m)
        stop.set()
        await living
        await promises(m.life)
        for engine in m.engines:
            assert engine.running
    for name, seconds in took.items():
        log.info("taken_over", after=name, seconds=round(max(seconds), 1))
