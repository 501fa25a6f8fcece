"""Promises 1 to 4 of the design, over any history of blocks, forks, lags, owners, crashes.

After every history the table must agree with a fresh reading of the final chain, and every event
must be a step that the contract knows.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any, Final

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import cursors
from indexer.cursors import Stale
from indexer.model import make_id
from tests.followed import ACCOUNTS, CRASH_POINTS, HOT, WINDOW, Process, World
from tests.scripted import ADDRESSES, TOKEN

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
HISTORIES: Final = 5_000 if SOAK else 200
REQUIRED: Final = 3  # confirmations, in every history

pytestmark = pytest.mark.timeout(3_600 if SOAK else 120)


async def check(world: World) -> None:
    """Promises 2 and 3: what must be there is, as it is on the chain, and nothing else stands."""
    rows = await world.pool.fetch("select * from deposit")
    identities = [(r["account"], r["tx"], r["address"], r["asset"], r["ordinal"]) for r in rows]
    assert len(set(identities)) == len(rows)
    standing = {
        identity: (row["units"], row["hash"])
        for identity, row in zip(identities, rows, strict=True)
        if row["state"] != "orphaned"
    }
    covered = world.covered()
    assert covered.items() <= standing.items()
    # What was found inside its coverage and then mined again outside of it keeps its row: quietly.
    assert standing.items() <= world.moved().items()
    assert standing.keys() <= covered.keys() | world.seen
    cursor = await world.pool.fetchrow("select * from cursor")
    assert cursor["rewound_from"] is None
    assert cursor["finalized"] == max(-1, len(world.chain.view) - 1 - WINDOW)
    for row in rows:
        check_state(world, row, cursor)


def check_state(world: World, row: Any, cursor: Any) -> None:
    """Neither earlier nor later than depth and finality say, and ignored or held for a reason."""
    assert not row["unplaced"]
    internal = row["account"] == "alice" and row["sender"] == HOT
    match row["state"], row["reason"]:
        case "detected", _:
            assert cursor["height"] - row["height"] + 1 < REQUIRED
        case "confirmed", _:  # that it was deep enough then, its event says
            assert row["height"] > cursor["finalized"]
        case "finalized", _:
            assert row["height"] <= cursor["finalized"]
        case "ignored", "internal":
            assert internal
        case "ignored", "below_minimum":
            assert row["units"] < max(world.minimums[row["asset"]])
        case "held", "coin_inactive":
            assert not world.active[row["asset"]]
        case state, _:
            assert state == "orphaned"
    if row["state"] in ("detected", "confirmed", "finalized"):
        assert not internal
        assert row["units"] >= min(world.minimums[row["asset"]])


LEGAL: Final[dict[str | None, set[str]]] = {
    None: {"detected", "held"},
    "detected": {"confirmed", "orphaned"},
    "confirmed": {"finalized", "orphaned"},
    "finalized": {"orphaned"},  # after a rewind
    "orphaned": {"detected", "held"},
    "held": {"detected", "orphaned"},
}


async def check_events(pool: asyncpg.Pool, *, rewinds: int = 0) -> None:
    """Promises 1 and 4: no gap in sequences or positions, every move a legal one, told truly."""
    told: dict[str, list[str]] = defaultdict(list)
    position: dict[str, int] = defaultdict(int)
    for event in await pool.fetch("select * from event order by account, position"):
        position[event["account"]] += 1
        assert event["position"] == position[event["account"]]
        kind = event["type"].removeprefix("deposit.")
        before = told[event["deposit"]]
        last = before[-1] if before else None
        assert kind in LEGAL[last], f"{last} -> {kind}"
        assert last != "finalized" or rewinds, "finalized for good"
        check_body(event, kind, before)
        before.append(kind)
    for row in await pool.fetch("select id, sequence, state, previous from deposit"):
        kinds = told[row["id"]]
        assert len(kinds) == row["sequence"]
        quiet = row["state"] == "ignored" or row["previous"] == "ignored"
        assert quiet or kinds[-1] == row["state"]


def check_body(event: Any, kind: str, before: list[str]) -> None:
    data = orjson.loads(event["body"])["data"]
    assert event["id"] == make_id("evt_", event["deposit"], event["type"], str(before.count(kind)))
    assert data["sequence"] == event["sequence"] == len(before) + 1
    assert data["status"] == kind
    # An ignored one may have come between, about which nobody is told.
    assert data["previousStatus"] in {before[-1] if before else None, "orphaned", "ignored"}
    assert data["requiredConfirmations"] == REQUIRED
    least = {"orphaned": 0, "confirmed": REQUIRED, "finalized": REQUIRED}.get(kind, 1)
    assert data["confirmations"] >= least
    assert kind != "orphaned" or data["confirmations"] == 0
    assert data["reason"] == ("coin_inactive" if kind == "held" else None)


async def check_totals(pool: asyncpg.Pool) -> None:
    """The sums and counts that are kept are those of the rows."""
    differing = await pool.fetch(
        """
        select * from (
            select account, coin, sum(units) filter (where state = 'detected') as detected,
                   sum(units) filter (where state = 'held') as held,
                   sum(units) filter (where state in ('confirmed', 'finalized')) as confirmed
              from deposit group by account, coin) s
          full join total t using (account, coin)
         where (coalesce(s.detected, 0), coalesce(s.held, 0), coalesce(s.confirmed, 0))
            <> (coalesce(t.detected, 0), coalesce(t.held, 0), coalesce(t.confirmed, 0))
        """
    )
    assert differing == []
    counted = await pool.fetch(
        """
        select * from (select network, state, count(*) from deposit group by network, state) d
          full join deposit_count c using (network, state)
         where coalesce(d.count, 0) <> coalesce(c.count, 0)
        """
    )
    assert counted == []


async def check_silence(world: World) -> None:
    """A delivery for each event that alice's endpoint asks for, but for silent backfills."""
    rows = await world.pool.fetch(
        """
        select d.account, d.address, d.silent,
               count(e.id) filter (where e.type <> 'deposit.finalized') as events,
               count(v.id) as deliveries,
               (array_agg(e.body order by e.sequence))[1] as first
          from deposit d
          left join event e on e.deposit = d.id
          left join delivery v on v.event = e.id
         group by d.id
        """
    )
    for row in rows:
        rung = row["account"] == "alice" and not row["silent"]
        assert row["deliveries"] == (row["events"] if rung else 0)
        if row["silent"] and row["first"] is not None:
            height = orjson.loads(row["first"])["data"]["blockHeight"]
            assert any(height in r for r in world.silent[row["account"], row["address"]])


# ---------------------------------------------------------------------------- histories

outputs = st.lists(st.integers(0, 40), min_size=1, max_size=3)
accounts, addresses = st.sampled_from(ACCOUNTS), st.sampled_from(ADDRESSES[:4])
assets = st.sampled_from([b"", TOKEN])
heights = st.none() | st.integers(0, 14)
mining = st.tuples(st.just("mine"), st.lists(outputs, min_size=1, max_size=3))
forking = st.tuples(
    st.just("fork"), st.integers(1, WINDOW - 1), st.integers(0, 2), st.integers(0, 2)
)
crashing = st.tuples(
    st.just("crash"), st.integers(0, len(CRASH_POINTS) - 1), st.lists(outputs, min_size=1)
)
registering = st.tuples(
    st.just("register"), accounts, addresses, heights,
    st.sampled_from([None, None, None, "own", "deposit"]), st.booleans(),
)  # fmt: skip
owning = st.one_of(
    registering,
    registering,
    st.tuples(st.just("remove"), accounts, addresses),
    st.tuples(st.just("turn"), assets, st.booleans()),
    st.tuples(st.just("minimum"), assets, st.integers(0, 4)),
    st.tuples(st.just("coin"), heights),
)
running = st.one_of(
    st.just(("scan",)),
    st.just(("restart",)),
    st.just(("again",)),
    st.tuples(st.just("lag"), st.integers(0, 4)),
    crashing,
    crashing,
    st.tuples(st.just("rewind"), st.integers(1, 12)),
)
one_action = st.one_of(mining, mining, forking, owning, owning, running)
together = st.tuples(st.just("together"), st.lists(owning, max_size=2))
actions = st.one_of(mining, one_action, one_action, one_action, together)
steps = st.sampled_from([0, 1, 1, 2, 3])  # of the follower, after the action
histories = st.lists(st.tuples(actions, steps), min_size=6, max_size=40)


async def act(world: World, twin: Process, action: tuple[Any, ...]) -> None:
    match action:
        case ("mine", payments):
            world.chain.mine(*[world.pay(choices) for choices in payments])
        case ("fork", depth, extra, drop):
            # Never deeper than what is unfinalized for us: that halts, and has its own test.
            cursor = await world.pool.fetchrow("select height, finalized from cursor")
            depth = min(depth, len(world.chain.view) - 1 - max(0, cursor["finalized"]))
            world.fork(depth, extra, drop)
        case ("again",):
            world.chain.mine(*world.floating)
            world.floating = []
        case ("lag", blocks):
            world.chain.hidden = blocks
        case ("scan",):
            await world.scan()
        case ("restart",):
            world.restart()
        case ("crash", point, payments):
            world.chain.mine(*[world.pay(choices) for choices in payments])
            await world.crash(point)
        case ("rewind", depth):
            await world.rewind(depth)
        case ("together", others):
            await asyncio.gather(
                world.step(), twin.step(), world.scan(), twin.scan(),
                *[own(world, other) for other in others],
            )  # fmt: skip
            await world.look()
        case _:
            await own(world, action)


async def own(world: World, action: tuple[Any, ...]) -> None:
    """What owners and the operator do."""
    match action:
        case ("register", account, key, from_block, role, silent):
            await world.register(account, key, from_block, role, silent=silent)
        case ("remove", account, key):
            await world.remove(account, key)
        case ("turn", asset, active):
            await world.change_coin(asset, active=active)
        case ("minimum", asset, units):
            await world.change_coin(asset, minimum=units)
        case ("coin", from_block) if TOKEN not in world.coin_covered:
            await world.register_coin(from_block)


@pytest.mark.pitfall("P21", "P22", "P47", "P48", "P111", "P114", "P121")
@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories)
async def test_any_history_ends_as_a_fresh_scan_of_the_final_chain(
    pool: asyncpg.Pool,
    monkeypatch: pytest.MonkeyPatch,
    history: list[tuple[tuple[Any, ...], int]],
) -> None:
    monkeypatch.setattr("indexer.finality.ASK_SECONDS", 0.0)
    world = await World.begin(pool)
    twin = world.process()
    await pool.execute("insert into endpoint (id, account, url) values ('e', 'alice', 'https://x')")
    await world.register("alice", ADDRESSES[0])
    await world.register("alice", ADDRESSES[1])
    await world.register("alice", HOT, role="own")
    for action, steps_after in history:
        world.seen |= world.covered().keys()
        await act(world, twin, action)
        world.seen |= world.covered().keys()
        for _ in range(steps_after):
            await world.step()
    await world.settle()
    await check(world)
    await check_events(pool, rewinds=world.rewinds)
    await check_totals(pool)
    await check_silence(world)


@pytest.mark.pitfall("P120")
@pytest.mark.parametrize("point", range(len(CRASH_POINTS)))
async def test_a_crash_in_the_middle_of_a_commit_leaves_nothing_of_it(
    pool: asyncpg.Pool, point: int
) -> None:
    world = await World.begin(pool)
    await world.register("alice", ADDRESSES[1])
    await world.step()
    world.chain.mine(world.pay([1, 1]))
    await world.register("alice", ADDRESSES[2], from_block=1)
    world.chain.mine(world.pay([1, 2, 1]))
    await world.crash(point)
    await world.settle()
    await check(world)
    assert await pool.fetchval("select count(*) from deposit") == 5
    await check_events(pool)
    await check_totals(pool)


async def test_cursor_is_a_fence(pool: asyncpg.Pool) -> None:
    world = await World.begin(pool)
    async with pool.acquire() as connection:
        seen = await cursors.read(connection, "net")
        assert seen is not None
        world.chain.mine()
        await world.step()
        with pytest.raises(Stale):
            async with connection.transaction():
                await cursors.move(connection, seen, 99, bytes(32), -1)
