"""A scan that an operator asked for: begun or taken up again, and read to its end.

Its row says what is unread, so that the same command goes on where an interrupted one was. Commands
that ask for the same at once share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import uuid4

import asyncpg

from indexer import cursors
from indexer.booking import Terms
from indexer.chains import Chain
from indexer.cursors import Stale
from indexer.model import Refused, Unavailable
from indexer.scan import Scanner, booking
from indexer.scan.candidates import Candidates
from indexer.scan.claims import Claims
from indexer.watchset import WatchSet

BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0)  # after failures in a row; then it is given up
SHARED_SECONDS: Final = 0.5  # between two looks at what other processes have in hand


class Rules(booking.Rules, Protocol):
    @property
    def reorg_window(self) -> int: ...  # blocks that may be replaced


@dataclass(frozen=True, slots=True)
class Request:
    """What is read again, and how. `by_logs`: only blocks that a node names (`Candidates`)."""

    network: str
    first: int
    last: int
    terms: Terms
    by_logs: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """How far a scan is. Everything below `next` is read."""

    unread: int  # blocks
    next: int
    deposits: int  # written so far


async def ask(pool: asyncpg.Pool, request: Request) -> int:
    """The id of the open scan that does this: one that was interrupted, or a new one.

    Refused where the network has not read that far itself.
    """
    async with pool.acquire() as connection:
        cursor = await cursors.read(connection, request.network)
        if cursor is None:
            raise Refused(f"network {request.network} has not started yet: run its follower once")
        if request.last > cursor.height:
            raise Refused(
                f"--to {request.last} is beyond block {cursor.height}, the last one that "
                f"{request.network} has come to: what lies above is found by `depositd run`"
            )
        terms = request.terms
        asked = (request.first, request.last, terms.all_history, terms.silent, request.by_logs)
        await connection.execute(
            """
            insert into scan (network, first, last, unread, command, all_history, silent, by_logs)
            values ($1, $2, $3, int8multirange(int8range($2, $3, '[]')), true, $4, $5, $6)
                on conflict do nothing
            """,
            request.network,
            *asked,
        )
        number: int = await connection.fetchval(
            """
            select id from scan
             where network = $1 and first = $2 and last = $3 and all_history = $4 and silent = $5
               and by_logs = $6 and command
             order by id desc limit 1
            """,
            request.network,
            *asked,
        )
        return number


async def state(pool: asyncpg.Pool, scan: int) -> State:
    row = await pool.fetchrow(
        """
        select next, deposits,
               (select coalesce(sum(upper(r) - lower(r)), 0)::bigint from unnest(unread) r)
                   as unread
          from scan where id = $1
        """,
        scan,
    )
    return State(row["unread"], row["next"], row["deposits"])


class Errand:
    """One process's part in a scan that was asked for."""

    def __init__(self, rules: Rules, chain: Chain, pool: asyncpg.Pool, request: Request) -> None:
        self._network = request.network
        self._rules = rules
        self._chain = chain
        self._pool = pool
        self._terms = request.terms
        self._watch = WatchSet(request.network, rules.reorg_window)
        self._candidates: Candidates | None = None

    @classmethod
    async def open(cls, rules: Rules, chain: Chain, pool: asyncpg.Pool, request: Request) -> Errand:
        """Refused where a node can't be asked which blocks to read."""
        errand = cls(rules, chain, pool, request)
        if request.by_logs:
            errand._candidates = await Candidates.of(request.network, chain, pool, errand._watch)
        return errand

    async def run(self, scan: int, say: Callable[[State], None]) -> State:
        """Read what is unread; `say` hears how far it is. Returns the state at the end.

        Raises Unavailable where the node fails again and again, or the network was rewound below
        what is left; the scan stays open.
        """
        scanner, failures = self._scanner(scan), 0
        while (now := await state(self._pool, scan)).unread:
            say(now)
            try:
                worked = await scanner.step()
                failures = 0
            except Stale:
                continue
            except Unavailable as problem:
                if failures == len(BACKOFF_SECONDS):
                    raise Unavailable(_gave_up(now, problem)) from None
                await asyncio.sleep(BACKOFF_SECONDS[failures])
                failures += 1
                continue
            if not worked:
                await self._wait(now)
        say(now)
        return now

    def _scanner(self, scan: int) -> Scanner:
        return Scanner(
            self._network,
            self._rules,
            self._chain,
            self._pool,
            self._watch,
            Claims(self._network, uuid4(), scan),
            self._terms,
            None if self._candidates is None else self._candidates.read,
        )

    async def _wait(self, now: State) -> None:
        """Others have the rest in hand, unless it is above a cursor that was rewound."""
        async with self._pool.acquire() as connection:
            cursor = await cursors.read(connection, self._network)
        if cursor is None or cursor.height < now.next:
            raise Unavailable(
                f"{self._network} was rewound below block {now.next}: give the same command again "
                "once it has passed that"
            )
        await asyncio.sleep(SHARED_SECONDS)


def _gave_up(now: State, problem: Unavailable) -> str:
    return (
        f"blocks from {now.next} on can't be read: {problem}. If the node has pruned them, set one "
        "that has them, or a higher --from; else the same command goes on from there"
    )
