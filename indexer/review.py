"""A person's decision on a deposit that no rule decides: released, or rejected."""

from __future__ import annotations

import asyncpg

from indexer import cursors
from indexer.booking import Booking
from indexer.chains import Codec
from indexer.model import Decision, Moment, Unavailable


async def review(
    connection: asyncpg.Connection,
    network: str,
    codec: Codec,
    confirmations: int | None,
    deposit: str,
    decision: Decision,
) -> None:
    """Carry out a decision, with its events, in the caller's transaction.

    `confirmations` is the network's own setting, None for "finalized". Refused where the deposit is
    in no state for that.
    """
    cursor = await cursors.lock(connection, network)
    if cursor is None:
        raise Unavailable(f"network {network} has not started yet")
    moment = Moment(cursor.height, cursor.finalized, await cursors.now(connection))
    booking = Booking(connection, network, codec, confirmations, moment)
    await booking.review(deposit, decision)
    await booking.store()
