"""What `depositd status` says: where each network stands and what the callbacks owe."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import asyncpg
from typing_extensions import TypedDict

from indexer.lease import FOLLOW

# A running process speaks of its network every few seconds, whatever ails it; a step may take long.
STALE_SECONDS: Final = 60.0


class NetworkState(StrEnum):
    """As schema.sql's `network_state` says."""

    STARTING = "starting"
    CATCHING_UP = "catching_up"
    FOLLOWING = "following"
    FORKED = "forked"
    HALTED = "halted"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


class Standing(TypedDict):
    """Where a network stands; heights of blocks."""

    network: str
    family: str
    head: int | None
    cursor: int | None
    lag: int | None
    finalized: int | None
    state: NetworkState
    reason: str | None


async def networks(pool: asyncpg.Pool | asyncpg.Connection) -> list[Standing]:
    """The networks that this database knows, as the API lists them."""
    rows = await pool.fetch(
        """
        select n.id, n.family, n.state, n.reason, n.head, c.height, c.finalized,
               case when l.until >= clock() then 0.0
                    else extract(epoch from clock() - n.updated_at)::float8 end as silent
          from network n
          left join cursor c on c.network = n.id
          left join lease l on l.name = $1 || n.id
         order by n.id
        """,
        FOLLOW,
    )
    return [
        {
            "network": row["id"],
            "family": row["family"],
            "head": row["head"],
            "cursor": row["height"],
            "lag": None
            if row["head"] is None or row["height"] is None
            else max(0, row["head"] - row["height"]),
            "finalized": None if row["finalized"] in (None, -1) else row["finalized"],
            "state": _state(row),
            "reason": _reason(row),
        }
        for row in rows
    ]


def _stale(row: Mapping[str, Any]) -> bool:
    """Whether nobody speaks of it any more, and nobody follows it, who may be waiting for long
    until he asks again (`poll_interval`). One that is refused is spoken of once."""
    silent: float = row["silent"]
    return silent > STALE_SECONDS and row["state"] != NetworkState.REFUSED


def _state(row: Mapping[str, Any]) -> NetworkState:
    return NetworkState.UNREACHABLE if _stale(row) else NetworkState(row["state"])


def _reason(row: Mapping[str, Any]) -> str | None:
    if not _stale(row):
        reason: str | None = row["reason"]
        return reason
    last = row["state"] if row["reason"] is None else f"{row['state']}: {row['reason']}"
    return f"no process has spoken of it for {row['silent']:.0f} s; then it was {last}"


async def seen(pool: asyncpg.Pool) -> dict[str, float]:
    """By network, the seconds since a process last said how it is: a running one does at once."""
    rows = await pool.fetch(
        "select id, extract(epoch from clock() - updated_at)::float8 as age from network"
    )
    return {row["id"]: max(0.0, row["age"]) for row in rows}


async def leaders(pool: asyncpg.Pool) -> dict[str, str]:
    """By network, the process (host:pid) that follows it. One that nobody follows is left out."""
    rows = await pool.fetch(
        """
        select n.id, l.process from network n join lease l on l.name = $1 || n.id
         where l.until >= clock()
        """,
        FOLLOW,
    )
    return {row["id"]: row["process"] for row in rows}


async def deliveries(pool: asyncpg.Pool) -> dict[str, int]:
    """Deliveries by what they wait for; `exhausted` ones wait for a resend."""
    row = await pool.fetchrow(
        """
        select count(*) filter (where e.state = 'active' and d.due_at <= clock()) as due,
               count(*) filter (where e.state = 'active' and d.attempts > 0) as retrying,
               count(*) filter (where e.state <> 'active') as held,
               (select count(*) from delivery_done where state = 'exhausted') as exhausted
          from delivery d join endpoint e on e.id = d.endpoint
        """
    )
    return dict(row)
