"""The outbox in SQL: who may send what, in which order, and whose word about it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import claims as leases
from callbacks import endpoints, outcomes, signing
from callbacks.answer import Answer
from callbacks.claims import Claim
from callbacks.outcomes import Outcome
from indexer.secret import Vault
from tests import callback_rows as rows
from tests.callback_runs import claim, until

LEASE = 60.0


async def settle(pool: asyncpg.Pool, given: Sequence[Outcome]) -> set[int]:
    """The ids of those that were taken."""
    return set(await outcomes.settle(pool, given))


def delivered(claimed: Claim) -> Outcome:
    return Outcome(claimed, Answer(204, None), time.monotonic(), "delivered")


def failed(claimed: Claim, wait: float = 3600.0) -> Outcome:
    return Outcome(claimed, Answer(500, "status"), time.monotonic(), wait=wait)


def exhausted(claimed: Claim) -> Outcome:
    return Outcome(claimed, Answer(None, "timeout"), time.monotonic(), "exhausted", "attempts")


async def live(pool: asyncpg.Pool) -> list[Any]:
    return list(
        await pool.fetch(
            "select *, due_at <= clock() as due from delivery order by deposit, sequence"
        )
    )


def events(claims: Iterable[Claim]) -> list[str]:
    return [each.message.event for each in claims]


async def test_a_claim_hands_over_all_that_an_attempt_needs(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    name, secret = await rows.endpoint(pool, vault, "https://shop.example/in")
    deposit = await rows.deposit(pool, 1)
    event = await rows.event(pool, deposit, 1)
    [claimed] = await claim(pool)
    assert (claimed.message.endpoint, claimed.message.event, claimed.attempts) == (name, event, 0)
    assert claimed.message.url == "https://shop.example/in"
    assert claimed.message.body == await pool.fetchval(
        "select body from event where id = $1", event
    )
    [sealed] = claimed.message.secrets
    assert vault.decrypt(sealed, name) == signing.decode_secret(secret)
    assert await claim(pool) == []


async def test_secrets_are_stored_encrypted_and_sign_newest_first_until_they_expire(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    name, secret = await rows.endpoint(pool, vault, "https://shop.example/in")
    for plain, age, left in ((b"old", 10, 60), (b"gone", 20, -1)):
        await pool.execute(
            """
            insert into endpoint_secret (endpoint, secret, created_at, expires_at)
            values ($1, $2, clock() - $3::interval, clock() + $4::interval)
            """,
            name,
            vault.encrypt(plain, name),
            timedelta(minutes=age),
            timedelta(minutes=left),
        )
    stored = await pool.fetch("select secret from endpoint_secret")
    key = signing.decode_secret(secret)
    assert all(key not in row["secret"] and b"whsec" not in row["secret"] for row in stored)
    await rows.history(pool, 1, 1)
    [claimed] = await claim(pool)
    assert [vault.decrypt(sealed, name) for sealed in claimed.message.secrets] == [key, b"old"]


async def test_a_later_event_waits_for_the_one_before_it(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 3)
    await rows.history(pool, 2, 1)
    first, other = await claim(pool)
    assert await claim(pool) == []
    assert await settle(pool, [delivered(first), delivered(other)]) == {first.id, other.id}
    [second] = await claim(pool)
    assert second.message.event != first.message.event
    await settle(pool, [exhausted(second)])
    [third] = await claim(pool)
    assert len({first.message.event, second.message.event, third.message.event}) == 3


async def test_a_failed_head_takes_what_waits_behind_it_along(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    """So that claims need not step over waiting deliveries, however many there are."""
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 3)
    [head] = await claim(pool)
    await settle(pool, [failed(head)])
    waiting = await live(pool)
    assert [row["due"] for row in waiting] == [False] * 3
    assert len({row["due_at"] for row in waiting}) == 1
    assert [row["attempts"] for row in waiting] == [1, 0, 0]
    assert (waiting[0]["last_error"], waiting[0]["last_status"]) == ("status", 500)
    assert waiting[0]["lease_token"] is None


async def test_news_of_a_deposit_pulls_what_waits_before_it_to_now(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    deposit = await rows.history(pool, 1, 2)
    other = await rows.history(pool, 2, 1)
    claims = await claim(pool)
    await settle(pool, [failed(each) for each in claims])
    assert await claim(pool) == []
    await rows.event(pool, deposit, 3)
    due = {(row["deposit"], row["sequence"]) for row in await live(pool) if row["due"]}
    assert due == {(deposit, 1), (deposit, 2), (deposit, 3)}
    [again] = await claim(pool)
    assert (again.message.event, again.attempts) == (
        events(c for c in claims if c.id == again.id)[0],
        1,
    )
    assert other not in {deposit for deposit, _ in due}


async def test_news_leaves_a_delivery_in_hand_alone(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    deposit = await rows.history(pool, 1, 1)
    [head] = await claim(pool)
    await rows.event(pool, deposit, 2)
    assert await claim(pool) == []
    assert await settle(pool, [delivered(head)]) == {head.id}
    assert len(await claim(pool)) == 1


async def test_finished_deliveries_move_and_keep_their_id(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    await rows.history(pool, 2, 1)
    good, bad = await claim(pool)
    await settle(pool, [delivered(good), exhausted(bad)])
    assert await live(pool) == []
    done = await pool.fetch("select * from delivery_done order by id")
    assert [
        (d["id"], d["endpoint"], d["event"], d["state"], d["reason"], d["attempts"]) for d in done
    ] == [
        (good.id, name, good.message.event, "delivered", None, 1),
        (bad.id, name, bad.message.event, "exhausted", "attempts", 1),
    ]
    assert [(d["last_error"], d["last_status"]) for d in done] == [(None, 204), ("timeout", None)]


async def test_a_settled_attempt_leaves_its_row(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    [first] = await claim(pool)
    began = time.monotonic() - 2.0
    answer = Answer(500, "status", address="192.0.2.7", dns_ms=1.5, total_ms=8.5, head="oh")
    await settle(pool, [Outcome(first, answer, began, wait=0.0)])
    [second] = await claim(pool)
    assert second.message.number == 2
    await settle(pool, [Outcome(second, Answer(429, "status"), began, wait=60.0, charged=False)])
    failed_one, uncharged = await pool.fetch(
        "select *, host(address) as host, extract(epoch from clock() - at)::float8 as age "
        "from attempt order by number"
    )
    wanted = {
        "delivery": first.id,
        "number": 1,
        "charged": True,
        "status": 500,
        "error": "status",
        "host": "192.0.2.7",
        "dns_ms": 1.5,
        "connect_ms": None,
        "total_ms": 8.5,
        "head": "oh",
    }
    assert {name: failed_one[name] for name in wanted} == wanted
    assert 2.0 <= failed_one["age"] < 10.0
    assert (uncharged["number"], uncharged["charged"], uncharged["status"]) == (2, False, 429)
    [waiting] = await live(pool)
    assert (waiting["requests"], waiting["attempts"]) == (2, 1)


async def test_a_claim_writes_to_no_index(pool: asyncpg.Pool, vault: Vault) -> None:
    """Its rows' new versions stand beside the old ones: an index entry each would cost as much."""
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in", concurrency=64)
    for number in range(150):
        await rows.history(pool, number, 1)
    assert len(await claim(pool, slots=150, per_endpoint=150)) == 150

    async def counted() -> Any:
        return await pool.fetchrow(
            "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables "
            "where relname = 'delivery' and n_tup_upd > 0"
        )

    updated, in_place = await until(counted)
    assert (updated, in_place) == (150, 150)


async def test_an_outcome_that_the_database_does_not_take_costs_no_other(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    for number in range(3):
        await rows.history(pool, number, 1)
    first, odd, third = await claim(pool)
    answer = Answer(200, None, head="NUL \x00")
    with capture_logs() as logs:
        taken = await settle(
            pool,
            [
                delivered(first),
                Outcome(odd, answer, time.monotonic(), "delivered"),
                delivered(third),
            ],
        )
    assert taken == {first.id, third.id}
    assert [(line["log_level"], line["delivery"]) for line in logs] == [("critical", odd.id)]
    [left] = await live(pool)
    assert (left["id"], left["lease_token"]) == (odd.id, odd.token)


async def test_a_delivery_may_be_asked_to_wait_for_ever(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    await pool.execute("update delivery set requests = 40_000")
    [claimed] = await claim(pool)
    paused = Outcome(claimed, Answer(429, "status"), time.monotonic(), wait=1.0, charged=False)
    assert await settle(pool, [paused]) == {claimed.id}
    assert await pool.fetchval("select number from attempt") == 40_001


@pytest.mark.case(30)
async def test_an_outcome_after_the_lease_is_refused_by_the_fence(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 2)
    [stale] = await claim(pool, lease=0.0)
    [fresh] = await claim(pool)
    assert (stale.id, stale.message.event, stale.message.body) == (
        fresh.id,
        fresh.message.event,
        fresh.message.body,
    )
    for outcome in (delivered(stale), failed(stale), exhausted(stale)):
        assert await settle(pool, [outcome]) == set()
    await leases.release(pool, [stale])
    held = (await live(pool))[0]
    assert (held["lease_token"], held["attempts"]) == (fresh.token, 0)
    assert await settle(pool, [delivered(fresh)]) == {fresh.id}
    assert await settle(pool, [delivered(fresh)]) == set()


async def test_released_deliveries_are_due_at_once_and_not_charged(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    claims = await claim(pool)
    await leases.release(pool, claims)
    [again] = await claim(pool)
    assert again.attempts == 0
    assert again.token != claims[0].token


async def test_a_backlog_leaves_room_for_every_other_endpoint(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    crowded, _ = await rows.endpoint(pool, vault, "https://crowded.example/", events=["*.detected"])
    for number in range(40):
        await rows.history(pool, number, 1)
    quiet = {
        (await rows.endpoint(pool, vault, f"https://quiet{n}.example/", events=["*.confirmed"]))[0]
        for n in range(5)
    }
    deposit = await rows.deposit(pool, 1000)
    await rows.event(pool, deposit, 1, "deposit.confirmed")
    by_endpoint = [each.message.endpoint for each in await claim(pool, slots=12)]
    assert quiet < set(by_endpoint)
    assert by_endpoint.count(crowded) == 2
    assert len(await claim(pool, slots=12, busy={crowded: 6})) == 2
    assert await claim(pool, slots=12, busy={crowded: 8}) == []


async def test_nothing_is_claimed_beyond_the_slots(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    for n in range(6):
        await rows.endpoint(pool, vault, f"https://e{n}.example/")
    await rows.history(pool, 1, 1)
    assert len(await claim(pool, slots=4)) == 4
    assert len(await claim(pool, slots=4)) == 2


async def test_held_endpoints_are_passed_over(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.history(pool, 1, 1)
    for state in ("paused", "disabled"):
        await pool.execute("update endpoint set state = $1", state)
        assert await claim(pool) == []
    await rows.history(pool, 2, 1)
    assert len(await live(pool)) == 2
    await pool.execute("update endpoint set state = 'active' where id = $1", name)
    assert len(await claim(pool)) == 2


async def test_two_claims_at_once_never_share_a_delivery(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    for n in range(4):
        await rows.endpoint(pool, vault, f"https://e{n}.example/")
    for number in range(20):
        await rows.history(pool, number, 2)
    taken: list[Claim] = []
    for _ in range(10):
        for claims in await asyncio.gather(*(claim(pool, slots=20) for _ in range(4))):
            taken += claims
    assert len({each.id for each in taken}) == len(taken) == 4 * 20


@pytest.mark.case(33)
async def test_a_rollback_makes_no_delivery(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await rows.history(connection, 1, 1)
        assert await claim(pool) == []
        await transaction.rollback()
    assert await live(pool) == []
    assert await claim(pool) == []


@pytest.mark.parametrize(
    ("given", "kind", "wanted"),
    [
        ({}, "deposit.confirmed", True),
        ({}, "deposit.finalized", False),
        ({"events": ["deposit.*"]}, "deposit.finalized", True),
        ({"events": ["*"]}, "deposit.finalized", True),
        ({"events": ["deposit.held", "deposit.orphaned"]}, "deposit.orphaned", True),
        ({"events": ["deposit.held"]}, "deposit.orphaned", False),
        ({"events": ["deposit_held"]}, "deposit.held", False),
        ({"networks": [rows.NETWORK]}, "deposit.detected", True),
        ({"networks": ["other"]}, "deposit.detected", False),
        ({"coins": [rows.COIN]}, "deposit.detected", True),
        ({"coins": ["other"], "networks": [rows.NETWORK]}, "deposit.detected", False),
    ],
)
async def test_an_endpoint_gets_what_its_filters_ask_for(
    pool: asyncpg.Pool, vault: Vault, given: dict[str, Any], kind: str, wanted: bool
) -> None:
    await rows.world(pool)
    await rows.endpoint(pool, vault, "https://shop.example/in", **given)
    await rows.event(pool, await rows.deposit(pool, 1), 1, kind)
    assert len(await live(pool)) == int(wanted)


async def test_no_delivery_for_another_account_or_for_a_silent_deposit(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await rows.world(pool)
    await rows.world(pool, "other")
    await rows.endpoint(pool, vault, "https://other.example/in", account="other")
    await rows.history(pool, 1, 1)
    await rows.endpoint(pool, vault, "https://shop.example/in")
    await rows.event(pool, await rows.deposit(pool, 2, silent=True), 1)
    assert await live(pool) == []


async def remove(pool: asyncpg.Pool, name: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await endpoints.delete_endpoint(connection, name)


async def test_deleting_an_endpoint_cancels_what_is_live(pool: asyncpg.Pool, vault: Vault) -> None:
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    kept, _ = await rows.endpoint(pool, vault, "https://kept.example/in")
    await rows.history(pool, 1, 2)
    claims = {each.message.endpoint: each for each in await claim(pool)}
    await remove(pool, name)
    await remove(pool, name)  # nothing is there any more
    assert {row["endpoint"] for row in await live(pool)} == {kept}
    done = await pool.fetch("select * from delivery_done")
    assert [(d["endpoint"], d["state"], d["reason"]) for d in done] == [
        (name, "cancelled", "endpoint_deleted")
    ] * 2
    assert await settle(pool, [delivered(claims[name])]) == set()
    assert (
        await pool.fetchval("select count(*) from endpoint_secret where endpoint = $1", name) == 0
    )


async def test_deleting_an_endpoint_while_events_arrive_hurts_neither(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    """The indexer's transaction must not fail on a foreign key, nor may a delivery be lost."""
    await rows.world(pool)
    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    deposit = await rows.deposit(pool, 1)
    async with pool.acquire() as connection, connection.transaction():
        await endpoints.delete_endpoint(connection, name)
        arriving = asyncio.create_task(rows.event(pool, deposit, 1))
        await asyncio.sleep(0.1)
        assert not arriving.done()
    await asyncio.wait_for(arriving, 5)
    assert await live(pool) == []

    name, _ = await rows.endpoint(pool, vault, "https://shop.example/in")
    async with pool.acquire() as connection, connection.transaction():
        await rows.event(connection, deposit, 2)
        deleting = asyncio.create_task(remove(pool, name))
        await asyncio.sleep(0.1)
        assert not deleting.done()
    await asyncio.wait_for(deleting, 5)
    assert await pool.fetchval("select state from delivery_done") == "cancelled"


class Chaos:
    """An indexer and several dispatchers at work on one outbox, some of them too slow."""

    def __init__(self, pool: asyncpg.Pool, deposits: list[str]) -> None:
        self.pool = pool
        self.deposits = deposits
        self.rng = Random(34)
        self.places: dict[str, tuple[str, int]] = {}  # of each event: its deposit and sequence
        self.sent: list[tuple[str, str]] = []  # endpoint and event
        self.indexed = False

    async def index(self, count: int) -> None:
        for sequence in range(1, count + 1):
            for deposit in self.deposits:
                self.places[await rows.event(self.pool, deposit, sequence)] = (deposit, sequence)
        self.indexed = True

    async def dispatch(self) -> None:
        while not self.indexed or await live(self.pool):
            lease = self.rng.choice([LEASE, LEASE, 0.0])
            claims = await claim(self.pool, slots=self.rng.randint(1, 12), lease=lease)
            self.sent += [(each.message.endpoint, each.message.event) for each in claims]
            self.rng.shuffle(claims)
            await settle(self.pool, [self.verdict(each) for each in claims])

    def verdict(self, claimed: Claim) -> Outcome:
        return failed(claimed, 0.0) if self.rng.random() < 0.2 else delivered(claimed)

    def inversions(self) -> int:
        seen: dict[tuple[str, str], int] = {}
        found = 0
        for endpoint, event in self.sent:
            deposit, sequence = self.places[event]
            found += sequence < seen.get((endpoint, deposit), 0)
            seen[endpoint, deposit] = sequence
        return found


@pytest.mark.case(34, 37)
async def test_statements_at_once_keep_order_and_never_deadlock(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    """Claims, settlings, stale settlings, news and a deletion at once on one outbox."""
    await rows.world(pool)
    deleted, *kept = [
        (await rows.endpoint(pool, vault, f"https://e{n}.example/"))[0] for n in range(4)
    ]
    chaos = Chaos(pool, [await rows.deposit(pool, n) for n in range(8)])

    async def delete() -> None:
        await asyncio.sleep(0.2)
        await remove(pool, deleted)

    await asyncio.gather(chaos.index(6), delete(), *(chaos.dispatch() for _ in range(4)))
    assert chaos.inversions() == 0
    assert {(endpoint, event) for endpoint in kept for event in chaos.places} <= set(chaos.sent)
