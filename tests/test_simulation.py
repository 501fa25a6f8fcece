"""Histories in which one seed decides everything keep the promises; planted bugs do not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from tests.simulation import server
from tests.simulation.database import Server
from tests.simulation.history import run

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
SEEDS: Final = 300 if SOAK else 8
FRESH_SEEDS: Final = 50 if SOAK else 3

pytestmark = pytest.mark.timeout(3_600 if SOAK else 240)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server.started() as dsn, closing(Server(dsn)) as connected:
        yield connected


@pytest.mark.pitfall("P114", "P120")
def test_histories_keep_every_promise(postgres: Server) -> None:
    for seed in range(SEEDS):
        ended = run(seed, postgres)
        assert ended.broken is None, f"seed {seed}"


def test_fresh_histories_keep_every_promise(postgres: Server) -> None:
    for _ in range(FRESH_SEEDS):
        seed = secrets.randbits(32)
        ended = run(seed, postgres)
        assert ended.broken is None, f"python -m tests.simulation --seed {seed}"


def test_a_seed_is_one_history(postgres: Server) -> None:
    first, other, again = (run(seed, postgres) for seed in (5, 6, 5))
    assert first.trace == again.trace
    assert first.trace != other.trace
