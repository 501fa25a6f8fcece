"""For few addresses: a node names the blocks to read, instead of all being read.

Each block that is named is fetched and proved whole. That it names all of them nobody can prove, so
this is an operator's choice and never what a registration gets. It knows of the transfers of tokens
in the standard's shape alone: neither of native coins nor of transfers that hide who they pay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

import asyncpg

from indexer.booking import Found
from indexer.chains import NATIVE, Chain, Header
from indexer.model import Refused, Unavailable
from indexer.scan.reading import Reading, read
from indexer.watchset import WatchSet

MOST_ADDRESSES: Final = 500  # that a node is asked about at once


@runtime_checkable
class NamesBlocks(Protocol):
    """A chain whose nodes find transfers by who they pay."""

    async def paying(
        self, first: int, last: int, assets: Sequence[bytes], recipients: Sequence[bytes]
    ) -> Mapping[int, bytes]:
        """Height and hash of the blocks first..last that a node says have such a transfer."""
        ...


class Candidates:
    """Reads the blocks that a node names."""

    def __init__(
        self, names: NamesBlocks, chain: Chain, watch: WatchSet, recipients: Sequence[bytes]
    ) -> None:
        self._names = names
        self._chain = chain
        self._watch = watch
        self._recipients = recipients

    @classmethod
    async def of(
        cls, network: str, chain: Chain, pool: asyncpg.Pool, watch: WatchSet
    ) -> Candidates:
        """Refused where nodes can't name blocks, or for too many addresses."""
        if not isinstance(chain, NamesBlocks):
            raise Refused(
                f"--candidates logs is for EVM networks; {network} is of family "
                f"{chain.codec.family}"
            )
        rows = await pool.fetch(
            "select distinct address from watched_address where network = $1 limit $2",
            network,
            MOST_ADDRESSES + 1,
        )
        if len(rows) > MOST_ADDRESSES:
            raise Refused(
                f"--candidates logs is for at most {MOST_ADDRESSES} addresses, and {network} has "
                "more: leave it out, so that all blocks are read"
            )
        return cls(chain, chain, watch, [row["address"] for row in rows])

    async def read(self, first: int, last: int) -> Reading:
        """As `reading.read`, of the blocks alone that are named."""
        headers: list[Header] = []
        found: list[Found] = []
        checks: dict[tuple[bytes, bytes, bytes], bool | None] = {}
        for height, block_hash in sorted((await self._named(first, last)).items()):
            reading = await read(self._chain, self._watch, height, height)
            if reading.headers[0].hash != block_hash:
                raise Unavailable(f"the chain changed at block {height} while it was read")
            headers += reading.headers
            found += reading.found
            checks |= reading.checks
        return Reading(first, last, headers, found, checks, linked=False)

    async def _named(self, first: int, last: int) -> Mapping[int, bytes]:
        tokens = sorted(self._watch.assets - {NATIVE})
        if not tokens or not self._recipients:
            return {}
        return await self._names.paying(first, last, tokens, self._recipients)
