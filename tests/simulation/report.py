"""What a run of simulations found, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from tests.simulation.history import Ended
from tests.simulation.promises import Promise
from tests.simulation.workers import Found

BROKEN_CHARS: Final = 90  # of how a promise was broken, in a table


def broken(ended: Ended, bug: str | None = None) -> str:
    """What broke, and the line that lives through it again."""
    again = f"python -m tests.simulation --seed {ended.seed}"
    if ended.without:
        again += f" --without {','.join(map(str, sorted(ended.without)))}"
    if bug is not None:
        again += f" --plant {bug}"
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
        (each.bug, each.seeds, "not found" if each.shrunk is None else str(each.shrunk.broken))
        for each in found
    ]
    return "\n".join(
        ["planted bugs, after how many seeds they were found, by which promise"]
        + [f"    {bug:28}{seeds:5}  {how[:BROKEN_CHARS]}" for bug, seeds, how in rows]
    )


def _table(title: str, rows: Iterable[tuple[str, int]]) -> list[str]:
    return [title, *(f"    {name:40}{count:12,}" for name, count in sorted(rows))]
