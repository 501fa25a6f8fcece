"""Is this key watched? One network's addresses and assets, in memory.

It may say yes too often (a removed address stays for a while, a key may look like another: see
`keyset`) and never no: every hit is settled by the database when it is booked. It follows the
database by `changed_version`, which is given out under the cursor's lock and so becomes visible in
its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg
import structlog

from indexer import metrics
from indexer.column import copy_column
from indexer.keyset import KeySet, Loading

CHANGES_AT_ONCE: Final = 5_000  # rows fetched at a time
# Removed addresses that make it load all again: so many, and one in so many.
REMOVED_KEYS: Final = 100_000
REMOVED_SHARE: Final = 4

log = structlog.get_logger()

# What changed after a version, or with -1 everything; but no address that was removed so early that
# no block before its removal will be read.
_KEYS: Final = """
    from watched_address
   where network = $1 and changed_version > $2 and (state = 'active' or removed_from > $3)
"""


class WatchSet:
    """The addresses and assets of a network as of `version`; a process has one of it."""

    def __init__(self, network: str, reorg_window: int) -> None:
        self.network = network
        self.version = -1
        self.assets: set[bytes] = set()
        self.checked: set[bytes] = set()  # assets of which balances must agree
        self._keys = KeySet()
        self._removed = 0  # of the keys, about
        self._reorg_window = reorg_window
        self._loaded_at = -1  # the height when all was loaded
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        """How many addresses it holds, some of them removed by now."""
        return len(self._keys)

    @property
    def memory_bytes(self) -> int:
        """What its addresses take, about."""
        return self._keys.memory_bytes

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        return self._keys.contains(keys)

    async def refresh(self, connection: asyncpg.Connection) -> int:
        """Take what changed since `version`; returns the new one.

        The version is read before the rows: rows of a later one that come along are taken again
        next time, which changes nothing. A removed address stays for as long as a block before its
        removal may be read: by a swap, by an open scan, or after a rewind below the last load.
        What was taken is in use at once or, where all is loaded, once that is complete.
        """
        async with self._refreshing:
            row = await connection.fetchrow(
                """
                select height, watch_version,
                       (select min(next) from scan where network = $1 and state = 'open')
                           as scanned
                  from cursor where network = $1
                """,
                self.network,
            )
            if row is None or row["watch_version"] == self.version:
                return self.version
            oldest = row["height"] - self._reorg_window
            if row["scanned"] is not None:
                oldest = min(oldest, row["scanned"])
            if self.version < 0 or row["height"] < self._loaded_at or self._outgrown(connection):
                await self._load(connection, oldest)
                self._loaded_at = row["height"]
            else:
                await self._take_changes(connection, oldest)
            await self._take_coins(connection)
            self.version = row["watch_version"]
            await self._keys.settle()
            metrics.WATCHED.labels(self.network).set(len(self))
            metrics.WATCHED_BYTES.labels(self.network).set(self.memory_bytes)
            return self.version

    def _outgrown(self, connection: asyncpg.Connection) -> bool:
        """Whether much of it was removed; not while a transaction may hold up others meanwhile."""
        bound = max(REMOVED_KEYS, len(self) // REMOVED_SHARE)
        return self._removed > bound and not connection.is_in_transaction()

    async def _load(self, connection: asyncpg.Connection, oldest: int) -> None:
        loading = Loading()
        await copy_column(
            connection, f"select address {_KEYS}", self.network, -1, oldest, take=loading.add
        )
        self._keys = await loading.finish()
        self._removed = 0
        log.info("watch set loaded", network=self.network, addresses=len(self))

    async def _take_changes(self, connection: asyncpg.Connection, oldest: int) -> None:
        async with connection.transaction(readonly=True):
            rows = await connection.cursor(
                f"select address, state = 'removed' as removed {_KEYS}",
                self.network,
                self.version,
                oldest,
            )
            while some := await rows.fetch(CHANGES_AT_ONCE):
                self._keys.add([row["address"] for row in some])
                self._removed += sum(row["removed"] for row in some)

    async def _take_coins(self, connection: asyncpg.Connection) -> None:
        coins = await connection.fetch(
            "select asset, balance_check from coin where network = $1 and changed_version > $2",
            self.network,
            self.version,
        )
        self.assets.update(coin["asset"] for coin in coins)
        self.checked.difference_update(coin["asset"] for coin in coins)
        self.checked.update(coin["asset"] for coin in coins if coin["balance_check"])


class Widened:
    """A watch set and some keys more: what a swap looks up whatever is watched by now."""

    def __init__(self, watch: WatchSet, keys: set[bytes], assets: set[bytes]) -> None:
        self.version = watch.version
        self.assets = watch.assets | assets
        self.checked = watch.checked
        self._watch, self._keys = watch, keys

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        known = self._watch.contains(keys)
        return [hit or key in self._keys for hit, key in zip(known, keys, strict=True)]
