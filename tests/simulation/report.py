"""What a run of simulations found, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.simulation.history import Ended
from tests.simulation.promises import Promise


class Found(NamedTuple):
    """A planted bug, and the first of the seeds that found it; None: none did."""

    bug: str
    seeds: int  # that were tried
    ended: Ended | None


def line(ended: Ended, bug: str | None = None, planned: int = 0) -> str:
    """What broke, and how it is lived through again."""
    kept = {action.number for action in ended.actions}
    without = ",".join(str(number) for number in range(planned) if number not in kept)
    again = f"python -m tests.simulation --seed {ended.seed}"
    again += f" --without {without}" if without else ""
    again += f" --plant {bug}" if bug else ""
    return f"{ended.broken}\n    {again}"


def totals(histories: Sequence[Ended], seconds: float) -> str:
    """Of histories that were lived through in so many real seconds."""
    faults: Counter[str] = sum((each.faults for each in histories), Counter())
    checked: Counter[Promise] = sum((each.checked for each in histories), Counter())
    seeds = [each.seed for each in histories]
    calls, waits = sum(e.calls for e in histories), sum(e.waits for e in histories)
    return "\n".join(
        [
            f"{len(histories)} histories, seeds {min(seeds)} to {max(seeds)}, in {seconds:.0f} s "
            f"({len(histories) / seconds:.1f}/s)",
            f"    {sum(e.seconds for e in histories) / 3600:.1f} simulated hours, "
            f"{sum(len(e.actions) for e in histories):,} actions, "
            f"{sum(e.steps for e in histories):,} steps, "
            f"{calls:,} calls of the database, {waits:,} of which waited for a lock",
            *_table("faults", faults.items()),
            *_table("promises checked", ((each.value, checked[each]) for each in Promise)),
        ]
    )


def planted(found: Iterable[Found]) -> str:
    rows = [
        (each.bug, "not found" if each.ended is None else f"{each.ended.broken}"[:70], each.seeds)
        for each in found
    ]
    return "\n".join(
        ["planted bugs, after how many seeds they were found, by which promise"]
        + [f"    {bug:28}{seeds:5}  {how}" for bug, how, seeds in rows]
    )


def _table(title: str, rows: Iterable[tuple[str, int]]) -> list[str]:
    return [title, *(f"    {name:40}{count:12,}" for name, count in sorted(rows))]
