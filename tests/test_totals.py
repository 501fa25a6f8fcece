"""Sums that are kept beside the deposits: exact, however large, and each account's own."""

from __future__ import annotations

from typing import Any

import asyncpg

from indexer.model import MAX_UNITS
from tests.followed import ACCOUNTS, Rules, World
from tests.scripted import ADDRESSES, TOKEN, payment
from tests.test_promises import check_totals


async def totals(pool: asyncpg.Pool) -> dict[tuple[str, str], dict[str, Any]]:
    rows = await pool.fetch("select * from total")
    return {(r["account"], r["coin"]): dict(zip(r.keys(), r, strict=True)) for r in rows}


async def test_the_largest_amounts_there_are_add_up(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    await world.register("alice", ADDRESSES[0])
    world.chain.mine(
        payment(1, (ADDRESSES[0], MAX_UNITS)),
        payment(2, (ADDRESSES[0], MAX_UNITS), (ADDRESSES[0], 1)),
    )
    await world.settle()
    [total] = (await totals(pool)).values()
    assert (total["detected"], total["held"]) == (2 * MAX_UNITS + 1, 0)


async def test_a_deposit_moves_from_sum_to_sum_and_out_when_its_block_leaves(
    pool: asyncpg.Pool,
) -> None:
    world = await World.begin(pool, Rules(required=2))
    await world.register_coin()
    await world.change_coin(TOKEN, active=False)
    for account in ACCOUNTS:
        await world.register(account, ADDRESSES[0])
    paid, token = payment(1, (ADDRESSES[0], 5)), payment(2, (ADDRESSES[0], 7), asset=TOKEN)

    async def alice() -> list[tuple[str, int, int, int]]:
        await world.step()
        await check_totals(pool)
        return [
            (coin, row["detected"], row["held"], row["confirmed"])
            for (account, coin), row in sorted((await totals(pool)).items())
            if account == "alice"
        ]

    world.chain.mine(paid, token)
    assert await alice() == [("native", 5, 0, 0), ("tok", 0, 7, 0)]
    world.chain.mine()
    assert await alice() == [("native", 0, 0, 5), ("tok", 0, 7, 0)]
    world.chain.cut(2)
    for _ in range(3):
        world.chain.mine()
    assert await alice() == [("native", 0, 0, 0), ("tok", 0, 0, 0)]
    world.chain.mine(paid, token)
    assert await alice() == [("native", 5, 0, 0), ("tok", 0, 7, 0)]
    await world.change_coin(TOKEN, active=True)
    assert await alice() == [("native", 5, 0, 0), ("tok", 7, 0, 0)]
    for _ in range(20):
        world.chain.mine()
    assert await alice() == [("native", 0, 0, 5), ("tok", 0, 0, 7)]
