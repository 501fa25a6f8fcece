"""The dispatchers that are at work, and which endpoints are this one's.

Each says now and then that it lives. Endpoints are dealt out by rendezvous hashing: where one comes
or goes, only what it gains or had moves. For a moment two may think that an endpoint is theirs:
leases keep their deliveries apart.
"""

from __future__ import annotations

import hashlib
import time
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from callbacks.statements import fetch

BEAT_SECONDS: Final = 1.0
LOST_SECONDS: Final = 4.0  # without a beat, after which its endpoints are others'
REMEMBERED: Final = 16_384  # endpoints whose dispatcher is known

_BEAT: Final = """
    with gone as (
        delete from dispatcher
         where id <> $1 and seen_at < clock() - make_interval(secs => $2)
    ), mine as (
        insert into dispatcher (id, seen_at) values ($1, clock())
            on conflict (id) do update set seen_at = excluded.seen_at
    )
    select clock() as now,
           array(select id from dispatcher
                  where id <> $1 and seen_at >= clock() - make_interval(secs => $2)) as others
"""


class Members:
    """This process among the dispatchers."""

    def __init__(self, pool: asyncpg.Pool, lost_seconds: float = LOST_SECONDS) -> None:
        self._pool = pool
        self._id = uuid4()
        self._lost = lost_seconds
        self._until = float("-inf")
        self._others: frozenset[UUID] = frozenset()
        self._owns = lru_cache(REMEMBERED)(self._mine)

    async def beat(self) -> datetime:
        """Say that this one lives and learn who else does; the database's time. Or Unavailable."""
        asked = time.monotonic()
        [row] = await fetch(self._pool, _BEAT, self._id, self._lost)
        others = frozenset(row["others"])
        if others != self._others:
            self._others = others
            self._owns.cache_clear()
        self._until = asked + self._lost
        now: datetime = row["now"]
        return now

    def own(self, endpoint: str) -> bool:
        """Whether it is this one's to send to. Nothing is, once it has been silent for too long."""
        return time.monotonic() < self._until and self._owns(endpoint)

    async def leave(self) -> None:
        """Its endpoints are others' from their next beat on. Raises Unavailable."""
        self._until = float("-inf")
        await fetch(self._pool, "delete from dispatcher where id = $1", self._id)

    def _mine(self, endpoint: str) -> bool:
        ours = _weight(self._id, endpoint)
        return all(ours > _weight(other, endpoint) for other in self._others)


def _weight(member: UUID, endpoint: str) -> bytes:
    return hashlib.blake2b(endpoint.encode(), digest_size=8, key=member.bytes).digest()
