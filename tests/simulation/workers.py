"""Histories lived through by several processes at once, each with a server of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.queues import Queue
from typing import NamedTuple

from indexer import log
from tests.simulation.bugs import BUGS
from tests.simulation.database import Server
from tests.simulation.history import Ended, run
from tests.simulation.shrink import shrink

_server: list[Server] = []  # this process's


class Lived(NamedTuple):
    """A history, and where it broke a promise, the least of it that still does."""

    ended: Ended
    shrunk: Ended | None


class Found(NamedTuple):
    """A planted bug, and how the first of so many seeds found it; None: none did."""

    bug: str
    seeds: int
    shrunk: Ended | None


class Workers:
    """As many processes as there are servers."""

    def __init__(self, servers: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share the servers' locks
        dsns: Queue[str] = context.Queue()
        for dsn in servers:
            dsns.put(dsn)
        self._pool = ProcessPoolExecutor(len(servers), context, _begin, (dsns,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def live(self, seeds: Iterable[int]) -> Iterator[Lived]:
        return self._pool.map(_live, seeds)

    def find(self, bugs: Iterable[str], seeds: int) -> Iterator[Found]:
        """Plant each bug and look for it in so many seeds at most."""
        return self._pool.map(partial(_find, seeds), bugs)


def lived(server: Server, seed: int, bug: str | None = None, without: Iterable[int] = ()) -> Ended:
    """A history, perhaps with a bug in the program, perhaps without some of its actions."""
    if bug is None:
        return run(seed, server, frozenset(without))
    with BUGS[bug]():
        return run(seed, server, frozenset(without))


def _begin(dsns: Queue[str]) -> None:
    log.configure(quiet=True)
    _server.append(Server(dsns.get()))


def _live(seed: int) -> Lived:
    ended = lived(_server[0], seed)
    again = partial(lived, _server[0], seed, None)
    return Lived(ended, None if ended.broken is None else shrink(ended, again))


def _find(seeds: int, bug: str) -> Found:
    for seed in range(seeds):
        ended = lived(_server[0], seed, bug)
        if ended.broken is not None:
            return Found(bug, seed + 1, shrink(ended, partial(lived, _server[0], seed, bug)))
    return Found(bug, seeds, None)
