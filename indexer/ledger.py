"""The SQL of coins and deposits: a function a statement, no rule of its own.

`cursors` says in which order locks are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from indexer import feed, totals
from indexer.chains import Codec
from indexer.cursors import Cursor, Stale
from indexer.database import parts
from indexer.model import (
    Coin,
    Deposit,
    Moment,
    Place,
    Reason,
    State,
    Tier,
)

PROMOTED_AT_ONCE: Final = 5_000  # deposits that one transaction confirms or finalizes


# ------------------------------------------------------------------------------ coins


_COIN: Final = """
    id, network, asset, name, symbol, decimals, status = 'active' as active, covered_from,
    minimum, confirmations, tiers, cap, balance_check
"""


def coin_from(row: Mapping[str, Any]) -> Coin:
    """A coin from a row with at least the columns of `_COIN`."""
    return Coin(
        id=row["id"],
        network=row["network"],
        asset=row["asset"],
        name=row["name"],
        symbol=row["symbol"],
        decimals=row["decimals"],
        active=row["active"],
        covered_from=row["covered_from"],
        minimum=row["minimum"],
        confirmations=row["confirmations"],
        tiers=tuple(Tier(int(t["upTo"]), t["confirmations"]) for t in row["tiers"]),
        cap=row["cap"],
        balance_check=row["balance_check"],
    )


async def coins(
    connection: asyncpg.Connection, network: str, assets: Iterable[bytes]
) -> dict[bytes, Coin]:
    """A network's coins of these assets."""
    rows = await connection.fetch(
        f"select {_COIN} from coin where network = $1 and asset = any ($2)",  # noqa: S608
        network,
        list(assets),
    )
    return {row["asset"]: coin_from(row) for row in rows}


# ------------------------------------------------------------------------------ deposits


_DEPOSIT: Final = """
    account, network, tx, address, asset, ordinal, id, coin, units, sender, height, hash, time,
    reference, required, first_state, first_reason, maturity, silent, state, reason, previous,
    sequence, counts, unplaced, created_at
"""


def deposit_from(row: Mapping[str, Any]) -> Deposit:
    """A deposit from a row with at least the columns of `_DEPOSIT`."""

    def state(name: str) -> State | None:
        return None if row[name] is None else State(row[name])

    def reason(name: str) -> Reason | None:
        return None if row[name] is None else Reason(row[name])

    return Deposit(
        account=row["account"],
        network=row["network"],
        tx=row["tx"],
        address=row["address"],
        asset=row["asset"],
        ordinal=row["ordinal"],
        id=row["id"],
        coin=row["coin"],
        units=row["units"],
        sender=row["sender"],
        place=Place(row["height"], row["hash"], row["time"]),
        reference=row["reference"],
        required=row["required"],
        first_state=State(row["first_state"]),
        first_reason=reason("first_reason"),
        maturity=row["maturity"],
        silent=row["silent"],
        state=state("state"),
        reason=reason("reason"),
        previous=state("previous"),
        sequence=row["sequence"],
        counts=list(row["counts"]),
        unplaced=row["unplaced"],
        created_at=row["created_at"],
        stored=state("state"),
    )


async def _locked(connection: asyncpg.Connection, condition: str, *values: object) -> list[Deposit]:
    rows = await connection.fetch(
        f"select {_DEPOSIT} from deposit where {condition} for update",  # noqa: S608
        *values,
    )
    return [deposit_from(row) for row in rows]


async def _locked_ids(connection: asyncpg.Connection, condition: str, *values: object) -> list[str]:
    rows = await connection.fetch(
        f"select id from deposit where {condition} order by id for update",  # noqa: S608
        *values,
    )
    return [row["id"] for row in rows]


async def deposits(connection: asyncpg.Connection, ids: Sequence[str]) -> list[Deposit]:
    """Those of some ids, locked."""
    return await _locked(connection, "id = any ($1) order by id", list(ids))


async def deposits_of(
    connection: asyncpg.Connection, network: str, txs: Sequence[bytes], above: int | None = None
) -> list[Deposit]:
    """Deposits of these transactions; with `above`, also the standing ones above that height."""
    if above is None:
        return await _locked(
            connection, "network = $1 and tx = any ($2) order by id", network, list(txs)
        )
    return await _locked(
        connection,
        """network = $1 and (tx = any ($2) or (height > $3 and state <> 'orphaned'))
           order by id""",
        network,
        list(txs),
        above,
    )


async def deposits_in(
    connection: asyncpg.Connection, network: str, txs: Sequence[bytes], first: int, last: int
) -> list[Deposit]:
    """Deposits of these transactions, and those that stand in these blocks; none is locked."""
    rows = await connection.fetch(
        f"""
        select {_DEPOSIT} from deposit
         where network = $1
           and (tx = any ($2) or (height between $3 and $4 and state <> 'orphaned'))
        """,  # noqa: S608
        network,
        list(txs),
        first,
        last,
    )
    return [deposit_from(row) for row in rows]


async def addresses_in(
    connection: asyncpg.Connection, network: str, first: int, last: int
) -> tuple[set[bytes], set[bytes]]:
    """Addresses and assets of deposits that stand in these blocks."""
    rows = await connection.fetch(
        """
        select distinct address, asset from deposit
         where network = $1 and height between $2 and $3 and state <> 'orphaned'
        """,
        network,
        first,
        last,
    )
    return {row["address"] for row in rows}, {row["asset"] for row in rows}


async def addresses_above(
    connection: asyncpg.Connection, network: str, height: int
) -> tuple[set[bytes], set[bytes]]:
    """Addresses and assets of deposits that stand above a height, or nowhere after a rewind."""
    rows = await connection.fetch(
        """
        select address, asset from deposit
         where network = $1 and height > $2 and state <> 'orphaned'
        union
        select address, asset from deposit where network = $1 and unplaced
        """,
        network,
        height,
    )
    return {row["address"] for row in rows}, {row["asset"] for row in rows}


async def due(
    connection: asyncpg.Connection, network: str, moment: Moment, loaded: Sequence[str] = ()
) -> list[Deposit]:
    """Deposits that depth or finality moves on, at most PROMOTED_AT_ONCE, but those loaded."""
    return await _locked(
        connection,
        """id = any (array(
            (select id from deposit
              where network = $1 and state = 'detected' and confirm_at <= $2 and not unplaced
                and id <> all ($4) limit $5)
            union
            (select id from deposit
              where network = $1 and state in ('detected', 'confirmed') and height <= $3
                and not unplaced and (state = 'confirmed'
                     or (required is null and height + maturity - 1 <= $2))
                and id <> all ($4) limit $5)))
            order by id""",
        network,
        moment.height,
        moment.finalized,
        list(loaded),
        PROMOTED_AT_ONCE,
    )


async def anything_due(connection: asyncpg.Connection, at: Cursor) -> bool:
    """Whether `due` would find something at this cursor."""
    found: bool = await connection.fetchval(
        """
        select exists (select from deposit
                        where network = $1 and state = 'detected' and confirm_at <= $2
                          and not unplaced)
            or exists (select from deposit
                        where network = $1 and state in ('detected', 'confirmed') and height <= $3
                          and not unplaced and (state = 'confirmed'
                               or (required is null and height + maturity - 1 <= $2)))
        """,
        at.network,
        at.height,
        at.finalized,
    )
    return found


async def deposit(connection: asyncpg.Connection, deposit_id: str) -> Deposit:
    """One deposit, which must be there, locked."""
    [found] = await _locked(connection, "id = $1", deposit_id)
    return found


async def unplaced(connection: asyncpg.Connection, network: str) -> list[str]:
    """Ids of all, locked."""
    return await _locked_ids(connection, "network = $1 and unplaced", network)


async def unplace_above(connection: asyncpg.Connection, network: str, height: int) -> int:
    """Take the place of every standing deposit above a rewound cursor; returns how many."""
    tag: str = await connection.execute(
        """
        update deposit set unplaced = true, updated_at = clock()
         where network = $1 and height > $2 and state <> 'orphaned' and not unplaced
        """,
        network,
        height,
    )
    return int(tag.split()[-1])


async def detected(connection: asyncpg.Connection, network: str) -> list[Deposit]:
    return await _locked(connection, "network = $1 and state = 'detected' order by id", network)


async def held_for_coin(connection: asyncpg.Connection, coin: str) -> list[str]:
    """Ids of all held because their coin was inactive, locked; unplaced ones wait for a place."""
    return await _locked_ids(
        connection,
        "coin = $1 and state = 'held' and reason = 'coin_inactive' and not unplaced",
        coin,
    )


async def store(
    connection: asyncpg.Connection,
    changed: Sequence[Deposit],
    coins_by_asset: Mapping[bytes, Coin],
    codec: Codec,
    at: datetime,
) -> int:
    """Write changed deposits, their events and the deliveries of those; returns the events made.

    Stale if a new one exists by now: two writers found the same transfer at the same time.
    """
    new = [d for d in changed if d.created_at is None]
    for some in parts(new):
        if await _insert(connection, some, at) != len(some):
            raise Stale("another writer found the same transfer")
    for some in parts([d for d in changed if d.created_at is not None]):
        await _update(connection, some, at)
    events = [event for d in changed for event in d.events]
    if events:
        await feed.append(connection, events, coins_by_asset, codec)
    await totals.count(connection, changed)
    return len(events)


def _place_columns(rows: Sequence[Deposit]) -> list[list[Any]]:
    return [
        [d.units for d in rows],
        [d.sender for d in rows],
        [d.place.height for d in rows],
        [d.place.hash for d in rows],
        [d.place.time for d in rows],
        [d.reference for d in rows],
        [d.required for d in rows],
        [d.first_state for d in rows],
        [d.first_reason for d in rows],
        [d.maturity for d in rows],
        [d.silent for d in rows],
        [d.state for d in rows],
        [d.reason for d in rows],
        [d.previous for d in rows],
        [d.sequence for d in rows],
        ["{" + ",".join(map(str, d.counts)) + "}" for d in rows],
        [d.unplaced for d in rows],
    ]


_PLACE_TYPES: Final = """
    numeric[], bytea[], bigint[], bytea[], timestamptz[], text[], integer[], deposit_state[],
    deposit_reason[], integer[], boolean[], deposit_state[], deposit_reason[], deposit_state[],
    integer[], text[], boolean[]
"""
_PLACE_NAMES: Final = """
    units, sender, height, hash, time, reference, required, first_state, first_reason, maturity,
    silent, state, reason, previous, sequence, counts, unplaced
"""


def _unnest(types: str, start: int) -> str:
    names = [t.strip() for t in types.split(",")]
    return ", ".join(f"${start + i}::{name}" for i, name in enumerate(names))


async def _insert(connection: asyncpg.Connection, rows: Sequence[Deposit], at: datetime) -> int:
    identity = "text[], text[], bytea[], bytea[], bytea[], integer[], text[], text[]"
    tag: str = await connection.execute(
        f"""
        insert into deposit (account, network, tx, address, asset, ordinal, id, coin,
                             {_PLACE_NAMES}, created_at, updated_at)
        select account, network, tx, address, asset, ordinal, id, coin,
               {_PLACE_NAMES.replace("counts", "counts::smallint[]")}, $1, $1
          from unnest({_unnest(identity, 2)}, {_unnest(_PLACE_TYPES, 10)})
            as t(account, network, tx, address, asset, ordinal, id, coin, {_PLACE_NAMES})
            on conflict do nothing
        """,  # noqa: S608
        at,
        [d.account for d in rows],
        [d.network for d in rows],
        [d.tx for d in rows],
        [d.address for d in rows],
        [d.asset for d in rows],
        [d.ordinal for d in rows],
        [d.id for d in rows],
        [d.coin for d in rows],
        *_place_columns(rows),
    )
    return int(tag.split()[-1])


async def _update(connection: asyncpg.Connection, rows: Sequence[Deposit], at: datetime) -> None:
    names = [n.strip() for n in _PLACE_NAMES.split(",")]
    assignments = ", ".join(
        f"{n} = t.{n}::smallint[]" if n == "counts" else f"{n} = t.{n}" for n in names
    )
    await connection.execute(
        f"""
        update deposit d set {assignments}, updated_at = $1
          from unnest($2::text[], {_unnest(_PLACE_TYPES, 3)}) as t(id, {_PLACE_NAMES})
         where d.id = t.id
        """,  # noqa: S608
        at,
        [d.id for d in rows],
        *_place_columns(rows),
    )
