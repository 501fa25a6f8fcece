"""The SQL of `explain`: what the database knows of a transaction, for one account or for all.

`account` None: for all of them. Else nothing is read that is another's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from indexer import status
from indexer.api.concealed import DELIVERY, conceal
from indexer.api.delivery import DONE, LIVE
from indexer.ledger import coin_from, deposit_from
from indexer.model import Coin, Deposit
from indexer.secret import Vault
from indexer.status import Standing

SENDING_SECONDS: Final = 10.0  # since a dispatcher last said that it lives


@dataclass(frozen=True, slots=True)
class Watcher:
    """An account's registration of an address, removed ones too."""

    account: str
    reference: str | None
    own: bool
    covered_from: int
    active_from: int | None
    removed_from: int | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event's way to one endpoint; what an endpoint has to do with it only while it lives."""

    id: str  # as callers see it
    endpoint: str
    state: str
    reason: str | None
    attempts: int
    due_at: datetime | None
    done_at: datetime | None
    last_error: str | None
    after: int | None  # an earlier sequence that is sent first
    endpoint_state: str | None
    endpoint_reason: str | None
    endpoint_since: datetime | None
    failures: int | None  # attempts in a row that failed
    shut_until: datetime | None  # nothing is sent to it before


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a deposit, and who is told of it."""

    id: str
    type: str
    sequence: int
    created_at: datetime
    deliveries: tuple[Delivery, ...]
    # What the account's endpoints ask for today: those that were there, and those made since.
    wanted_by: tuple[str, ...]
    wanted_since_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database knew at one moment."""

    now: datetime
    standing: Standing | None
    lowest: int | None  # of the stored headers
    stored: bytes | None  # the hash that our chain has at the transaction's height, if kept
    scanning: bool  # whether a scan has that height still to read
    coins: dict[bytes, Coin]
    watchers: dict[bytes, list[Watcher]]
    elsewhere: dict[bytes, list[str]]  # networks of the family on which an address is watched
    deposits: list[Deposit]
    events: dict[str, list[Event]]  # by deposit
    endpoints: dict[str, int]  # how many an account has
    sending: bool  # whether a process sends callbacks

    @property
    def cursor(self) -> int | None:
        return None if self.standing is None else self.standing["cursor"]


@dataclass(frozen=True, slots=True)
class Question:
    network: str
    tx: bytes
    account: str | None
    height: int | None = None  # of its block
    assets: frozenset[bytes] = frozenset()  # that it moved
    recipients: frozenset[bytes] = frozenset()  # whom it paid


async def gather(pool: asyncpg.Pool, vault: Vault, asked: Question) -> Facts:
    """Everything of one snapshot."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        deposits = await deposits_of(connection, asked.network, asked.tx, asked.account)
        heights = [d.place.height for d in deposits]
        height = asked.height if asked.height is not None else max(heights, default=-1)
        addresses = asked.recipients | {d.address for d in deposits}
        standings = {each["network"]: each for each in await status.networks(connection)}
        block = await connection.fetchrow(_BLOCK, asked.network, height, asked.account)
        return Facts(
            now=block["now"],
            standing=standings.get(asked.network),
            lowest=block["lowest"],
            stored=block["stored"],
            scanning=block["scanning"],
            coins=await _coins(connection, asked, {d.asset for d in deposits}),
            watchers=await _watchers(connection, asked, addresses),
            elsewhere=await _elsewhere(connection, asked, addresses),
            deposits=deposits,
            events=await _events(connection, vault, [d.id for d in deposits]),
            endpoints=dict(await connection.fetch(_ENDPOINTS, [d.account for d in deposits])),
            sending=await connection.fetchval(_SENDING, SENDING_SECONDS),
        )


async def deposits_of(
    connection: asyncpg.Connection | asyncpg.Pool, network: str, tx: bytes, account: str | None
) -> list[Deposit]:
    rows = await connection.fetch(
        """
        select * from deposit
         where network = $1 and tx = $2 and account = coalesce($3, account)
         order by address, asset, ordinal, account
        """,
        network,
        tx,
        account,
    )
    return [deposit_from(row) for row in rows]


# A scan that another account's registration alone asked for is none of an account's business.
_BLOCK: Final = """
    select clock() as now,
           (select min(height) from block where network = $1) as lowest,
           (select hash from block where network = $1 and height = $2) as stored,
           exists (select from scan
                    where network = $1 and state = 'open' and $2 between next and last
                      and ($3::text is null or account is null or account = $3)) as scanning
"""
_ENDPOINTS: Final = "select account, count(*) from endpoint where account = any ($1) group by 1"
_SENDING: Final = """
    select exists (select from dispatcher where seen_at >= clock() - make_interval(secs => $1))
"""


async def _coins(
    connection: asyncpg.Connection, asked: Question, more: Collection[bytes]
) -> dict[bytes, Coin]:
    rows = await connection.fetch(
        """
        select *, status = 'active' as active from coin where network = $1 and asset = any ($2)
        """,
        asked.network,
        list(asked.assets | set(more)),
    )
    return {row["asset"]: coin_from(row) for row in rows}


async def _watchers(
    connection: asyncpg.Connection, asked: Question, addresses: Collection[bytes]
) -> dict[bytes, list[Watcher]]:
    rows = await connection.fetch(
        """
        select address, account, reference, role = 'own' as own, covered_from, active_from,
               removed_from
          from watched_address
         where network = $1 and address = any ($2) and account = coalesce($3, account)
         order by account
        """,
        asked.network,
        list(addresses),
        asked.account,
    )
    watchers: dict[bytes, list[Watcher]] = defaultdict(list)
    for address, *rest in rows:
        watchers[address].append(Watcher(*rest))
    return watchers


async def _elsewhere(
    connection: asyncpg.Connection, asked: Question, addresses: Collection[bytes]
) -> dict[bytes, list[str]]:
    rows = await connection.fetch(
        """
        select distinct w.address, w.network
          from network n
          join network other on other.family = n.family and other.id <> n.id
          join watched_address w on w.network = other.id
         where n.id = $1 and w.address = any ($2) and w.account = coalesce($3, w.account)
           and w.state <> 'removed' and w.role = 'deposit'
         order by w.network
        """,
        asked.network,
        list(addresses),
        asked.account,
    )
    networks: dict[bytes, list[str]] = defaultdict(list)
    for address, network in rows:
        networks[address].append(network)
    return networks


# ------------------------------------------------------------------------------ events


_EVENTS: Final = """
    select v.deposit, v.id, v.type, v.sequence, v.created_at,
           array(select e.id from endpoint e
                  where e.account = v.account and asks_for(e, v.type, d, c)
                    and e.created_at <= v.created_at order by e.id) as wanted_by,
           array(select e.id from endpoint e
                  where e.account = v.account and asks_for(e, v.type, d, c)
                    and e.created_at > v.created_at order by e.id) as wanted_since_by
      from event v join deposit d on d.id = v.deposit join coin c on c.id = d.coin
     where v.deposit = any ($1) order by v.deposit, v.sequence
"""

# An endpoint that is held or open is sent nothing, whenever its deliveries are due.
_DELIVERIES: Final = f"""
    select each.event, each.id, each.endpoint, each.state, each.reason, each.attempts, each.due_at,
           each.done_at, each.last_error,
           case when not coalesce(live.resent, true) then
               (select min(earlier.sequence) from delivery earlier
                 where earlier.endpoint = each.endpoint and earlier.deposit = each.deposit
                   and earlier.sequence < each.sequence and not earlier.resent)
           end as after,
           e.state::text as endpoint_state, e.state_reason as endpoint_reason,
           e.state_since as endpoint_since, h.failures,
           greatest(h.open_until, h.paused_until) as shut_until
      from ({LIVE} where v.deposit = any ($1) union all {DONE} where v.deposit = any ($1)) each
      left join delivery live on live.id = each.id
      left join endpoint e on e.id = each.endpoint
      left join endpoint_health h on h.endpoint = each.endpoint
     order by each.sequence, each.created_at, each.id
"""  # noqa: S608


async def _events(
    connection: asyncpg.Connection, vault: Vault, deposits: Sequence[str]
) -> dict[str, list[Event]]:
    deliveries: dict[str, list[Delivery]] = defaultdict(list)
    for event, number, *rest in await connection.fetch(_DELIVERIES, deposits):
        deliveries[event].append(Delivery(conceal(vault, DELIVERY, number), *rest))
    events: dict[str, list[Event]] = defaultdict(list)
    for row in await connection.fetch(_EVENTS, deposits):
        events[row["deposit"]].append(_event(row, deliveries[row["id"]]))
    return events


def _event(row: Any, deliveries: Sequence[Delivery]) -> Event:
    return Event(
        id=row["id"],
        type=row["type"],
        sequence=row["sequence"],
        created_at=row["created_at"],
        deliveries=tuple(deliveries),
        wanted_by=tuple(row["wanted_by"]),
        wanted_since_by=tuple(row["wanted_since_by"]),
    )
