"""Of a history that breaks a promise, the actions without which it would not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.simulation.history import Ended

RUNS: Final = 120  # of a history, until what is left is taken as it is


def shrink(failed: Ended, run: Callable[[frozenset[int]], Ended], most_runs: int = RUNS) -> Ended:
    """The same promise broken by fewer actions. `run` lives through it without some of them.

    What is left out grows by halves, then by less (delta debugging), for `most_runs` at most.
    """
    left_out: frozenset[int] = frozenset()
    size, runs = max(1, len(failed.actions) // 2), 0
    while runs < most_runs:
        kept = [action.number for action in failed.actions]
        parts = [kept[at : at + size] for at in range(0, len(kept), size)]
        for part in parts[: most_runs - runs]:
            runs += 1
            ended = run(left_out.union(part))
            if ended.promise is failed.promise:
                failed, left_out = ended, left_out.union(part)
        if size == 1 and len(failed.actions) == len(kept):
            break
        size = max(1, size // 2)
    return failed
