"""Is this key watched? One network's addresses and assets, in memory.

It may say yes too often (a removed address stays until all is loaded again) and never no: every hit
is settled by the database when it is booked. It follows the database by `changed_version`, which is
given out under the cursor's lock and so becomes visible in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

LOAD_CHUNK: Final = 5_000  # rows fetched at a time while loading


class WatchSet:
    """The addresses and assets of a network as of `version`."""

    def __init__(self, network: str, reorg_window: int) -> None:
        self.network = network
        self.version = -1
        self.assets: set[bytes] = set()
        self.checked: set[bytes] = set()  # assets of which balances must agree
        self._keys: set[bytes] = set()
        self._reorg_window = reorg_window
        self._loaded_at = -1  # the height when all was loaded

    def __len__(self) -> int:
        return len(self._keys)

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        known = self._keys
        return [key in known for key in keys]

    async def refresh(self, connection: asyncpg.Connection) -> int:
        """Take what changed since `version`; returns the new one.

        The version is read before the rows: rows of a later one that come along are taken again
        next time, which changes nothing. A removed address stays for as long as a block before its
        removal may be read: by a swap, by an open scan, or after a rewind below the last load.
        """
        row = await connection.fetchrow(
            """
            select height, watch_version,
                   (select min(next) from scan where network = $1 and state = 'open') as scanned
              from cursor where network = $1
            """,
            self.network,
        )
        if row is None or row["watch_version"] == self.version:
            return self.version
        if self.version < 0 or row["height"] < self._loaded_at:
            self.version, self._loaded_at = -1, row["height"]
        oldest = row["height"] - self._reorg_window
        if row["scanned"] is not None:
            oldest = min(oldest, row["scanned"])
        async with connection.transaction(readonly=True):
            rows = await connection.cursor(
                """
                select address from watched_address
                 where network = $1 and changed_version > $2
                   and (state = 'active' or removed_from > $3)
                """,
                self.network,
                self.version,
                oldest,
            )
            while some := await rows.fetch(LOAD_CHUNK):
                self._keys.update(row["address"] for row in some)
        coins = await connection.fetch(
            "select asset, balance_check from coin where network = $1 and changed_version > $2",
            self.network,
            self.version,
        )
        self.assets.update(coin["asset"] for coin in coins)
        self.checked.difference_update(coin["asset"] for coin in coins)
        self.checked.update(coin["asset"] for coin in coins if coin["balance_check"])
        self.version = row["watch_version"]
        return self.version


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
