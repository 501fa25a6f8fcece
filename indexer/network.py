"""One network's life in this process: connect, begin, lead, follow and scan, and say how it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from indexer import config, origin
from indexer.chains import Chain
from indexer.chains.metrics import kind
from indexer.chains.turn import Turn, give_way_to
from indexer.cursors import Stale
from indexer.database import unavailable_database
from indexer.follower import BEHIND_BLOCKS, Follower, Outcome
from indexer.hints import Hints
from indexer.lease import FOLLOW, RENEW_SECONDS, Lease, wait
from indexer.metrics import FAILURES
from indexer.model import Refused, Unavailable
from indexer.scan import Scanner
from indexer.scan.claims import Claims
from indexer.status import NetworkState
from indexer.watchset import WatchSet

BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0)  # after failures in a row; then the last
STANDBY_SECONDS: Final = 1.0  # between two looks at a lease that another process holds
SCAN_POLL_SECONDS: Final = 0.5  # between two looks for open scans
SAID_SECONDS: Final = 5.0  # an unchanged state is written again after that, as a sign of life

log = structlog.get_logger()


class Network:
    """A configured network over its chain and the database."""

    def __init__(
        self,
        network: str,
        settings: config.Network,
        chain: Chain,
        pool: asyncpg.Pool,
        turn: Turn | None = None,
    ) -> None:
        """`turn`: one for all networks of a process, whose followers go before its scans."""
        self.id = network
        self.chain = chain
        self.state = NetworkState.STARTING
        self.reason: str | None = None
        self._settings = settings
        self._pool = pool
        self._turn = turn or Turn()
        self._watch = WatchSet(network, settings.reorg_window)
        self._holder: UUID | None = None  # who we are, once we want to lead
        self._leads: bool | None = None  # None: not known yet
        self._said: tuple[NetworkState, str | None, int | None] | None = None
        self._said_at = float("-inf")

    async def open(self, stop: asyncio.Event) -> bool:
        """Connect and begin, however long the other side takes; False if it is refused."""
        opened = False

        async def connect() -> float | None:
            nonlocal opened
            await self._declare()
            try:
                identity = await self.chain.connect()
                await origin.identify(self._pool, self.id, identity)
                await origin.begin(self._pool, self.chain, self.id, self._settings)
            except Refused as problem:
                await self._say(NetworkState.REFUSED, str(problem))
            else:
                opened = True
            return None

        await self._repeat(stop, connect, self._unreachable)
        return opened

    async def follow(self, stop: asyncio.Event, holder: UUID) -> None:
        """Follow the chain while this process holds the network's lease."""
        lease = Lease(self._pool, f"{FOLLOW}{self.id}", holder)
        self._holder = holder
        follower = Follower(
            self.id, self._settings, self.chain, self._pool, self._watch, self._turn
        )
        hints = Hints()

        async def step() -> float:
            if not (lease.held or await lease.take()):
                await self._stand_by()
                return STANDBY_SECONDS
            self._lead()
            outcome = await follower.step()
            await self._tell(follower, outcome)
            busy = outcome in (Outcome.EXTENDED, Outcome.REORGANISED) or follower.activating
            if not busy:
                await hints.wait(self._settings.poll_interval)
            return 0.0

        async def keep() -> float:
            await lease.take()
            return RENEW_SECONDS

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(stop, keep, self._log_failure))
                tasks.create_task(self._repeat(stop, step, self._unreachable))
                listening = tasks.create_task(self.chain.listen(hints.give))
                await stop.wait()
                listening.cancel()
                hints.give()
        finally:
            await follower.close()
            await self._give_back(lease)

    async def scan(self, stop: asyncio.Event, holder: UUID) -> None:
        """Work off open scans, shared with all processes that do."""
        give_way_to(self._turn)
        claims = Claims(self.id, holder)
        scanner = Scanner(self.id, self._settings, self.chain, self._pool, self._watch, claims)

        async def step() -> float:
            return 0.0 if await scanner.step() else SCAN_POLL_SECONDS

        await self._repeat(stop, step, self._log_failure)

    # ---------------------------------------------------------------- inside

    async def _repeat(
        self,
        stop: asyncio.Event,
        act: Callable[[], Awaitable[float | None]],
        failed: Callable[[Unavailable], Awaitable[None]],
    ) -> None:
        """Act, sleep for the seconds it returns, and again; None ends it. Failures back off."""
        failures = 0
        while not stop.is_set():
            try:
                with unavailable_database():
                    delay = await act()
                failures = 0
            except Stale as moved:
                log.debug("stale", network=self.id, reason=str(moved))
                delay = 0.0
            except Refused as problem:  # what the endpoints serve can't be followed any more
                await self._say(NetworkState.HALTED, str(problem))
                delay = BACKOFF_SECONDS[-1]
            except Unavailable as problem:
                FAILURES.labels(self.id, kind(problem)).inc()
                await failed(problem)
                delay = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                failures += 1
            if delay is None:
                return
            await wait(stop, delay)

    async def _give_back(self, lease: Lease) -> None:
        try:
            with unavailable_database():
                await lease.release()
        except Unavailable as problem:
            await self._log_failure(problem)

    def _lead(self) -> None:
        if self._leads is not True:
            log.info("leads", network=self.id)
        self._leads = True

    async def _stand_by(self) -> None:
        """Another process follows: be ready to, with all that is watched."""
        if self._leads is not False:
            log.info("stands_by", network=self.id)
        self._leads = False
        async with self._pool.acquire() as connection:
            await self._watch.refresh(connection)

    async def _unreachable(self, problem: Unavailable) -> None:
        await self._say(NetworkState.UNREACHABLE, str(problem))

    async def _log_failure(self, problem: Unavailable) -> None:
        log.warning("unavailable", network=self.id, reason=str(problem))

    async def _tell(self, follower: Follower, outcome: Outcome) -> None:
        """What a step says of the network."""
        behind = 0 if follower.lag is None else follower.lag
        state = {
            Outcome.FORKED: NetworkState.FORKED,
            Outcome.HALTED: NetworkState.HALTED,
        }.get(
            outcome,
            NetworkState.CATCHING_UP if behind > BEHIND_BLOCKS else NetworkState.FOLLOWING,
        )
        blocked = state in (NetworkState.FORKED, NetworkState.HALTED)
        reason = follower.reason if blocked else self.chain.disagreement
        await self._say(state, reason, follower.head)

    async def _declare(self) -> None:
        await self._pool.execute(
            "insert into network (id, family) values ($1, $2) on conflict do nothing",
            self.id,
            self._settings.family,
        )

    async def _say(self, state: NetworkState, reason: str | None, head: int | None = None) -> None:
        """Tell log and database, when it changed or was said a while ago.

        While another process leads, how the network is is its to say.
        """
        said = (state, reason, head)
        if said == self._said and monotonic() - self._said_at < SAID_SECONDS:
            return
        if (state, reason) != (self.state, self.reason):
            log.log(
                logging.INFO if reason is None else logging.WARNING,
                "network",
                network=self.id,
                state=state,
                reason=reason,
            )
        self.state, self.reason = state, reason
        self._said, self._said_at = said, monotonic()
        try:
            with unavailable_database():
                await self._pool.execute(
                    """
                    update network set state = $2, reason = $3, head = coalesce($4, head),
                                       head_at = case when $4 > coalesce(head, -1) then clock()
                                                      else head_at end,
                                       updated_at = clock()
                     where id = $1 and not exists (
                        select from lease
                         where name = $5 and until >= clock() and holder is distinct from $6)
                    """,
                    self.id,
                    state,
                    reason,
                    head,
                    f"{FOLLOW}{self.id}",
                    self._holder,
                )
        except Unavailable as problem:
            await self._log_failure(problem)
