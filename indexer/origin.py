"""Where a network's chain begins for us: its first cursor, and an operator's rewind to an older."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Protocol

import asyncpg
import structlog

from indexer import coins, cursors, ledger
from indexer.booking import Booking
from indexer.chains import Chain, Header
from indexer.cursors import Cursor
from indexer.model import Moment, Refused, Unavailable

log = structlog.get_logger()

NO_BLOCK: Final = bytes(32)  # the parent of a genesis block, and the hash of a cursor before it


class Rules(Protocol):
    """The settings of a network that decide where it begins."""

    @property
    def start(self) -> int | str: ...  # "latest", or the first height
    @property
    def reorg_window(self) -> int: ...
    @property
    def required(self) -> int | None: ...  # confirmations; None: "finalized"
    @property
    def coin(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def decimals(self) -> int: ...


async def identify(pool: asyncpg.Pool, network: str, identity: str) -> None:
    """Record which chain a network is at its first connect; refuse another one ever after."""
    try:
        known = await pool.fetchval(
            "update network set identity = coalesce(identity, $2) where id = $1 returning identity",
            network,
            identity,
        )
    except asyncpg.UniqueViolationError:
        raise Refused(f"another network of this database is {identity} already") from None
    if known is None:
        raise Refused(f"network {network} has never been run on this database")
    if known != identity:
        raise Refused(f"this database follows {known}; the endpoints serve {identity}")


async def begin(pool: asyncpg.Pool, chain: Chain, network: str, rules: Rules) -> None:
    """Make the cursor where there is none, with the headers that a first reorg needs below it."""
    if await pool.fetchval("select exists (select from cursor where network = $1)", network):
        await _same_coin(pool, network, rules.coin)
        await _require_again(pool, chain, network, rules)
        return
    tip = await chain.tip()
    height = tip.height if rules.start == "latest" else int(rules.start) - 1
    if height > tip.height:
        raise Unavailable(f"start = {rules.start} is above the chain's head {tip.height}")
    headers = await _window(chain, height, rules.reorg_window)
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into cursor (network, height, hash) values ($1, $2, $3)",
                network,
                height,
                headers[-1].hash if headers else NO_BLOCK,
            )
            await cursors.store_headers(connection, network, headers)
            await coins.register_native_coin(
                connection, network, rules.coin, rules.symbol, rules.decimals, height
            )
    except asyncpg.UniqueViolationError as taken:
        if taken.table_name == "coin":
            raise Refused(f"coin id {rules.coin} is taken: set networks.{network}.coin") from None
        return  # another process began it a moment ago
    log.info("began", network=network, height=height, head=tip.height)


async def rewind(pool: asyncpg.Pool, chain: Chain, network: str, rules: Rules, height: int) -> int:
    """Read again from `height` + 1; returns the deposits that wait to be found again.

    They keep their state without event or promotion until a block has them, or until the old
    height is passed: then what is missing is orphaned, finalized ones too.
    """
    async with pool.acquire() as connection:
        _refuse_unless_lower(await cursors.read(connection, network), network, height)
    await _node_agrees(pool, chain, network, height)
    headers = await _window(chain, height, rules.reorg_window)
    async with pool.acquire() as connection, connection.transaction():
        cursor = await cursors.lock(connection, network)
        cursor = _refuse_unless_lower(cursor, network, height)
        ours = await cursors.header_at(connection, network, height)
        if ours is not None and ours[0] != headers[-1].hash:
            raise Unavailable(f"block {height} was replaced meanwhile: try again")
        await cursors.set_back(
            connection, cursor, height, headers[-1].hash if headers else NO_BLOCK
        )
        await cursors.drop_headers(connection, network, 0, -1)
        await cursors.store_headers(connection, network, headers)
        waiting = await ledger.unplace_above(connection, network, height)
    log.warning("rewound", network=network, height=height, was=cursor.height, deposits=waiting)
    return waiting


def _refuse_unless_lower(cursor: Cursor | None, network: str, height: int) -> Cursor:
    if cursor is None or not 0 <= height < cursor.height:
        at = "not started" if cursor is None else f"at height {cursor.height}"
        raise Refused(f"network {network} is {at}: it can only be rewound to a lower height")
    return cursor


async def _window(chain: Chain, height: int, reorg_window: int) -> list[Header]:
    """The headers of the `reorg_window` + 1 blocks up to `height`, each linked to the one below."""
    heights = range(max(0, height - reorg_window), height + 1)
    headers = [h for h in await chain.headers(heights) if h is not None]
    linked = all(b.parent == a.hash for a, b in pairwise(headers))
    if len(headers) != len(heights) or not linked:
        raise Unavailable(f"the node does not serve the {len(heights)} headers up to {height}")
    return headers


async def _node_agrees(pool: asyncpg.Pool, chain: Chain, network: str, height: int) -> None:
    """Refuse a rewind to a block that is not ours: what stands below would stay wrong for good."""
    rows = await pool.fetch(
        """
        (select height, hash from block where network = $1 and height = $2)
        union
        (select height, hash from deposit
          where network = $1 and height <= $2 and state <> 'orphaned' and not unplaced
          order by height desc limit 1)
        """,
        network,
        height,
    )
    theirs = await chain.headers([row["height"] for row in rows]) if rows else []
    for row, header in zip(rows, theirs, strict=True):
        if header is None or header.hash != row["hash"]:
            raise Refused(
                f"the node has another block than ours at height {row['height']}: "
                f"rewind to a height below it that both have"
            )


async def _same_coin(pool: asyncpg.Pool, network: str, coin: str) -> None:
    known = await pool.fetchval(
        "select id from coin where network = $1 and asset = ''::bytea", network
    )
    if known != coin:
        raise Refused(f"networks.{network}.coin is {coin}, but this database knows it as {known}")


async def _require_again(pool: asyncpg.Pool, chain: Chain, network: str, rules: Rules) -> None:
    """The network's `confirmations` may have changed while the process was down."""
    async with pool.acquire() as connection, connection.transaction():
        cursor = await cursors.lock(connection, network)
        if cursor is not None:
            moment = Moment(cursor.height, cursor.finalized, await cursors.now(connection))
            booking = Booking(connection, network, chain.codec, rules.required, moment)
            await booking.require_again()
            await booking.store()
