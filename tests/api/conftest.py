from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.api.world import World


@pytest.fixture
async def world(pool: asyncpg.Pool) -> AsyncIterator[World]:
    world = await World.begin(pool)
    yield world
    await world.close()
