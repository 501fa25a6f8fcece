"""An outbox to deliver: endpoints of one receiver, and events for them, each of its own deposit.

Written in bulk with the statements that matter the indexer's own: `make_deliveries` finds the
endpoints, fills the outbox and rings the bell.
"""

from __future__ import annotations

import time
from typing import Final

import asyncpg
import orjson

from callbacks.endpoints import Given, create_endpoint
from tests.bench.engine import NETWORK, vault

COIN: Final = "usdt_bench"
RATE: Final = 1000.0  # deliveries a second that an endpoint takes: never the limit here
CONCURRENCY: Final = 8  # deliveries at once that it takes
BATCH: Final = 500  # events of one transaction while an outbox is filled

_DEPOSITS: Final = """
    insert into deposit (id, account, network, tx, address, asset, ordinal, coin, units, height,
                         hash, time, required, first_state, state, sequence, counts)
    select given.id, given.account, $3, decode(lpad(to_hex(given.at), 64, '0'), 'hex'), '\\x01', '',
           0, $4, 1, 1, decode(repeat('0', 64), 'hex'), clock(), 12, 'detected', 'detected', 1,
           '{0,0,0,0,0,0}'
      from unnest($1::text[], $2::text[], $5::bigint[]) given (id, account, at)
"""
_EVENTS: Final = """
    insert into event (id, account, position, deposit, sequence, type, body)
    select given.id, given.account, given.at, given.deposit, 1, 'deposit.detected', given.body
      from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[])
           given (id, account, deposit, body, at)
"""


class Outbox:
    """A fresh database with one account for each endpoint. Events are numbered 0, 1, 2 …"""

    def __init__(self, pool: asyncpg.Pool, endpoints: int) -> None:
        self._pool = pool
        self._endpoints = endpoints

    async def begin(self, url: str) -> None:
        """Accounts and their endpoints, all of one receiver, and a coin."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("insert into network (id, family) values ($1, 'evm')", NETWORK)
            await connection.execute(
                "insert into coin (id, network, asset, name, symbol, decimals, covered_from) "
                "values ($1, $2, '', 'Bench', 'BEN', 6, 0)",
                COIN,
                NETWORK,
            )
            for number in range(self._endpoints):
                account = self._account(number)
                await connection.execute("insert into account (id, name) values ($1, $1)", account)
                given: Given = {
                    "url": f"{url}/endpoints/{number}",
                    "rate_limit": RATE,
                    "concurrency": CONCURRENCY,
                }
                await create_endpoint(connection, vault(), account, given)

    async def fill(self, count: int) -> None:
        """So many events are due."""
        for first in range(0, count, BATCH):
            await self.append(range(first, min(first + BATCH, count)))
        await self._pool.execute("analyze")

    async def append(self, numbers: range) -> tuple[list[str], float]:
        """The events of these numbers in one transaction: their ids, and when its commit began."""
        accounts = [self._account(number) for number in numbers]
        deposits = [f"dep_{number:026d}" for number in numbers]
        events = [f"evt_{number:026d}" for number in numbers]
        bodies = [body(number) for number in numbers]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_DEPOSITS, deposits, accounts, NETWORK, COIN, [*numbers])
            positions = [number // self._endpoints + 1 for number in numbers]
            await connection.execute(_EVENTS, events, accounts, deposits, bodies, positions)
            await connection.execute("select make_deliveries($1)", events)
            committing = time.time()
        return events, committing

    def _account(self, number: int) -> str:
        return f"account-{number % self._endpoints}"


def body(number: int) -> bytes:
    """Of the size and shape of a deposit's first event."""
    data = {
        "id": f"dep_{number:026d}",
        "sequence": 1,
        "account": "account",
        "network": NETWORK,
        "coin": COIN,
        "symbol": "BEN",
        "contractAddress": "0xdAC17F958D2ee523a2206206994597C13D831ec7",
        "decimals": 6,
        "transactionHash": f"0x{number:064x}",
        "ordinal": 0,
        "fromAddress": "0x71C7656EC7ab88b098defB751B7401B5f6d8976F",
        "toAddress": "0x281055Afc982d96fAB65b3a49cAc8b878184Cb16",
        "reference": f"user-{number}",
        "memo": None,
        "amount": "1000.000000",
        "amountUnits": "1000000000",
        "blockHeight": 21_000_000,
        "blockHash": f"0x{number:064x}",
        "blockTime": "2026-11-21T07:00:00.000000Z",
        "confirmations": 1,
        "requiredConfirmations": 12,
        "status": "detected",
        "previousStatus": None,
        "reason": None,
    }
    timestamp = "2026-11-21T07:00:00.000000Z"
    return orjson.dumps({"type": "deposit.detected", "timestamp": timestamp, "data": data})
