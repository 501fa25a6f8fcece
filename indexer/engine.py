"""The composition root: settings and an installation become running networks, dispatcher and API.

Parts run beside each other and fall one at a time: a network that is refused leaves the others at
their pace, and a part that meets the impossible stops loudly, alone, and makes the exit non-zero.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import structlog

from callbacks import upkeep
from callbacks.api import ROUTES
from callbacks.dispatcher import Dispatcher
from indexer import config, metrics
from indexer.api.context import Context
from indexer.api.server import Server
from indexer.chains import Chain, Token, Transfer
from indexer.chains.evidence import Proof
from indexer.chains.families import codec, open_chain
from indexer.chains.provers import Provers
from indexer.chains.turn import Turn
from indexer.installation import Installation
from indexer.model import Refused, Unavailable
from indexer.network import Network
from indexer.status import NetworkState
from indexer.watchdog import DELIVERIES, Watchdog

ROLES: Final = ("api", "follower", "dispatcher", "scanner")
READS_AT_ONCE: Final = 2  # for callers of the API: each asks a node for a whole block
FINISH_SECONDS: Final = 5.0  # after a stop, for what is in hand: a node may take minutes to answer

log = structlog.get_logger()


class Engine:
    """One process's share of the work."""

    def __init__(
        self,
        settings: config.Settings,
        installation: Installation,
        roles: Collection[str] = ROLES,
        networks: Mapping[str, config.Network] | None = None,
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._roles = roles
        self._holder = uuid4()
        chosen = settings.networks if networks is None else networks
        turn = Turn()
        self._provers = Provers()
        self.networks = {
            name: Network(
                name,
                network,
                open_chain(name, network, provers=self._provers),
                installation.pool,
                turn,
            )
            for name, network in chosen.items()
        }
        for name, network in chosen.items():
            rules = network.model_dump(include={"verify", "native", "quorum", "finality"})
            told = [rules.get(rule, "") for rule in ("verify", "native", "quorum", "finality")]
            metrics.RULES.labels(name, *told).set(1)
        self.api_url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._server: Server | None = None
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._watchdog = Watchdog(installation.pool, settings.networks)
        self._fallen: list[str] = []  # parts that met the impossible

    async def run(self, stop: asyncio.Event) -> int:
        """Run the parts until `stop`, then let each finish what is in hand; the exit code.

        Refused where the API's address can't be had.
        """
        self._warn()
        if "api" in self._roles:
            self._server = Server(self._context(), ROUTES)
            self.api_url.set_result(await self._server.start())
        try:
            return await self._run_parts(stop)
        finally:
            if self._server is not None:
                await self._server.stop()
            for network in self.networks.values():
                await network.chain.close()
            await self._provers.close()

    async def _run_parts(self, stop: asyncio.Event) -> int:
        running = {asyncio.create_task(part): name for name, part in self._parts(stop).items()}
        try:
            while running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    name = running.pop(task)
                    if (error := task.exception()) is not None:
                        self._fallen.append(name)
                        log.critical("part stopped", part=name, exc_info=error)
                if self.networks and not stop.is_set() and not self._networks_in(running.values()):
                    self._fallen.append("every network")
                    log.critical("no network is left to run")
                    stop.set()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return int(bool(self._fallen))

    def _parts(self, stop: asyncio.Event) -> dict[str, Coroutine[Any, Any, None]]:
        parts: dict[str, Coroutine[Any, Any, None]] = {
            _part(name): _until(stop, self._network(network, stop))
            for name, network in self.networks.items()
        }
        if "dispatcher" in self._roles:
            parts["dispatcher"] = Dispatcher(
                self._installation.pool, self._installation.vault, self._settings.callbacks
            ).run(stop)  # which bounds its own end
            parts["upkeep"] = _until(stop, upkeep.run(self._installation.pool, stop))
        parts["watchdog"] = _until(stop, self._watchdog.run(stop))
        # It lives until it is told to stop, whatever else there is to run.
        parts["database"] = self._database(stop)
        return parts

    async def _network(self, network: Network, stop: asyncio.Event) -> None:
        """Until it is refused or `stop`; a process that only serves a network's API waits too."""
        structlog.contextvars.bind_contextvars(network=network.id)  # on all that is logged here
        if not await network.open(stop):
            return
        async with asyncio.TaskGroup() as tasks:
            if "follower" in self._roles:
                tasks.create_task(network.follow(stop, self._holder))
            if "scanner" in self._roles:
                tasks.create_task(network.scan(stop, self._holder))
            await stop.wait()

    async def _database(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._installation.keep_database())
            await stop.wait()
            keeping.cancel()

    def _networks_in(self, parts: Collection[str]) -> bool:
        return any(_part(name) in parts for name in self.networks)

    def _warn(self) -> None:
        callbacks = self._settings.callbacks
        if callbacks.allow_private:
            log.warning("callbacks.allow_private is on: for development only")
        if callbacks.allow_http:
            log.warning("callbacks.allow_http is on: for development only")

    def _context(self) -> Context:
        return Context(
            pool=self._installation.pool,
            settings=self._settings,
            vault=self._installation.vault,
            codecs={name: codec(network) for name, network in self._settings.networks.items()},
            tokens=self._token,
            proofs=self._proof,
            reach=self._reach,
            roles=tuple(self._roles),
            ready=self.not_ready,
            late=self._watchdog.reasons,
        )

    async def _token(self, network: str, asset: bytes) -> Token:
        if network not in self.networks:
            raise Refused(f"this process does not run network {network}")
        return await self.networks[network].chain.token(asset)

    async def _proof(self, network: str, height: int, block: bytes, transfer: Transfer) -> Proof:
        async with self._reach(network) as chain:
            return await chain.proof(height, block, transfer)

    @asynccontextmanager
    async def _reach(self, network: str) -> AsyncIterator[Chain]:
        if network not in self.networks:
            raise Unavailable(f"this process does not run network {network}: ask another")
        async with self._reading:
            yield self.networks[network].chain

    async def not_ready(self) -> list[str]:
        """Why a role of this process can't work now."""
        fallen = [f"{part} stopped: see the log" for part in self._fallen]
        ill = [
            f"network {name}: {network.state}: {network.reason}"
            for name, network in self.networks.items()
            if network.state in (NetworkState.REFUSED, NetworkState.HALTED)
        ]
        watched = [*self.networks] if "follower" in self._roles else []
        if "dispatcher" in self._roles:
            watched.append(DELIVERIES)
        return fallen + ill + self._watchdog.reasons(watched)


def _part(network: str) -> str:
    return f"network {network}"


async def _until(stop: asyncio.Event, part: Coroutine[Any, Any, None]) -> None:
    """Run a part, but no longer than FINISH_SECONDS after `stop`.

    What it writes it writes in transactions, so that leaving it leaves nothing half-done.
    """
    limit = asyncio.timeout(None)

    async def end() -> None:
        await stop.wait()
        limit.reschedule(asyncio.get_running_loop().time() + FINISH_SECONDS)

    try:
        async with limit:
            ending = asyncio.create_task(end())
            try:
                await part
            finally:
                ending.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
