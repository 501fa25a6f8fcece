"""Who reads which blocks: ranges taken out of what the open scans of a network leave unread.

Overlapping scans are merged, so that a block is read once however many registrations asked. Several
processes share the ranges. A claim saves work and is no fence: two that read the same blocks find
the same transfers, which are booked once, and mark them as read twice, which changes nothing. Only
scans that were there before a range was read are marked (`Claim.scans`).

Each scanner goes upwards and around: scans that come later join it where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

GAP_BLOCKS: Final = 100  # unread ranges up to that long don't wait for longer ones
CLAIM: Final = timedelta(seconds=15)  # of a process that died, until others may have its blocks
RENEW_SECONDS: Final = 5.0
# A long backfill begins when nothing was registered for a while, so that all of it is one reading …
CALM: Final = timedelta(seconds=2)
PATIENCE: Final = timedelta(seconds=60)  # … but waits no longer than that.


@dataclass(frozen=True, slots=True)
class Claim:
    """The blocks first..last, to be read for these scans."""

    scans: Sequence[int]
    first: int
    last: int


class Claims:
    """What one process takes of a network's open scans."""

    def __init__(self, network: str, holder: UUID, command: int | None = None) -> None:
        """`command`: the one scan to read, a command's; None: all that registrations asked for."""
        self._network = network
        self._holder = holder
        self._command = command
        self._at = 0  # where it goes on

    async def take(self, connection: asyncpg.Connection, highest: int, blocks: int) -> Claim | None:
        """Claim so many unread blocks up to a height; None where others read all that is left.

        A transaction of its own. The claim is for this process until `kept` ends or it dies.
        """
        async with connection.transaction():
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended('depositd scans of ' || $1, 0))",
                self._network,
            )
            await connection.execute(
                "delete from scan_claim where network = $1 and until < clock()", self._network
            )
            row = await connection.fetchrow(
                _LEFT, self._network, self._command, highest, GAP_BLOCKS, CALM, PATIENCE
            )
            left = row["gaps"] or row["rest"]
            if not left:
                return None
            claim = Claim(row["scans"], *self._range(left, blocks, going_on=not row["gaps"]))
            await connection.execute(
                """
                insert into scan_claim (network, command, first, last, holder, until)
                values ($1, $2, $3, $4, $5, clock() + $6)
                """,
                self._network,
                self._command,
                claim.first,
                claim.last,
                self._holder,
                CLAIM,
            )
            return claim

    def _range(
        self, left: Sequence[asyncpg.Range], blocks: int, *, going_on: bool
    ) -> tuple[int, int]:
        at = self._at if going_on else 0
        chosen = next((each for each in left if each.upper > at), left[0])
        first = max(chosen.lower, at) if chosen.upper > at else chosen.lower
        last = min(chosen.upper - 1, first + blocks - 1)
        if going_on:
            self._at = last + 1
        return first, last

    @asynccontextmanager
    async def kept(self, pool: asyncpg.Pool, claim: Claim) -> AsyncIterator[None]:
        """Keep a claim while its blocks are read and booked, then give it back."""
        keeping = asyncio.create_task(self._keep(pool, claim))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await pool.execute(
                "delete from scan_claim where network = $1 and holder = $2 and first = $3",
                self._network,
                self._holder,
                claim.first,
            )

    async def _keep(self, pool: asyncpg.Pool, claim: Claim) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await pool.execute(
                """
                update scan_claim set until = clock() + $4
                 where network = $1 and holder = $2 and first = $3
                """,
                self._network,
                self._holder,
                claim.first,
                CLAIM,
            )


# What nobody reads yet, of the scans that are short and of all of them.
_LEFT: Final = """
    with open as (
        select id, created_at, blocks, upper(unread) - lower(unread) <= $4 as gap
          from scan
         cross join lateral unnest(unread * int8multirange(int8range(null, $3, '[]'))) as blocks
         where network = $1 and state = 'open' and next <= $3
           and case when $2::bigint is null then not command else id = $2 end
    ), taken as (
        select coalesce(range_agg(int8range(first, last, '[]')), '{}') as blocks
          from scan_claim where network = $1 and command is not distinct from $2
    ), begun as (
        select $2 is not null or max(created_at) <= clock() - $5::interval
                              or min(created_at) <= clock() - $6::interval as now
          from open where not gap
    )
    select coalesce((select array_agg(distinct id) from open), '{}') as scans,
           (select range_agg(blocks) from open where gap) - taken.blocks as gaps,
           case when begun.now
                then (select range_agg(blocks) from open) - taken.blocks end as rest
      from taken, begun
"""


async def mark_read(
    connection: asyncpg.Connection, scans: Sequence[int], first: int, last: int, deposits: int
) -> None:
    """Of these scans first..last are read, and booked in the same transaction.

    The rows are locked in the order of their ids, and after all others: scanners that meet wait for
    each other and never cross.
    """
    await connection.execute(
        """
        with read as (
            select id, int8multirange(int8range($2, $3, '[]')) as blocks from scan
             where id = any ($1) and unread && int8range($2, $3, '[]')
             order by id for update
        )
        update scan s
           set unread = unread - blocks, deposits = s.deposits + $4,
               state = (case when isempty(unread - blocks) then 'done' else 'open' end)::scan_state
          from read where s.id = read.id
        """,
        list(scans),
        first,
        last,
        deposits,
    )
