"""Registration without a gap: what is covered, from which block, and the reading again that needs.

The 201 of a registration promises that from `covered_from` on nothing is missed. It records the
cursor that it saw without locking it. The follower then activates the key at a block boundary,
under the cursor's lock, and queues a scan of the blocks that passed between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from indexer import cursors
from indexer.model import Refused, Unavailable

ACTIVATED_AT_ONCE: Final = 5_000  # addresses that one transaction turns active, coins too


@dataclass(frozen=True, slots=True)
class NewAddress:
    """An address to watch; what is None stays as it is on a row that exists."""

    key: bytes
    reference: str | None = None
    from_block: int | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration did. Nothing at or above `covered_from` is missed from now on."""

    created: int
    existing: int
    covered_from: int


async def register_addresses(
    connection: asyncpg.Connection,
    network: str,
    account: str,
    addresses: Sequence[NewAddress],
    *,
    silent: bool,
) -> Registered:
    """Watch addresses for an account, in the caller's transaction. Listed twice, the last counts.

    `silent`: what is found in blocks that passed before the registration makes no callbacks.
    """
    upcoming = await next_height(connection, network)
    wanted = {a.key: a for a in sorted(addresses, key=lambda a: a.key)}
    covered = {k: covered_from(upcoming, a.from_block) for k, a in wanted.items()}
    rows = await connection.fetch(
        """
        insert into watched_address
               (network, account, address, reference, role, covered_from, silent)
        select $1, $2, t.address, t.reference, coalesce(t.role, 'deposit'), t.covered_from,
               case when $7 then int8multirange(int8range(t.covered_from, $8)) else '{}' end
          from unnest($3::bytea[], $4::text[], $5::address_role[], $6::bigint[])
            as t(address, reference, role, covered_from)
            on conflict (network, address, account) do nothing
        returning address
        """,
        network,
        account,
        list(wanted),
        [a.reference for a in wanted.values()],
        [a.role for a in wanted.values()],
        list(covered.values()),
        silent,
        upcoming,
    )
    for row in rows:
        del wanted[row["address"]]
    again = await _register_again(
        connection, network, account, list(wanted.values()), upcoming, silent
    )
    covered.update(again.covered_from)
    return Registered(
        created=len(rows) + again.revived,
        existing=len(wanted) - again.revived,
        covered_from=max(covered.values(), default=upcoming),
    )


@dataclass(frozen=True, slots=True)
class _Again:
    revived: int
    covered_from: dict[bytes, int]


async def _register_again(
    connection: asyncpg.Connection,
    network: str,
    account: str,
    addresses: Sequence[NewAddress],
    upcoming: int,
    silent: bool,
) -> _Again:
    """Rows that exist keep what is not given; a removed one starts over.

    So does one of our own wallets that turns into a deposit address: what it received before, and
    what a scan or a swap reads of that, stays no deposit.
    """
    if not addresses:
        return _Again(0, {})
    # A statement of its own, so that the next one sees what an activation made of them meanwhile.
    await connection.execute(
        """
        select from watched_address where network = $1 and account = $2 and address = any ($3)
         order by address for update
        """,
        network,
        account,
        [a.key for a in addresses],
    )
    rows = await connection.fetch(
        _REGISTER_AGAIN,
        network,
        account,
        [a.key for a in addresses],
        [a.reference for a in addresses],
        [a.role for a in addresses],
        [a.from_block for a in addresses],
        upcoming,
        silent,
    )
    lowered = [r for r in rows if r["state"] == "active" and r["covered_from"] < r["before"]]
    if lowered:
        first, last = min(r["covered_from"] for r in lowered), max(r["before"] for r in lowered) - 1
        await queue_scan(connection, network, first, last, account=account)
    return _Again(
        revived=sum(r["removed"] for r in rows),
        covered_from={r["address"]: r["covered_from"] for r in rows},
    )


# A row that says all that already is not written again: whoever sends a million twice pays for one.
_REGISTER_AGAIN: Final = """
    with old as (
        select *, state = 'removed' as removed
          from watched_address
         where network = $1 and account = $2 and address = any ($3)
    ), given as (
        select * from unnest($3::bytea[], $4::text[], $5::address_role[], $6::bigint[])
                   as g(address, new_reference, new_role, from_block)
    ), over as (
        select *, removed or (role = 'own' and new_role is not distinct from 'deposit')
                      as starts_over
          from old join given using (address)
    ), became as (
        select id, address, removed, starts_over, before,
               least(before, from_block) as covered_from,
               case when starts_over then 'pending' else state end as state,
               coalesce(new_reference, case when not removed then reference end) as reference,
               coalesce(new_role, case when removed then 'deposit' else role end) as role
          from over
         cross join lateral (select case when starts_over then $7::bigint else covered_from end
                                        as before) as start
    ), written as (
        update watched_address w
           set reference = b.reference, role = b.role, covered_from = b.covered_from,
               silent = case when b.starts_over then '{}' else w.silent end
                      + case when $8 then int8multirange(int8range(b.covered_from, b.before))
                             else '{}' end,
               state = b.state,
               active_from = case when not b.starts_over then w.active_from end,
               removed_from = null
          from became b
         where w.id = b.id
           and (b.starts_over or w.covered_from <> b.covered_from or w.role <> b.role
                or w.reference is distinct from b.reference)
    )
    select address, state, covered_from, removed, before from became
"""


async def remove_address(
    connection: asyncpg.Connection, network: str, account: str, key: bytes
) -> bool:
    """Stop watching from the next block on, in the caller's transaction; history stays.

    False if the account does not watch it.
    """
    cursor = await cursors.lock(connection, network)
    if cursor is None:
        return False
    version = await cursors.raise_watch_version(connection, cursor)
    tag: str = await connection.execute(
        """
        update watched_address
           set state = 'removed', removed_from = $4, changed_version = $5
         where network = $1 and account = $2 and address = $3 and state <> 'removed'
        """,
        network,
        account,
        key,
        cursor.height + 1,
        version,
    )
    return tag == "UPDATE 1"


async def activate(connection: asyncpg.Connection, network: str) -> int:
    """Turn pending addresses and coins active at the cursor, so many at once; returns how many.

    Pending ones are found by their state, never by an id: a registration may commit long after
    the ones that were numbered behind it. What a registration is touching right now is left for
    the next time, so that the two never wait for each other.
    """
    if not await _anything_pending(connection, network):
        return 0
    async with connection.transaction():
        cursor = await cursors.lock(connection, network)
        if cursor is None:
            return 0
        version = await cursors.raise_watch_version(connection, cursor)
        covered = [
            row["covered_from"]
            for statement in (_ACTIVATE_ADDRESSES, _ACTIVATE_COINS)
            for row in await connection.fetch(
                statement, network, cursor.height + 1, version, ACTIVATED_AT_ONCE
            )
        ]
        if covered:
            await queue_scan(connection, network, min(covered), cursor.height, version=version)
        return len(covered)


async def _anything_pending(connection: asyncpg.Connection, network: str) -> bool:
    found: bool = await connection.fetchval(
        """
        select exists (select from watched_address where network = $1 and state = 'pending')
            or exists (select from coin where network = $1 and state = 'pending')
        """,
        network,
    )
    return found


_ACTIVATE_ADDRESSES: Final = """
    update watched_address set state = 'active', active_from = $2, changed_version = $3
     where id in (select id from watched_address where network = $1 and state = 'pending'
                   limit $4 for update skip locked)
    returning covered_from
"""
_ACTIVATE_COINS: Final = """
    update coin set state = 'active', active_from = $2, changed_version = $3
     where id in (select id from coin where network = $1 and state = 'pending'
                   limit $4 for update skip locked)
    returning covered_from
"""


async def queue_scan(
    connection: asyncpg.Connection,
    network: str,
    first: int,
    last: int,
    *,
    version: int | None = None,
    account: str | None = None,
) -> None:
    """Have first..last read again; nothing where the range is empty.

    `version`, `account`: for what was activated with it, or for whose addresses. Nobody else sees
    how far it is.
    """
    if first <= last:
        await connection.execute(
            """
            insert into scan (network, first, last, unread, version, account)
            values ($1, $2, $3, int8multirange(int8range($2, $3, '[]')), $4, $5)
            """,
            network,
            first,
            last,
            version,
            account,
        )


async def next_height(connection: asyncpg.Connection, network: str) -> int:
    """The first block that the follower has not read; Unavailable before its first step."""
    cursor = await cursors.read(connection, network)
    if cursor is None:
        raise Unavailable(
            f"network {network} has not started yet: run its follower once before registering"
        )
    return cursor.height + 1


def covered_from(upcoming: int, from_block: int | None) -> int:
    """Where a registration's coverage begins that names `from_block`, or none."""
    if from_block is not None and from_block < 0:
        raise Refused(f"fromBlock must be 0 or more, not {from_block}")
    return upcoming if from_block is None else min(upcoming, from_block)
