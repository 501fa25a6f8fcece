"""`make simulate`: histories by seed, each held to the promises; then bugs that must be found."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from typing import Final

from indexer import log
from tests.simulation import report, server
from tests.simulation.bugs import BUGS
from tests.simulation.workers import Workers

SEEDS: Final = 1000
PLANTED_SEEDS: Final = 500  # until a planted bug counts as not found
SAID_SECONDS: Final = 10.0  # between two words on how far it is


def main() -> int:
    chosen = _arguments()
    log.configure(quiet=True)
    with ExitStack() as stack:
        count = chosen.workers if chosen.seed is None else 1
        servers = [stack.enter_context(server.started()) for _ in range(count)]
        workers = stack.enter_context(Workers(servers))
        return _simulate(workers, chosen) if chosen.seed is None else _replay(workers, chosen)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    arguments.add_argument("--seeds", type=int, default=SEEDS, help="how many histories")
    arguments.add_argument("--first", type=int, default=0, help="the first of their seeds")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    arguments.add_argument("--seed", type=int, help="one history, with its log")
    arguments.add_argument("--without", type=_numbers, default=[], help="actions to leave out")
    arguments.add_argument("--plant", choices=[*BUGS, "all", "none"], default="all")
    return arguments.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _replay(workers: Workers, chosen: argparse.Namespace) -> int:
    """Live through one history, and say all that happened."""
    bug = chosen.plant if chosen.plant in BUGS else None
    ended = workers.replay(chosen.seed, bug, chosen.without)
    for each in ended.log:
        _say(each)
    _say(" ".join(map(str, ended.actions)))
    _say(f"trace {ended.trace}")
    _say(str(ended.broken or "every promise was kept"))
    return int(ended.broken is not None)


def _simulate(workers: Workers, chosen: argparse.Namespace) -> int:
    kept = chosen.plant not in ("all", "none") or _histories(workers, chosen)
    bugs = {"all": list(BUGS), "none": []}.get(chosen.plant, [chosen.plant])
    found = []
    for each in workers.find(bugs, range(PLANTED_SEEDS)):
        found.append(each)
        if each.shrunk is not None:
            _say(f"{each.bug}: {report.broken(each.shrunk, each.bug)}")
    if found:
        _say(report.planted(found))
    return int(not kept or any(each.shrunk is None for each in found))


def _histories(workers: Workers, chosen: argparse.Namespace) -> bool:
    """Whether all promises were kept."""
    began = said = time.monotonic()
    histories = []
    for each in workers.live(range(chosen.first, chosen.first + chosen.seeds)):
        histories.append(each.ended)
        if each.shrunk is not None:
            _say(f"seed {each.ended.seed}: {report.broken(each.shrunk)}")
        if time.monotonic() - said > SAID_SECONDS:
            said = time.monotonic()
            _say(f"{len(histories)} of {chosen.seeds} histories in {said - began:.0f} s")
    _say(report.totals(histories, time.monotonic() - began))
    return all(each.broken is None for each in histories)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
