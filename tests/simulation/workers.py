"""Histories lived through by several processes at once, each with a server of its own.

In all of them sets of texts have the same order, which Python else chooses anew in each process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.queues import Queue
from typing import NamedTuple
from unittest.mock import patch

from indexer import log
from tests.simulation import shrink
from tests.simulation.bugs import BUGS
from tests.simulation.history import Ended, run
from tests.simulation.sessions import Server

_server: list[Server] = []  # this process's


class Lived(NamedTuple):
    """A history, and where it broke a promise, the least of it that still does."""

    ended: Ended
    shrunk: Ended | None


class Found(NamedTuple):
    """A planted bug, and how the last of so many seeds found it; None: none did."""

    bug: str
    seeds: int
    shrunk: Ended | None


class Workers:
    """As many processes as there are servers."""

    def __init__(self, servers: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share what must be apart
        dsns: Queue[str] = context.Queue()
        for dsn in servers:
            dsns.put(dsn)
        self._hashes = patch.dict(os.environ, PYTHONHASHSEED="0")
        self._pool = ProcessPoolExecutor(len(servers), context, _begin, (dsns,))

    def __enter__(self) -> Workers:
        self._hashes.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._hashes.stop()
        self._pool.shutdown(cancel_futures=True)

    def live(self, seeds: Iterable[int], shrinking: int = shrink.RUNS) -> Iterator[Lived]:
        """`shrinking`: runs for each history that breaks a promise."""
        return self._pool.map(partial(_live, shrinking), seeds)

    def find(
        self, bugs: Iterable[str], seeds: Sequence[int], shrinking: int = shrink.RUNS
    ) -> Iterator[Found]:
        """Plant each bug and look for it in some seeds."""
        return self._pool.map(partial(_find, shrinking, seeds), bugs)

    def replay(self, seed: int, bug: str | None, without: Iterable[int] = ()) -> Ended:
        return self._pool.submit(_run, seed, bug, frozenset(without)).result()


def _begin(dsns: Queue[str]) -> None:
    log.configure(quiet=True)
    _server.append(Server(dsns.get()))


def _run(seed: int, bug: str | None = None, without: frozenset[int] = frozenset()) -> Ended:
    """A history, perhaps with a bug in the program, perhaps without some of its actions."""
    if bug is None:
        return run(seed, _server[0], without)
    with BUGS[bug]():
        return run(seed, _server[0], without)


def _live(shrinking: int, seed: int, bug: str | None = None) -> Lived:
    ended = _run(seed, bug)
    if ended.broken is None:
        return Lived(ended, None)
    return Lived(ended, shrink.shrink(ended, partial(_run, seed, bug), shrinking))


def _find(shrinking: int, seeds: Sequence[int], bug: str) -> Found:
    for tried, seed in enumerate(seeds, 1):
        lived = _live(shrinking, seed, bug)
        if lived.shrunk is not None:
            return Found(bug, tried, lived.shrunk)
    return Found(bug, len(seeds), None)
