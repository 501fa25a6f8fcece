from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.api.registered import contracts
from tests.api.world import World

__all__ = ["contracts"]  # fixtures


@pytest.fixture
async def world(pool: asyncpg.Pool) -> AsyncIterator[World]:
    world = await World.begin(pool)
    yield world
    await world.close()
