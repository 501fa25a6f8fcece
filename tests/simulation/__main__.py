"""`make simulate`: histories by seed, each held to the promises; then bugs that must be found."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from indexer import log
from tests.simulation import report, server
from tests.simulation.actions import plan
from tests.simulation.bugs import BUGS
from tests.simulation.database import Server
from tests.simulation.history import Ended, run
from tests.simulation.report import Found
from tests.simulation.seed import Seed
from tests.simulation.shrink import shrink

SEEDS: Final = 1000
PLANTED_SEEDS: Final = 300  # until a planted bug counts as not found


def main() -> int:
    chosen = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts have an order that it decides
        os.execve(sys.executable, [*sys.orig_argv], {**os.environ, "PYTHONHASHSEED": "0"})
    log.configure(quiet=True)
    with server.started() as running:
        if chosen.seed is not None:
            return _replay(running, chosen)
        return _simulate(running, range(chosen.first, chosen.first + chosen.seeds), chosen.plant)


def _arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    arguments.add_argument("--seeds", type=int, default=SEEDS, help="how many histories")
    arguments.add_argument("--first", type=int, default=0, help="the first of their seeds")
    arguments.add_argument("--seed", type=int, help="one history, with its log")
    arguments.add_argument("--without", type=_numbers, default=[], help="actions to leave out")
    arguments.add_argument("--plant", choices=[*BUGS, "all", "none"], default="all")
    return arguments.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _replay(running: Server, chosen: argparse.Namespace) -> int:
    """Live through one history, and say all that happened."""
    bug = chosen.plant if chosen.plant in BUGS else None
    ended = _run(running, chosen.seed, bug, chosen.without)
    for each in ended.log:
        _say(each)
    _say(" ".join(map(str, ended.actions)))
    _say(f"trace {ended.trace}")
    _say(str(ended.broken or "every promise was kept"))
    return int(ended.broken is not None)


def _simulate(running: Server, seeds: Sequence[int], plant: str) -> int:
    began = time.monotonic()
    histories = [_told(running, seed) for seed in seeds] if plant in ("all", "none") else []
    if histories:
        _say(report.totals(histories, time.monotonic() - began))
    bugs = [] if plant == "none" else BUGS if plant == "all" else [plant]
    found = [_find(running, bug) for bug in bugs]
    if found:
        _say(report.planted(found))
    kept = all(each.broken is None for each in histories)
    return int(not kept or any(each.ended is None for each in found))


def _told(running: Server, seed: int) -> Ended:
    """A history; one that breaks a promise is shrunk, and said at once."""
    ended = _run(running, seed)
    if ended.broken is not None:
        shrunk = shrink(ended, partial(_run, running, seed, None))
        _say(f"seed {seed}: {report.line(shrunk, planned=len(plan(Seed(seed))))}")
    return ended


def _find(running: Server, bug: str) -> Found:
    """Plant a bug and look for it; how it is seen is shrunk."""
    for seed in range(PLANTED_SEEDS):
        ended = _run(running, seed, bug)
        if ended.broken is not None:
            shrunk = shrink(ended, partial(_run, running, seed, bug))
            _say(f"{bug}: {report.line(shrunk, bug, len(plan(Seed(seed))))}")
            return Found(bug, seed + 1, shrunk)
    return Found(bug, PLANTED_SEEDS, None)


def _run(
    running: Server, seed: int, bug: str | None = None, without: Collection[int] = ()
) -> Ended:
    if bug is None:
        return run(seed, running, without)
    with BUGS[bug]():
        return run(seed, running, without)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
