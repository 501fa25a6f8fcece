"""Lists with a long past: a page costs the same wherever it lies, whatever is asked for.

What each handler asks the database is taken down as it asks it, and explained.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import asyncpg
import pytest

from indexer.api.pages import EPOCH
from indexer.model import State, format_time
from tests.api import stored
from tests.api.world import CODEC, World, address
from tests.conftest import SERVERS
from tests.harness.statements import Asked, Plan, explained, recording_pool

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
DEPOSITS: Final = 10_000_000 if SOAK else 100_000
OTHERS: Final = 1_000_000 if SOAK else 20_000  # rows of every other table
DEPTHS: Final = (None, 0.75, 0.25, 0.002)  # of a page: what lies below it; None: the first one
LIMIT: Final = 50  # rows of a page
# What a page may look at. Across all accounts there is no index for each filter: what one row in a
# hundred has may be walked for.
ROWS: Final = {"alice": 20 * LIMIT, "admin": 120 * LIMIT}
BLOCKS: Final = {"alice": (20 if SOAK else 6) * LIMIT, "admin": 20 * LIMIT}
SLOWER: Final = 2.0  # times, and
SLACK: Final = 0.02  # seconds, by which the slowest page in a hundred may differ with its depth
LARGE: Final = ("deposit", "event", "delivery", "watched_address", "audit")

pytestmark = pytest.mark.timeout(3_600 if SOAK else 240)


@dataclass(frozen=True)
class Listing:
    """A list, as somebody asks for it."""

    who: str  # alice, admin
    path: str
    rows: int  # of its table
    asked: Mapping[str, Any] = field(default_factory=dict)

    def at(self, depth: float | None, world: World) -> dict[str, Any]:
        """The query of the page that has this share of the table below it."""
        query = dict(self.asked) if self.path == "/v1/totals" else {**self.asked, "limit": LIMIT}
        if depth is None or self.path == "/v1/totals":
            return query
        number = int(self.rows * depth)
        if self.path == "/v1/events":
            return {**query, "after": (self.rows - number) * 9 // 10}
        key = stored.deposit_id(number) if self.path == "/v1/deposits" else number
        micros = (stored.moment(number) - EPOCH) // timedelta(microseconds=1)
        account = "alice" if self.who == "alice" else self.asked.get("account", "")
        cursor = world.context.vault.conceal(f"{micros},{key}".encode(), f"{account} {self.path}")
        return {**query, "cursor": cursor}


def listings() -> Iterator[Listing]:
    since, until = (format_time(stored.moment(DEPOSITS // part)) for part in (3, 2))
    for who in ("alice", "admin"):
        for asked in deposit_filters(since, until):
            yield Listing(who, "/v1/deposits", DEPOSITS, asked)
        for asked in ADDRESS_FILTERS:
            yield Listing(who, "/v1/addresses", OTHERS, asked)
        yield Listing(who, "/v1/totals", DEPOSITS)
    for state in ({}, *({"state": s} for s in ("pending", "delivered", "exhausted", "cancelled"))):
        yield Listing("alice", f"/v1/endpoints/{stored.ENDPOINT}/deliveries", OTHERS, state)
    for asked in (*AUDIT_FILTERS, {"since": since}, {"until": until}):
        yield Listing("admin", "/v1/audit", OTHERS, asked)
    yield Listing("alice", "/v1/events", OTHERS)


def deposit_filters(since: str, until: str) -> Iterator[dict[str, Any]]:
    middle = DEPOSITS // 2
    yield {}
    yield from ({"network": name} for name in ("ethereum", "bsc", "polygon"))
    yield from ({"coin": name} for name in ("usdt", "bnb", "gone", "none"))
    yield from ({"status": state} for state in State)
    yield from ({"reference": name} for name in (stored.SHOP, f"user-{1000 + middle // 20}", "x"))
    for number in (stored.POPULAR, 1000 + middle // 20):
        yield {"address": address(number)}
        yield {"address": address(number), "network": "bsc"}
    digest = hashlib.sha256(str(middle).encode()).digest()
    yield {"transactionHash": CODEC.format_hash(digest)}
    yield from ({"since": since}, {"until": until}, {"since": since, "until": until})
    yield {"network": "ethereum", "coin": "gone", "status": "rejected"}


ADDRESS_FILTERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"network": "ethereum"},
    {"network": "polygon"},
    {"reference": stored.SHOP},
    {"reference": "user-18"},
    {"network": "bsc", "reference": stored.SHOP},
)
AUDIT_FILTERS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"account": "bob"},
    {"keyId": "key_1"},
    {"keyId": "key_old"},
)


@pytest.fixture(params=["embedded"] if SOAK else SERVERS)
def server_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def asked(dsn: str, pool: asyncpg.Pool) -> AsyncIterator[tuple[World, list[Asked]]]:
    """An API over a long past, and what it asks the database."""
    server_pool, asked = await recording_pool(dsn)
    world = await World.begin(pool, server_pool)
    await stored.fill(pool, DEPOSITS, OTHERS)
    yield world, asked
    await world.close()
    await server_pool.close()


async def test_a_page_costs_the_same_wherever_it_lies_and_whatever_is_asked_for(
    asked: tuple[World, list[Asked]],
) -> None:
    world, statements = asked
    wrong = []
    seconds: dict[float | None, list[float]] = {depth: [] for depth in DEPTHS}
    for listing in listings():
        for depth in DEPTHS:
            statements.clear()
            before = time.perf_counter()
            answer = await getattr(world, listing.who).get(listing.path, **listing.at(depth, world))
            seconds[depth].append(time.perf_counter() - before)
            assert answer.status == 200, answer
            for plan in [await explained(world.pool, s) for s in statements if is_large(s)]:
                wrong += [f"{listing} at {depth}: {what}" for what in faults(listing, plan)]
    assert not wrong, "\n".join(wrong)
    if SOAK:  # a short run says nothing of time
        first, *others = (sorted(times)[-1 - len(times) // 100] for times in seconds.values())
        assert max(others) <= SLOWER * first + SLACK


def is_large(asked: Asked) -> bool:
    return any(f" {table} " in asked[0] for table in LARGE)


def faults(listing: Listing, plan: Plan) -> Iterator[str]:
    """What is wrong with how one statement of a page was carried out."""
    if tables := plan.scanned(LARGE):
        yield f"reads all of {tables}: {plan.statement}"
    if plan.rows > ROWS[listing.who] or plan.blocks > BLOCKS[listing.who]:
        yield f"looks at {plan.rows} rows in {plan.blocks} blocks: {plan.statement}"
