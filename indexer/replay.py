"""Past blocks, read again and held against what is stored.

The decoder, the proofs and the rules are those of a scan, which also writes what is missing where
that is asked for. Without it every transaction is rolled back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import asyncpg
import structlog

from indexer import config, coverage, ledger, origin
from indexer.chains import Chain, Codec, Transfer
from indexer.cursors import Stale
from indexer.follower import Follower
from indexer.model import Coin, Deposit, Place, Refused, State, Unavailable, format_amount
from indexer.recording import About
from indexer.scan.booking import Ground, PastBooking, Rules, survey
from indexer.scan.reading import Reading, read
from indexer.watchset import WatchSet, Widened

CHUNK_BLOCKS: Final = 100  # read between two looks at what is watched
COMPARED_AT_ONCE: Final = 500  # transfers, about: for so long a follower may have to wait
BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # after failures in a row; then it is given up

log = structlog.get_logger()


class Sign(StrEnum):
    """How a deposit of the chain and one that is stored compare."""

    SAME = "="
    MISSING = "+"  # here
    NOT_IN_CHAIN = "-"
    DIFFERS = "~"


@dataclass(frozen=True, slots=True)
class Line:
    """One deposit: as it is stored, or where it is missing as the chain has it.

    `differs`: what the chain has otherwise, None where it has none (a sender that is not known).
    """

    sign: Sign
    deposit: Deposit
    differs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """What the blocks first..last came to."""

    first: int
    last: int
    lines: list[Line]
    coins: Mapping[bytes, Coin]
    written: int  # deposits


class Replay:
    """One network's stored deposits against the blocks that a chain gives.

    `write`: book what is missing or differs. `recorded`: what the chain has, where that is a
    recording.
    """

    def __init__(
        self,
        network: str,
        rules: Rules,
        chain: Chain,
        pool: asyncpg.Pool,
        watch: WatchSet,
        *,
        write: bool = False,
        recorded: About | None = None,
    ) -> None:
        self._network = network
        self._chain = chain
        self._pool = pool
        self._watch = watch
        self._write = write
        self._recorded = recorded
        self._booking = PastBooking(network, rules, chain)
        self._removed: set[bytes] | None = None

    async def compare(self, first: int, last: int) -> AsyncGenerator[Compared, None]:
        """Blocks first..last, in pieces.

        What moves meanwhile is read again. Raises Refused where we are not so far, and Unavailable
        where the chain falls short for good, or has other blocks than ours.
        """
        async with self._pool.acquire() as connection:
            self._refuse_beyond(await survey(connection, self._network), last)
        upcoming, failures = first, 0
        while upcoming <= last:
            try:
                async for some in self._pass(upcoming, min(upcoming + CHUNK_BLOCKS - 1, last)):
                    upcoming, failures = some.last + 1, 0
                    yield some
            except (Stale, Unavailable) as problem:
                lasting = self._recorded is not None and isinstance(problem, Unavailable)
                if lasting or failures == len(BACKOFF_SECONDS):
                    raise Unavailable(str(problem)) from None
                log.info("again", network=self._network, reason=str(problem))
                await asyncio.sleep(BACKOFF_SECONDS[failures])
                failures += 1

    async def _pass(self, first: int, last: int) -> AsyncGenerator[Compared, None]:
        ground, watch = await self._survey(first, last)
        reading = await read(self._chain, watch, first, last)
        if self._recorded is None or self._recorded.last >= ground.lowest:
            await self._booking.confirm(ground, reading)
        elif self._write:
            raise Refused(
                f"the recording ends at block {self._recorded.last}, below {ground.lowest}, the "
                "oldest whose hash is stored: nothing says that its blocks are ours, so nothing "
                "is written from it"
            )
        for part in reading.parts(COMPARED_AT_ONCE):
            async with self._pool.acquire() as connection:
                some = await self._piece(connection, ground, part)
            yield some

    async def _survey(self, first: int, last: int) -> tuple[Ground, Widened]:
        """Where we stand, and what to look for: also what nobody watches any more."""
        async with self._pool.acquire() as connection:
            ground = await survey(connection, self._network)
            ground = self._refuse_beyond(ground, last)
            await self._watch.refresh(connection)
            if self._removed is None:
                self._removed = await _removed(connection, self._network, first)
            addresses, assets = await ledger.addresses_in(connection, self._network, first, last)
        return ground, Widened(self._watch, addresses | self._removed, assets)

    def _refuse_beyond(self, ground: Ground | None, last: int) -> Ground:
        height = None if ground is None else ground.cursor.height
        if ground is None or ground.cursor.height < last:
            at = "has not started yet" if height is None else f"is at block {height}"
            raise Refused(f"{self._network} {at}: there is no block {last} to compare")
        return ground

    async def _piece(
        self, connection: asyncpg.Connection, ground: Ground, part: Reading
    ) -> Compared:
        txs = list({t.tx for found in part.found for t in found.transfers})
        looking = connection.transaction()
        await looking.start()
        try:
            expected = await self._booking.expect(connection, ground, part)
            stored = await ledger.deposits_in(connection, self._network, txs, part.first, part.last)
        finally:
            await looking.rollback()
        lines = compare(part, stored, expected)
        coins = await ledger.coins(
            connection, self._network, {line.deposit.asset for line in lines}
        )
        written = 0
        if self._write and any(line.sign in (Sign.MISSING, Sign.DIFFERS) for line in lines):
            async with connection.transaction():
                written = (await self._booking.book(connection, ground, part)).deposits
        return Compared(part.first, part.last, lines, coins, written)


def compare(part: Reading, stored: Sequence[Deposit], expected: Sequence[Deposit]) -> list[Line]:
    """A line for each deposit that is stored or should be, in the order of the chain."""
    moved = {
        (t.tx, t.recipient, t.asset, t.ordinal): (found.place, t)
        for found in part.found
        for t in found.transfers
    }
    lines: list[Line] = []
    for deposit in stored:
        here = part.first <= deposit.place.height <= part.last
        there = moved.get((deposit.tx, deposit.address, deposit.asset, deposit.ordinal))
        if there is not None:
            lines.append(_compared(deposit, *there))
        elif here and deposit.state is not State.ORPHANED:
            lines.append(Line(Sign.NOT_IN_CHAIN, deposit))
    known = {deposit.id for deposit in stored}
    lines += [Line(Sign.MISSING, deposit) for deposit in expected if deposit.id not in known]
    return sorted(lines, key=lambda line: (line.deposit.place.height, line.deposit.id))


def _compared(deposit: Deposit, place: Place, transfer: Transfer) -> Line:
    if deposit.state is State.ORPHANED:
        return Line(Sign.MISSING, deposit, {"block": place})
    differs: dict[str, Any] = {}
    if deposit.units != transfer.units:
        differs["amount"] = transfer.units
    if deposit.sender != transfer.sender:
        differs["fromAddress"] = transfer.sender
    if (deposit.place.height, deposit.place.hash) != (place.height, place.hash):
        differs["block"] = place
    return Line(Sign.DIFFERS if differs else Sign.SAME, deposit, differs)


def row(line: Line, coins: Mapping[bytes, Coin], codec: Codec) -> dict[str, Any]:
    """A line as JSON has it; under `chain` what the chain has otherwise."""
    deposit, decimals = line.deposit, coins[line.deposit.asset].decimals

    def shown(name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, Place):
            return {"blockHeight": value.height, "blockHash": codec.format_hash(value.hash)}
        if name == "amount":
            return {name: format_amount(value, decimals)}
        return {name: None if value is None else codec.format_address(value)}

    return {
        "sign": line.sign.value,
        "id": deposit.id,
        "account": deposit.account,
        "coin": deposit.coin,
        "transactionHash": codec.format_hash(deposit.tx),
        "ordinal": deposit.ordinal,
        "toAddress": codec.format_address(deposit.address),
        **shown("fromAddress", deposit.sender),
        **shown("amount", deposit.units),
        **shown("block", deposit.place),
        "status": deposit.state,
        "chain": {
            k: v for name, value in line.differs.items() for k, v in shown(name, value).items()
        },
    }


async def begin(pool: asyncpg.Pool, chain: Chain, settings: config.Network, first: int) -> None:
    """Let a database that never followed a network stand where a recording ends.

    Its newest block becomes the cursor, with the recorded headers below it that a reorganisation
    may ask for, and what the node called final by then is final. `first`: the oldest that it has.
    """
    await pool.execute(
        "insert into network (id, family) values ($1, $2) on conflict do nothing",
        settings.id,
        settings.family,
    )
    await origin.identify(pool, settings.id, await chain.connect())
    tip = await chain.tip()
    window = min(settings.reorg_window, tip.height - first)
    rules = settings.model_copy(update={"start": "latest", "reorg_window": window})
    await origin.begin(pool, chain, settings.id, rules)
    watch = WatchSet(settings.id, settings.reorg_window)
    await Follower(settings.id, settings, chain, pool, watch).step()


async def activate(pool: asyncpg.Pool, network: str) -> None:
    """Let what was registered a moment ago be watched, where no follower does that."""
    async with pool.acquire() as connection:
        while await coverage.activate(connection, network):
            pass


async def scanning(pool: asyncpg.Pool, network: str, first: int, last: int) -> bool:
    """Whether some of these blocks are still to be scanned: what is missing there may come."""
    found: bool = await pool.fetchval(
        """
        select exists (select from scan
                        where network = $1 and state = 'open' and unread && int8range($2, $3, '[]'))
        """,
        network,
        first,
        last,
    )
    return found


async def _removed(connection: asyncpg.Connection, network: str, first: int) -> set[bytes]:
    """Addresses that are not watched any more, but were in or above a block."""
    rows = await connection.fetch(
        """
        select distinct address from watched_address
         where network = $1 and state = 'removed' and removed_from > $2
        """,
        network,
        first,
    )
    return {row["address"] for row in rows}
