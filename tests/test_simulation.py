"""Histories in which one seed decides everything keep the promises; planted bugs do not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Final

import pytest

from tests.simulation import report, server
from tests.simulation.bugs import BUGS
from tests.simulation.workers import Workers

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
SEEDS: Final = 300 if SOAK else 4
FRESH_SEEDS: Final = 50 if SOAK else 2
TRIES: Final = 20  # seeds from the known one on: the program's calls, and so its histories, change
SHRINKING: Final = 4  # runs

pytestmark = pytest.mark.timeout(3_600 if SOAK else 300)

# The seed that finds each, with the program as it is.
KNOWN: Final = {
    "activated-by-id": 0,
    "branch-by-height": 0,
    "cursor-before-commit": 0,
    "later-overtakes": 0,
    "later-scan-is-read": 18,
    "leased-is-claimed": 0,
    "no-token": 77,
    "no-watch-version": 0,
    "numbered-outside-the-lock": 307,
    "ordinal-of-the-block": 0,
    "orphan-is-overlooked": 14,
    "retry-with-another-id": 0,
    "retry-with-other-bytes": 0,
    "scan-forgotten": 0,
    "scan-holds-nothing": 44,
}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with server.started() as dsn, Workers([dsn]) as begun:
        yield begun


@pytest.mark.pitfall("P114", "P120")
def test_histories_keep_every_promise(workers: Workers) -> None:
    for _, shrunk in workers.live(range(SEEDS), SHRINKING):
        assert shrunk is None, report.broken(shrunk)


def test_fresh_histories_keep_every_promise(workers: Workers) -> None:
    seeds = [secrets.randbits(32) for _ in range(FRESH_SEEDS)]
    for _, shrunk in workers.live(seeds, SHRINKING):
        assert shrunk is None, report.broken(shrunk)


def test_a_seed_is_one_history(workers: Workers) -> None:
    first, other, again = (ended.trace for ended, _ in workers.live([5, 6, 5]))
    assert first == again
    assert first != other


@pytest.mark.parametrize("bug", BUGS)
def test_what_a_bug_alters_is_there(bug: str) -> None:
    with BUGS[bug]():
        pass


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_breaks_a_promise(workers: Workers, bug: str) -> None:
    [found] = workers.find([bug], range(KNOWN[bug], KNOWN[bug] + TRIES), shrinking=0)
    assert found.shrunk is not None


def test_what_breaks_a_promise_is_shrunk_and_replays(workers: Workers) -> None:
    bug = "ordinal-of-the-block"
    [found] = workers.find([bug], range(KNOWN[bug], KNOWN[bug] + TRIES), SHRINKING)
    assert found.shrunk is not None
    assert found.shrunk.without
    again = workers.replay(found.shrunk.seed, bug, found.shrunk.without)
    assert again.trace == found.shrunk.trace
    assert report.broken(again) == report.broken(found.shrunk)
