"""An old snapshot that somebody holds: claims bear what can't be tidied up, and that is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import asyncpg
import pytest
from structlog.testing import capture_logs

from callbacks import watch
from callbacks.dispatcher import Limits
from indexer.secret import Vault
from tests import callback_bulk as bulk
from tests.callback_runs import claim_seconds
from tests.conftest import SECRET_KEY
from tests.harness.crowd import crowd
from tests.harness.dispatcher import dispatchers

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
ENDPOINTS: Final = 50
BURST: Final = 5_000  # deliveries made at once
BURSTS: Final = 10 if SOAK else 1
BEARABLE: Final = 0.050  # seconds, p50 of a claim
PATIENCE: Final = 120.0  # seconds

pytestmark = [pytest.mark.case(40), pytest.mark.timeout(900 if SOAK else 120)]


async def test_claims_bear_an_old_snapshot_and_recover_when_it_ends(
    dsn: str, pool: asyncpg.Pool, vault: Vault, tmp_path: Path
) -> None:
    accounts = [f"shop{n}" for n in range(ENDPOINTS)]
    names = [bulk.endpoint_of(account) for account in accounts]
    await bulk.world(pool, accounts)
    other = await asyncpg.connect(dsn)
    async with crowd() as seen, dispatchers(1, tmp_path, dsn, SECRET_KEY, Limits()):
        await bulk.endpoints(pool, vault, seen.urls(accounts))
        async with other.transaction(isolation="repeatable_read"):
            await other.execute("select from delivery")
            for burst in range(BURSTS):
                made = await bulk.deposits(pool, accounts * (BURST // ENDPOINTS), burst * BURST)
                await seen.wait_for(await bulk.events(pool, [(name, 1) for name in made]), PATIENCE)
            held = await claim_seconds(pool, names)
            assert held < BEARABLE
        await pool.execute("vacuum delivery")  # time passes: the server does it by itself
        assert await claim_seconds(pool, names) < max(held, 0.005)
    await other.close()


async def test_an_old_snapshot_is_told(
    dsn: str, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "WARN_SECONDS", 0.0)
    other = await asyncpg.connect(dsn)
    with capture_logs() as logs:
        async with other.transaction(isolation="repeatable_read"):
            await other.execute("select from delivery")
            await watch.look(pool)
    await other.close()
    assert other.get_server_pid() in [each["pid"] for each in logs]
