"""Coins: what is deposited. Registered by contract, changed by admins, with what that decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from indexer import coverage, cursors
from indexer.booking import Booking
from indexer.chains import NATIVE, Codec
from indexer.model import Moment, Tier, Unavailable


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
    balance_check: bool = False
    kept: Mapping[str, str | bool] = field(default_factory=dict)  # for callers: never acted on
    from_block: int | None = None


async def register_coin(connection: asyncpg.Connection, coin: NewCoin) -> int:
    """Add a token, in the caller's transaction; returns the block from which it is covered.

    asyncpg.UniqueViolationError where the id or the network's contract is taken.
    """
    upcoming = await coverage.next_height(connection, coin.network)
    covered_from = coverage.covered_from(upcoming, coin.from_block)
    await connection.execute(
        """
        insert into coin (id, network, asset, name, symbol, decimals, covered_from, minimum,
                          confirmations, tiers, cap, balance_check, kept)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
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
        coin.balance_check,
        coin.kept,
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

    `changes`: any of active (bool), minimum, confirmations, tiers, cap, balance_check (bool), kept
    (by name; None takes one back). `confirmations` is the network's own setting, None for
    "finalized".
    """
    cursor = await cursors.lock(connection, network)
    if cursor is None:
        raise Unavailable(f"network {network} has not started yet")
    version = await cursors.raise_watch_version(connection, cursor)
    await connection.execute(_CHANGED, coin_id, version)
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


_CHANGED: Final = "update coin set changed_version = $2 where id = $1 and state = 'active'"
_CHANGES: Final = {
    "active": "update coin set status = case when $2 then 'active' else 'inactive' end"
    "::coin_status where id = $1",
    "minimum": "update coin set minimum = $2 where id = $1",
    "confirmations": "update coin set confirmations = $2 where id = $1",
    "tiers": "update coin set tiers = $2 where id = $1",
    "cap": "update coin set cap = $2 where id = $1",
    "balance_check": "update coin set balance_check = $2 where id = $1",
    "kept": "update coin set kept = jsonb_strip_nulls(kept || $2) where id = $1",
}


def _stored(name: str, value: Any) -> Any:
    return _tiers(value) if name == "tiers" else value


def _tiers(tiers: Sequence[Tier]) -> list[dict[str, Any]]:
    return [{"upTo": str(t.up_to), "confirmations": t.confirmations} for t in tiers]
