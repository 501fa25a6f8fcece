"""Who paid: the addresses that a transaction's inputs reveal or are remembered to spend from.

An output to a watched address whose spending will reveal nothing (UTXO: P2TR, P2PK) is remembered
when it is seen. What can't be known is unknown, never a stranger (P113).

It is remembered for good, spent or not (230 bytes an output): a reorganisation may unspend it, and
a backfill may read the block that spent it at any time, for an address registered since. Without it
what an own wallet paid would be credited there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import asyncpg

from indexer.chains import Transfer

Outpoint: TypeAlias = tuple[bytes, int]  # transaction, index


async def remember(
    connection: asyncpg.Connection,
    network: str,
    transfers: Iterable[Transfer],
    watched: Collection[bytes],
) -> None:
    """Note the outputs to watched addresses whose spending will name nobody."""
    noted = [t for t in transfers if t.concealed and t.recipient in watched]
    if noted:
        await connection.execute(
            """
            insert into seen_output (network, tx, index, address)
            select $1, * from unnest($2::bytea[], $3::bigint[], $4::bytea[])
                on conflict do nothing
            """,
            network,
            [t.tx for t in noted],
            [t.ordinal for t in noted],
            [t.recipient for t in noted],
        )


async def recall(
    connection: asyncpg.Connection, network: str, transfers: Sequence[Transfer]
) -> dict[Outpoint, bytes]:
    """Addresses of the outputs that these transfers spend without naming them, where noted."""
    spent = list({outpoint for t in transfers for outpoint in t.unrevealed})
    if not spent:
        return {}
    rows = await connection.fetch(
        """
        select tx, index, address
          from seen_output join unnest($2::bytea[], $3::bigint[]) as spent(tx, index)
         using (tx, index)
         where network = $1
        """,
        network,
        [tx for tx, _ in spent],
        [index for _, index in spent],
    )
    return {(row["tx"], row["index"]): row["address"] for row in rows}


def payers(transfer: Transfer, noted: Mapping[Outpoint, bytes]) -> set[bytes]:
    """Every address known to have paid for a transfer."""
    found = set(transfer.senders)
    if transfer.sender is not None:
        found.add(transfer.sender)
    return found | {noted[outpoint] for outpoint in transfer.unrevealed if outpoint in noted}
