"""Registration without a gap: what is covered, from which block, and the reading again that needs.

The 201 of a registration promises that from `covered_from` on nothing is missed. It records the
cursor that it saw without locking it. The follower then activates the key at a block boundary,
under the cursor's lock, and queues a scan of the blocks that passed between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from indexer import cursors
from indexer.booking import Booking
from indexer.chains import NATIVE, Codec
from indexer.model import Moment, Refused, Tier, Unavailable

ACTIVATED_AT_ONCE: Final = 50_000  # addresses that one transaction turns active


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


@dataclass(frozen=True, slots=True)
class NewCoin:
    """A token to register, amounts in base units."""

    id: str
    network: str
    asset: bytes
    name: str
    symbol: str
    decimals: int
    minimum: int = 0
    confirmations: int | None = None
    tiers: tuple[Tier, ...] = ()
    cap: int | None = None
    from_block: int | None = None


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
    next_height = await _next_height(connection, network)
    wanted = {a.key: a for a in sorted(addresses, key=lambda a: a.key)}
    covered = {k: _covered_from(next_height, a.from_block) for k, a in wanted.items()}
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
        next_height,
    )
    for row in rows:
        del wanted[row["address"]]
    again = await _register_again(
        connection, network, account, list(wanted.values()), next_height, silent
    )
    covered.update(again.covered_from)
    return Registered(
        created=len(rows) + again.revived,
        existing=len(wanted) - again.revived,
        covered_from=max(covered.values(), default=next_height),
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
    next_height: int,
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
        next_height,
        silent,
    )
    lowered = [r for r in rows if r["state"] == "active" and r["covered_from"] < r["before"]]
    if lowered:
        first, last = min(r["covered_from"] for r in lowered), max(r["before"] for r in lowered) - 1
        await queue_scan(connection, network, first, last)
    return _Again(
        revived=sum(r["removed"] for r in rows),
        covered_from={r["address"]: r["covered_from"] for r in rows},
    )


# Returns the rows as they were, too: an update's RETURNING shows only what they became.
_REGISTER_AGAIN: Final = """
    with old as (
        select id, address, state, role, covered_from, state = 'removed' as removed
          from watched_address
         where network = $1 and account = $2 and address = any ($3)
    ), given as (
        select * from unnest($3::bytea[], $4::text[], $5::address_role[], $6::bigint[])
                   as g(address, reference, role, from_block)
    ), over as (
        select old.*, given.reference, given.from_block, given.role as new_role,
               old.removed or (old.role = 'own'
                               and given.role is not distinct from 'deposit') as starts_over
          from old join given using (address)
    ), became as (
        select *, case when starts_over then $7::bigint else covered_from end as before
          from over
    )
    update watched_address w
       set reference = coalesce(b.reference, case when not b.removed then w.reference end),
           role = coalesce(b.new_role, case when b.removed then 'deposit' else b.role end),
           covered_from = least(b.before, b.from_block),
           silent = case when b.starts_over then '{}' else w.silent end
                  + case when $8 then int8multirange(int8range(
                                          least(b.before, b.from_block), b.before))
                         else '{}' end,
           state = case when b.starts_over then 'pending' else b.state end,
           active_from = case when not b.starts_over then w.active_from end,
           removed_from = null
      from became b where w.id = b.id
    returning w.address, w.state, w.covered_from, b.removed, b.before
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


async def register_coin(connection: asyncpg.Connection, coin: NewCoin) -> int:
    """Add a token, in the caller's transaction; returns the block from which it is covered.

    asyncpg.UniqueViolationError where the id or the network's contract is taken.
    """
    covered_from = _covered_from(await _next_height(connection, coin.network), coin.from_block)
    await connection.execute(
        """
        insert into coin (id, network, asset, name, symbol, decimals, covered_from, minimum,
                          confirmations, tiers, cap)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,
        coin.id,
        coin.network,
        coin.asset,
        coin.name,
        coin.symbol,
        coin.decimals,
        covered_from,
        coin.minimum,
        coin.confirmations,
        _tiers(coin.tiers),
        coin.cap,
    )
    return covered_from


async def register_native_coin(
    connection: asyncpg.Connection,
    network: str,
    coin_id: str,
    symbol: str,
    decimals: int,
    height: int,
) -> None:
    """A network's own coin exists from the start and covers every block that an address does."""
    await connection.execute(
        """
        insert into coin (id, network, asset, name, symbol, decimals, covered_from, state,
                          active_from, changed_version)
        values ($1, $2, $3, $4, $4, $5, 0, 'active', $6, 0)
        """,
        coin_id,
        network,
        NATIVE,
        symbol,
        decimals,
        height + 1,
    )


async def change_coin(
    connection: asyncpg.Connection,
    network: str,
    codec: Codec,
    confirmations: int | None,
    coin_id: str,
    changes: Mapping[str, Any],
) -> None:
    """Change a coin's settings and what they decide, in the caller's transaction.

    `changes`: any of active (bool), minimum, confirmations, tiers, cap. `confirmations` is the
    network's own setting, None for "finalized".
    """
    cursor = await cursors.lock(connection, network)
    if cursor is None:
        raise Unavailable(f"network {network} has not started yet")
    await cursors.raise_watch_version(connection, cursor)
    for name, value in changes.items():
        await connection.execute(_CHANGES[name], coin_id, _stored(name, value))
    moment = Moment(cursor.height, cursor.finalized, await cursors.now(connection))
    booking = Booking(connection, network, codec, confirmations, moment)
    if {"confirmations", "tiers"} & changes.keys():
        await booking.require_again()
    if changes.get("active"):
        await booking.release_coin(coin_id)
    await booking.promote()
    await booking.store()


_CHANGES: Final = {
    "active": "update coin set status = case when $2 then 'active' else 'inactive' end"
    "::coin_status where id = $1",
    "minimum": "update coin set minimum = $2 where id = $1",
    "confirmations": "update coin set confirmations = $2 where id = $1",
    "tiers": "update coin set tiers = $2 where id = $1",
    "cap": "update coin set cap = $2 where id = $1",
}


def _stored(name: str, value: Any) -> Any:
    return _tiers(value) if name == "tiers" else value


def _tiers(tiers: Sequence[Tier]) -> list[dict[str, Any]]:
    return [{"upTo": str(t.up_to), "confirmations": t.confirmations} for t in tiers]


async def activate(connection: asyncpg.Connection, network: str) -> int:
    """Turn pending addresses and coins active at the cursor; returns how many.

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
            for row in await connection.fetch(statement, network, cursor.height + 1, version)
        ]
        if covered:
            await queue_scan(connection, network, min(covered), cursor.height)
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


_ACTIVATE_ADDRESSES: Final = f"""
    update watched_address set state = 'active', active_from = $2, changed_version = $3
     where id in (select id from watched_address where network = $1 and state = 'pending'
                   limit {ACTIVATED_AT_ONCE} for update skip locked)
    returning covered_from
"""  # noqa: S608
_ACTIVATE_COINS: Final = """
    update coin set state = 'active', active_from = $2, changed_version = $3
     where id in (select id from coin where network = $1 and state = 'pending'
                     for update skip locked)
    returning covered_from
"""


async def queue_scan(connection: asyncpg.Connection, network: str, first: int, last: int) -> None:
    """Have first..last read again; nothing where the range is empty."""
    if first <= last:
        await connection.execute(
            "insert into scan (network, first, last, next) values ($1, $2, $3, $2)",
            network,
            first,
            last,
        )


async def _next_height(connection: asyncpg.Connection, network: str) -> int:
    cursor = await cursors.read(connection, network)
    if cursor is None:
        raise Unavailable(
            f"network {network} has not started yet: run its follower once before registering"
        )
    return cursor.height + 1


def _covered_from(next_height: int, from_block: int | None) -> int:
    if from_block is not None and from_block < 0:
        raise Refused(f"fromBlock must be 0 or more, not {from_block}")
    return next_height if from_block is None else min(next_height, from_block)
