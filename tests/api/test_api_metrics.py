"""`/metrics`: what this process tells Prometheus, and nobody's secrets."""

from __future__ import annotations

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from indexer.secret import Vault
from tests import callback_rows as rows
from tests.api.world import World
from tests.callback_runs import dispatching, requested, settled
from tests.harness.moody import moody


async def samples(world: World) -> dict[tuple[str, str], float]:
    """By name, and by what came of what is counted."""
    async with world.session.get(f"{world.nobody.base}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        text = await response.text()
    return {
        (sample.name, sample.labels.get("result") or sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_attempts_and_deliveries_are_counted_by_what_came_of_them(
    world: World, pool: asyncpg.Pool, vault: Vault
) -> None:
    before = await samples(world)
    await rows.world(pool, "metrics")
    async with moody() as receiver:
        receiver.status = 500
        await rows.endpoint(pool, vault, receiver.url, account="metrics")
        await rows.history(pool, 1, 1, account="metrics")
        async with dispatching(pool, vault):
            await requested(pool, 1)
            receiver.status = 200
            await pool.execute("update delivery set due_at = clock()")
            await settled(pool)
    after = await samples(world)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown["depositd_delivery_attempts_total", "status"] == 1
    assert grown["depositd_delivery_attempts_total", "delivered"] == 1
    assert grown["depositd_deliveries_finished_total", "delivered"] == 1
    assert grown["depositd_delivery_attempt_seconds_count", ""] == 2
    assert grown["depositd_delivery_claim_seconds_count", ""] >= 2
    assert after["depositd_deliveries_in_hand", ""] == 0
