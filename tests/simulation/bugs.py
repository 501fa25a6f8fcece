"""Bugs to plant, one at a time: what the simulation must find. Nothing of the program is changed.

Each is a mistake that others have made, or that a reader of the code could make tomorrow.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Final, TypeAlias
from unittest.mock import patch

import msgspec

from callbacks import claims, outcomes
from callbacks.answer import Answer
from callbacks.attempts import Attempts, Message
from indexer import ancestry, coverage, cursors, feed, ledger, scan
from indexer.chains import Block, Chain, Transfer, Watch
from indexer.chains.evm import EvmChain
from indexer.cursors import Cursor
from indexer.follower import Follower
from indexer.model import Deposit, Moment, State
from indexer.scan.claims import mark_read
from tests.simulation.database import Connection

Bug: TypeAlias = Callable[[], AbstractContextManager[object]]


class _Altering:
    """A connection that hears one part of statements otherwise than it was said."""

    def __init__(self, connection: Connection, part: str, instead: str) -> None:
        self._connection = connection
        self._part, self._instead = part, instead

    async def execute(self, statement: str, *arguments: Any) -> Any:
        return await self._connection.execute(self._altered(statement), *arguments)

    async def fetch(self, statement: str, *arguments: Any) -> Any:
        return await self._connection.fetch(self._altered(statement), *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Any:
        return await self._connection.fetchrow(self._altered(statement), *arguments)

    def _altered(self, statement: str) -> str:
        return statement.replace(self._part, self._instead)


def _saying(
    function: Callable[..., Awaitable[Any]], part: str, instead: str
) -> Callable[..., Awaitable[Any]]:
    """A function whose statements have another part. ValueError where it says no such part."""
    altered(inspect.getsource(function), part, instead)

    async def said(connection: Connection, *rest: Any, **more: Any) -> Any:
        return await function(_Altering(connection, part, instead), *rest, **more)

    return said


def altered(statement: str, part: str, instead: str) -> str:
    """A statement with another part. ValueError where it has no such part (any more)."""
    if part not in statement:
        raise ValueError(f"no statement says {part!r} any more: this bug plants nothing")
    return statement.replace(part, instead)


def cursor_before_commit() -> AbstractContextManager[object]:
    """The cursor's move is committed by itself, and what the blocks pay after it."""
    move = cursors.move

    async def moved(connection: Connection, *rest: Any) -> Moment:
        moment = await move(connection, *rest)
        await connection.execute("commit")
        await connection.execute("begin")
        return moment

    return patch.object(cursors, "move", moved)


def ordinal_of_the_block() -> AbstractContextManager[object]:
    """A transfer's number counts from the beginning of its block, as a log's index does."""
    transfers = EvmChain.transfers

    def numbered(chain: EvmChain, block: Block, watch: Watch) -> list[Transfer]:
        found = transfers(chain, block, watch)
        return [msgspec.structs.replace(each, ordinal=at) for at, each in enumerate(found)]

    return patch.object(EvmChain, "transfers", numbered)


@contextmanager
def no_watch_version() -> Iterator[None]:
    """What was matched is committed, whatever is watched by now."""
    lock, move = Follower._lock, _saying(cursors.move, "and watch_version = $4", "and $4 >= 0")

    async def locked(follower: Follower, connection: Connection, seen: Cursor) -> Cursor:
        found = await lock(follower, connection, seen)
        return replace(found, watch_version=follower._watch.version)

    with patch.object(Follower, "_lock", locked), patch.object(cursors, "move", move):
        yield


def no_token() -> AbstractContextManager[object]:
    """Whoever has sent a delivery settles it, whosever it is by then."""
    statement = altered(outcomes._SETTLE, "and d.lease_token = o.token", "")
    return patch.object(outcomes, "_SETTLE", statement)


@contextmanager
def orphan_is_overlooked() -> Iterator[None]:
    """What is mined again is inserted on conflict do nothing, over its orphaned row."""
    deposits_of, insert = ledger.deposits_of, ledger._insert

    async def standing(*arguments: Any) -> list[Deposit]:
        return [each for each in await deposits_of(*arguments) if each.state is not State.ORPHANED]

    async def inserted(connection: Connection, rows: Sequence[Deposit], *rest: Any) -> int:
        await insert(connection, rows, *rest)
        return len(rows)

    with patch.object(ledger, "deposits_of", standing), patch.object(ledger, "_insert", inserted):
        yield


def numbered_outside_the_lock() -> AbstractContextManager[object]:
    """The next position is read first, and written when the events have theirs."""

    async def taken(connection: Connection, wanted: Mapping[str, int]) -> dict[str, int]:
        accounts = sorted(wanted)
        rows = await connection.fetch(
            "select id, position from account where id = any ($1)", accounts
        )
        before = {row["id"]: row["position"] for row in rows}
        await connection.executemany(
            "update account set position = $2 where id = $1",
            [(account, before[account] + wanted[account]) for account in accounts],
        )
        return before

    return patch.object(feed, "take_positions", taken)


def branch_by_height() -> AbstractContextManager[object]:
    """A block of ours is the node's where the node has one at that height."""

    async def same(chain: Chain, heights: Sequence[int], stored: Mapping[int, bytes]) -> list[bool]:
        return [height in stored for height in heights]

    return patch.object(ancestry, "_same", same)


def scan_holds_nothing() -> AbstractContextManager[object]:
    """A scan looks whether its blocks are ours, and books when they may not be any more."""
    return patch.object(cursors, "hold_headers", _saying(cursors.hold_headers, "for share", ""))


def scan_forgotten() -> AbstractContextManager[object]:
    """What is activated is followed from now on; the past that it asked for is not read."""
    queue = coverage.queue_scan

    async def queued(*arguments: Any, version: int | None = None, **more: Any) -> None:
        if version is None:
            await queue(*arguments, **more)

    return patch.object(coverage, "queue_scan", queued)


def later_scan_is_read() -> AbstractContextManager[object]:
    """Blocks are read for all scans that want them by now, those of later registrations too."""
    marked = _saying(mark_read, "where id = any ($1)", "where $1::bigint[] is not null")
    return patch.object(scan, "mark_read", marked)


def retry_with_other_bytes() -> AbstractContextManager[object]:
    """Each attempt renders its body anew."""
    send = Attempts.send

    async def sent(attempts: Attempts, message: Message) -> Answer:
        body = message.body + b" " * (message.number - 1)
        return await send(attempts, message._replace(body=body))

    return patch.object(Attempts, "send", sent)


def retry_with_another_id() -> AbstractContextManager[object]:
    """Each attempt has a webhook-id of its own."""
    send = Attempts.send

    async def sent(attempts: Attempts, message: Message) -> Answer:
        return await send(attempts, message._replace(event=f"{message.event}-{message.number}"))

    return patch.object(Attempts, "send", sent)


def activated_by_id() -> AbstractContextManager[object]:
    """New addresses are those whose id is above the last one that was activated."""
    statement = altered(
        coverage._ACTIVATE_ADDRESSES,
        "and state = 'pending'",
        """and state = 'pending'
           and id > (select coalesce(max(id), 0) from watched_address where state = 'active')""",
    )
    return patch.object(coverage, "_ACTIVATE_ADDRESSES", statement)


def leased_is_claimed() -> AbstractContextManager[object]:
    """What is due is claimed, though another has it in hand."""
    statement = altered(claims._CLAIM, f"{claims._FREE} and", "")
    return patch.object(claims, "_CLAIM", statement)


def later_overtakes() -> AbstractContextManager[object]:
    """What is due is claimed, whatever of its deposit was not delivered yet."""
    statement = altered(claims._CLAIM, f"and {claims._FIRST}", "")
    return patch.object(claims, "_CLAIM", statement)


BUGS: Final[Mapping[str, Bug]] = {
    bug.__name__.replace("_", "-"): bug
    for bug in (
        cursor_before_commit,
        ordinal_of_the_block,
        no_watch_version,
        no_token,
        orphan_is_overlooked,
        numbered_outside_the_lock,
        branch_by_height,
        scan_holds_nothing,
        scan_forgotten,
        later_scan_is_read,
        retry_with_other_bytes,
        retry_with_another_id,
        activated_by_id,
        leased_is_claimed,
        later_overtakes,
    )
}
