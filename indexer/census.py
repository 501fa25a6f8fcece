"""How networks, deposits and deliveries stand in the database, in numbers.

Each statement costs the same whatever the history: deposits are counted as they move, due
deliveries through their index and up to a bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from indexer import metrics

COUNTED_DUE: Final = 100_000  # deliveries; more than that are told as so many


@dataclass(frozen=True, slots=True)
class NetworkCensus:
    """Heights, and ages in seconds; None: not known yet."""

    id: str
    state: str
    head: int | None
    head_age: float | None  # since it was last seen to rise
    seen_age: float  # since any process last spoke of the network
    cursor: int | None
    cursor_age: float | None  # by the block's own clock, like the next
    finalized: int | None
    finalized_age: float | None
    interval: float | None  # mean seconds from block to block, by the stored headers
    scan_blocks: int  # that open scans are still to read; what two of them want counts twice


@dataclass(frozen=True, slots=True)
class Census:
    networks: list[NetworkCensus]
    deposits: Mapping[tuple[str, str], int]  # by network and state
    due: int  # deliveries that may be sent now, at most COUNTED_DUE
    oldest_due: float  # seconds that the oldest of them has been due
    oldest_endpoint: str | None  # its endpoint


_NETWORKS: Final = """
    select n.id, n.state, n.head,
           extract(epoch from clock() - n.head_at)::float8 as head_age,
           extract(epoch from clock() - n.updated_at)::float8 as seen_age,
           c.height as cursor, extract(epoch from clock() - top.time)::float8 as cursor_age,
           nullif(c.finalized, -1) as finalized,
           extract(epoch from clock() - final.time)::float8 as finalized_age,
           (extract(epoch from top.time - low.time) / nullif(top.height - low.height, 0))::float8
               as interval,
           (select coalesce(sum(upper(r) - lower(r)), 0)::bigint
              from scan s cross join unnest(s.unread) r
             where s.network = n.id and s.state = 'open') as scan_blocks
      from network n
      left join cursor c on c.network = n.id
      left join block top on top.network = n.id and top.height = c.height
      left join block final on final.network = n.id and final.height = c.finalized
      left join lateral (select b.height, b.time from block b
                          where b.network = n.id order by b.height limit 1) low on true
"""
# Of the endpoints that may be sent something, what is due is counted.
_DUE: Final = """
    with ready as materialized (
        select lane.*
          from lane
          join endpoint e on e.id = lane.endpoint and e.state = 'active'
          left join endpoint_health h on h.endpoint = lane.endpoint
         where lane.due_at <= (select clock()) and h.open_until is null
           and (h.paused_until is null or h.paused_until <= (select clock()))
    )
    select (select count(*) from (
                select from ready join delivery d using (endpoint)
                 where d.due_at <= (select clock()) limit $1) counted) as due,
           (select coalesce(extract(epoch from clock() - min(due_at)), 0)::float8 from ready)
               as oldest_due,
           (select endpoint from ready order by due_at limit 1) as oldest_endpoint
"""


async def take(pool: asyncpg.Pool) -> Census:
    """Ask the database. Raises its own failures."""
    networks = [NetworkCensus(**row) for row in await pool.fetch(_NETWORKS)]
    rows = await pool.fetch("select network, state, count from deposit_count")
    due = await pool.fetchrow(_DUE, COUNTED_DUE)
    deposits = {(row["network"], row["state"]): row["count"] for row in rows}
    return Census(networks, deposits, **due)


def tell(found: Census) -> None:
    """Hand it to Prometheus; what is no longer known is no longer told."""
    withdraw()
    metrics.DATABASE_UP.set(1)
    for network in found.networks:
        _tell_network(network)
    for (name, state), count in found.deposits.items():
        metrics.DEPOSITS.labels(name, state).set(count)
    metrics.DUE.set(found.due)
    metrics.OLDEST_DUE.set(found.oldest_due)


def withdraw() -> None:
    """The database does not answer: numbers that were true once would hide that."""
    metrics.DATABASE_UP.set(0)
    for gauge in metrics.OF_NETWORKS:
        gauge.clear()
    metrics.DUE.set(float("nan"))
    metrics.OLDEST_DUE.set(float("nan"))


def _tell_network(network: NetworkCensus) -> None:
    lag = None
    if network.head is not None and network.cursor is not None:
        lag = max(0, network.head - network.cursor)
    for gauge, value in (
        (metrics.CURSOR, network.cursor),
        (metrics.HEAD, network.head),
        (metrics.LAG, lag),
        (metrics.HEAD_AGE, network.head_age),
        (metrics.CURSOR_AGE, network.cursor_age),
        (metrics.FINALIZED, network.finalized),
        (metrics.FINALIZED_AGE, network.finalized_age),
        (metrics.SEEN_AGE, network.seen_age),
        (metrics.SCANS, network.scan_blocks),
    ):
        if value is not None:
            gauge.labels(network.id).set(value)
    metrics.STATE.labels(network.id, network.state).set(1)
