"""Probes: one delivery at a time tries an endpoint whose breaker is open, the deposits in turn."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from callbacks import claims
from callbacks.claims import Claim
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import claim


async def shut(pool: asyncpg.Pool, vault: Vault, deposits: int, events: int = 1) -> str:
    """An endpoint whose breaker is open and may be probed."""
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    for number in range(deposits):
        await rows.history(pool, number, events)
    await pool.execute(
        "insert into endpoint_health (endpoint, failures, faults, open_until, open_seconds) "
        "values ($1, 5, 5, clock(), 60)",
        name,
    )
    return name


async def probe(pool: asyncpg.Pool, endpoint: str) -> list[Claim]:
    lots = await claims.probe(pool, [endpoint], 60.0)
    return [each for lot in lots for each in lot.claims]


async def again(pool: asyncpg.Pool) -> None:
    """The breaker's time is over once more, and nothing is leased."""
    await pool.execute("update endpoint_health set open_until = clock()")
    await pool.execute("update delivery set lease_token = null, leased_until = null")


async def deposit_of(pool: asyncpg.Pool, claimed: Claim) -> str:
    name: str = await pool.fetchval("select deposit from delivery where id = $1", claimed.id)
    return name


@pytest.mark.case(39)
async def test_while_it_is_open_nothing_is_claimed_but_one_probe(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shut(pool, vault, 5)
    assert await claim(pool) == []
    [only] = await probe(pool, name)
    assert only.probe
    assert not only.early
    await pool.execute("update delivery set lease_token = null, leased_until = null")
    assert await probe(pool, name) == []
    left = await pool.fetchval(
        "select extract(epoch from open_until - clock())::float8 from endpoint_health"
    )
    assert 55 < left <= 60


async def test_it_is_due_again_when_its_time_is_over_not_before(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shut(pool, vault, 1)
    assert [(each.endpoint, each.probe) for each in await claims.due(pool)] == [(name, True)]
    await pool.execute("update endpoint_health set open_until = clock() + interval '1 minute'")
    assert await claims.due(pool) == []
    assert await probe(pool, name) == []


async def test_a_paused_endpoint_is_not_probed_either(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 1)
    await pool.execute("update endpoint_health set paused_until = clock() + interval '1 minute'")
    assert (await claims.due(pool), await probe(pool, name)) == ([], [])
    await pool.execute("update endpoint_health set paused_until = clock(), open_until = null")
    assert len(await claim(pool)) == 1


async def test_a_held_endpoint_is_not_probed(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 1)
    await pool.execute("update endpoint set state = 'paused'")
    assert (await claims.due(pool), await probe(pool, name)) == ([], [])


async def test_the_deposits_take_turns(pool: asyncpg.Pool, vault: Vault) -> None:
    """A message that a receiver can't digest must not keep its endpoint shut."""
    name = await shut(pool, vault, 4, events=2)
    turns = []
    for _ in range(8):
        [taken] = await probe(pool, name)
        turns.append(await deposit_of(pool, taken))
        await again(pool)
    assert turns[:4] == sorted(set(turns))
    assert turns[4:] == turns[:4]


async def test_deposits_that_are_not_due_are_passed_over(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 4)
    [first] = await probe(pool, name)
    await again(pool)
    deposits = [row["id"] for row in await pool.fetch("select id from deposit order by id")]
    await pool.execute(
        "update delivery set due_at = clock() + interval '1 hour' where deposit = $1", deposits[1]
    )
    [second] = await probe(pool, name)
    assert await deposit_of(pool, first) == deposits[0]
    assert await deposit_of(pool, second) == deposits[2]


async def test_a_deposits_first_event_is_the_probe(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 1, events=3)
    for _ in range(3):
        [taken] = await probe(pool, name)
        assert await pool.fetchval("select sequence from delivery where id = $1", taken.id) == 1
        await again(pool)


@pytest.mark.case(39)
async def test_where_nothing_is_due_the_soonest_tries_before_its_time(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    name = await shut(pool, vault, 3)
    await pool.execute(
        "update delivery set due_at = clock() + make_interval(hours => 10 - id::int)"
    )
    assert [(each.endpoint, each.probe) for each in await claims.due(pool)] == [(name, True)]
    [taken] = await probe(pool, name)
    assert taken.early
    assert taken.id == await pool.fetchval("select max(id) from delivery")


async def test_two_dispatchers_at_once_send_one_probe(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 9)
    for _ in range(5):
        taken = await asyncio.gather(*(probe(pool, name) for _ in range(4)))
        assert sum(len(each) for each in taken) == 1
        await again(pool)


async def test_half_open_no_more_is_claimed_than_has_room(pool: asyncpg.Pool, vault: Vault) -> None:
    name = await shut(pool, vault, 9)
    await pool.execute("update endpoint_health set open_until = null, room = 2")
    assert len(await claim(pool, busy={name: 1})) == 1
    assert await claim(pool, busy={name: 2}) == []
    [lot] = await claims.claim(pool, {name: claims.Want(0, 64)}, 100, 60.0)
    assert (len(lot.claims), lot.concurrency, lot.full) == (2, 2, True)
    assert all(each.ailing and not each.probe for each in lot.claims)
