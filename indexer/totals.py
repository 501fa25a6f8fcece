"""What an account's deposits of a coin sum up to, and how many a network has, by state.

Both are kept beside the deposits.

Sums over millions of rows would take seconds. Each event moves its amount from the sum of the state
before to that of the state after, in the event's own transaction and under the lock on its account,
which whoever appends events holds: so nobody waits for anybody here. Moves without an event are
those between `ignored` and `orphaned`, which no sum counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import asyncpg

from indexer.model import Deposit, Event, State

# The sum that counts a deposit in this state; in the others none does.
_SUMS: Final[Mapping[State | None, int]] = {
    State.DETECTED: 0,
    State.HELD: 1,
    State.CONFIRMED: 2,
    State.FINALIZED: 2,
}

_ADD: Final = """
    insert into total as t (account, coin, detected, held, confirmed)
    select * from unnest($1::text[], $2::text[], $3::numeric[], $4::numeric[], $5::numeric[])
        on conflict (account, coin) do update
       set detected = t.detected + excluded.detected, held = t.held + excluded.held,
           confirmed = t.confirmed + excluded.confirmed
"""


async def add(connection: asyncpg.Connection, events: Iterable[Event]) -> None:
    """Count what these events moved; the caller holds the locks on their accounts."""
    moved: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for event in events:
        deposit = event.deposit
        sums = moved[deposit.account, deposit.coin]
        if (before := _SUMS.get(deposit.previous)) is not None:
            sums[before] -= deposit.units
        if (after := _SUMS.get(event.state)) is not None:
            sums[after] += deposit.units
    changed = [(*key, *sums) for key, sums in moved.items() if any(sums)]
    if changed:
        await connection.execute(_ADD, *map(list, zip(*changed, strict=True)))


_COUNT: Final = """
    insert into deposit_count as c (network, state, count)
    select * from unnest($1::text[], $2::deposit_state[], $3::bigint[])
        on conflict (network, state) do update set count = c.count + excluded.count
"""


async def count(connection: asyncpg.Connection, deposits: Iterable[Deposit]) -> None:
    """Count what these deposits moved since they were loaded: the last locks of a transaction."""
    moved: Counter[tuple[str, State]] = Counter()
    for deposit in deposits:
        if deposit.state is not deposit.stored:
            for state, by in ((deposit.stored, -1), (deposit.state, 1)):
                if state is not None:
                    moved[deposit.network, state] += by
            deposit.stored = deposit.state
    changed = sorted((*key, by) for key, by in moved.items() if by)
    if changed:
        await connection.execute(_COUNT, *map(list, zip(*changed, strict=True)))
