"""Who comes first when more endpoints have due deliveries than one claim looks at."""

from __future__ import annotations

from typing import Final

import asyncpg
import pytest

from callbacks.claimer import CLAIM_ENDPOINTS
from callbacks.dispatcher import Limits
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import dispatching
from tests.harness.crowd import Conduct, crowd

HUNG_SECONDS: Final = 12.0  # that the others take
SOON: Final = 6.0  # seconds: well before any of them ends
FRESH: Final = "fresh"


@pytest.mark.case(38, 39)
@pytest.mark.parametrize("processes", [1, 2])
async def test_what_waits_behind_a_first_event_in_flight_is_in_nobodys_way(
    pool: asyncpg.Pool, vault: Vault, processes: int
) -> None:
    others = [f"other{n}" for n in range(processes * 2 * CLAIM_ENDPOINTS)]
    await bulk.world(pool, [*others, FRESH])
    async with crowd() as seen:
        seen.behave(others, Conduct.DEAD)
        await bulk.endpoints(pool, vault, seen.urls([*others, FRESH]))
        names = await bulk.deposits(pool, others, 0)
        await bulk.events(pool, [(name, step) for name in names for step in (1, 2)])
        async with dispatching(pool, vault, Limits(attempt_seconds=HUNG_SECONDS), count=processes):
            [name] = await bulk.deposits(pool, [FRESH], 1000)
            await seen.wait_for(await bulk.events(pool, [(name, 1)]), SOON)
            seen.over.set()


@pytest.mark.case(38)
async def test_many_backlogs_leave_room_for_who_has_none(pool: asyncpg.Pool, vault: Vault) -> None:
    others = [f"other{n}" for n in range(CLAIM_ENDPOINTS + 10)]
    await bulk.world(pool, [*others, FRESH])
    async with crowd() as seen:
        seen.behave(others, Conduct.SLOW)
        await bulk.endpoints(pool, vault, seen.urls([*others, FRESH]))
        names = await bulk.deposits(pool, others * 50, 0)
        await bulk.events(pool, [(name, 1) for name in names])
        async with dispatching(pool, vault, Limits()):
            [name] = await bulk.deposits(pool, [FRESH], 10_000)
            await seen.wait_for(await bulk.events(pool, [(name, 1)]), SOON)
            seen.over.set()


@pytest.mark.case(38, 39)
async def test_many_endpoints_that_begin_to_hang_together_leave_slots_for_the_others(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    others = [f"other{n}" for n in range(100)]
    await bulk.world(pool, [*others, FRESH])
    async with crowd() as seen:
        seen.behave(others, Conduct.DEAD)
        await bulk.endpoints(pool, vault, seen.urls([*others, FRESH]))
        names = await bulk.deposits(pool, others * 20, 0)
        await bulk.events(pool, [(name, 1) for name in names])
        async with dispatching(pool, vault, Limits(attempt_seconds=HUNG_SECONDS)):
            [name] = await bulk.deposits(pool, [FRESH], 10_000)
            await seen.wait_for(await bulk.events(pool, [(name, 1)]), SOON)
            seen.over.set()
