"""The dispatchers at work share the endpoints: each is one's, and soon another's who is lost."""

from __future__ import annotations

import asyncio

import asyncpg

from callbacks.members import Members

ENDPOINTS = [f"ep_{number}" for number in range(300)]


def owners(*members: Members) -> list[int]:
    """Of each endpoint, how many think that it is theirs."""
    return [sum(each.own(endpoint) for each in members) for endpoint in ENDPOINTS]


async def beat(*members: Members) -> None:
    for _ in range(2):  # the first does not hear of the last before the second time
        for each in members:
            await each.beat()


async def test_one_alone_has_all_once_it_is_known(pool: asyncpg.Pool) -> None:
    one = Members(pool)
    assert owners(one) == [0] * 300
    await beat(one)
    assert owners(one) == [1] * 300


async def test_several_share_evenly_and_none_has_what_another_has(pool: asyncpg.Pool) -> None:
    several = [Members(pool) for _ in range(3)]
    await beat(*several)
    assert owners(*several) == [1] * 300
    for each in several:
        assert 60 <= sum(each.own(endpoint) for endpoint in ENDPOINTS) <= 140


async def test_where_one_leaves_only_what_it_had_moves(pool: asyncpg.Pool) -> None:
    first, second, third = (Members(pool) for _ in range(3))
    await beat(first, second, third)
    before = {endpoint for endpoint in ENDPOINTS if first.own(endpoint)}
    await third.leave()
    assert not any(third.own(endpoint) for endpoint in ENDPOINTS)
    await beat(first, second)
    assert owners(first, second) == [1] * 300
    assert before <= {endpoint for endpoint in ENDPOINTS if first.own(endpoint)}


async def test_who_is_silent_has_nothing_and_others_have_it_all(pool: asyncpg.Pool) -> None:
    silent, other = Members(pool, 0.3), Members(pool, 0.3)
    await beat(silent, other)
    assert owners(silent, other) == [1] * 300
    await asyncio.sleep(0.4)
    assert not any(silent.own(endpoint) for endpoint in ENDPOINTS)
    await other.beat()
    assert owners(other) == [1] * 300
    assert await pool.fetchval("select count(*) from dispatcher") == 1
    await beat(silent, other)
    assert owners(silent, other) == [1] * 300
