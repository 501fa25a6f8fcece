"""What measurements found, and the table that shows it."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from indexer.model import Impossible
from tests.bench.process import Clock

MEGABYTE: Final = 10**6


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement in a process of its own."""

    count: float  # of whatever is counted: blocks, megabytes, deposits, callbacks
    wall: float  # seconds
    cpu: float  # seconds of the measured process; PostgreSQL and servers are not in it
    peak_bytes: int  # of resident memory

    @classmethod
    def of(cls, clock: Clock, count: float) -> Run:
        return cls(count, clock.wall, clock.cpu, clock.peak_bytes)

    @property
    def rate(self) -> float:
        """Counts a second."""
        return self.count / self.wall

    @property
    def cost(self) -> float:
        """CPU milliseconds for each."""
        return 1000 * self.cpu / self.count


def check_count(what: str, found: int, expected: int) -> None:
    """Raise Impossible unless all the work was done: a fast wrong answer is no figure."""
    if found != expected:
        raise Impossible(f"{found} {what} where {expected} should be")


@dataclass(frozen=True, slots=True)
class Figure:
    """The engine's runs, and those of what stands beside it, in the rounds they were taken in."""

    name: str
    unit: str  # what is counted
    engine: Sequence[Run]
    beside: str
    floor: Sequence[Run]

    @property
    def ratio(self) -> float:
        """Engine to floor. Within a round, because between rounds the machine changes."""
        return median(e.rate / f.rate for e, f in zip(self.engine, self.floor, strict=True))

    def row(self) -> list[str]:
        rates = [run.rate for run in self.engine]
        return [
            self.name,
            f"{median(rates):,.0f} {self.unit}/s",
            f"{min(rates):,.0f} to {max(rates):,.0f}",
            self.beside,
            f"{median(run.rate for run in self.floor):,.0f}",
            f"{self.ratio:.2f}",
            f"{median(run.cost for run in self.engine):.2f}",
            f"{median(run.cost for run in self.floor):.2f}",
            f"{max(run.peak_bytes for run in self.engine) / MEGABYTE:.0f}",
        ]


@dataclass(frozen=True, slots=True)
class Delays:
    """Milliseconds that half and all but one in a hundred took at most, at a rate a second."""

    rate: float
    median: float
    p99: float


@dataclass(frozen=True, slots=True)
class Delay:
    """How long something took in each round, while so many a second were asked for."""

    name: str
    asked: float
    rounds: Sequence[Delays]

    def row(self) -> list[str]:
        return [
            self.name,
            f"{median(each.median for each in self.rounds):.1f} ms",
            f"{median(each.p99 for each in self.rounds):.1f} ms",
            f"{max(each.p99 for each in self.rounds):.1f} ms",
            f"{median(each.rate for each in self.rounds):,.0f}/s of {self.asked:,.0f}/s",
        ]


HEADINGS: Final = (
    "figure",
    "median",
    "rounds",
    "beside it",
    "its median/s",
    "ratio",
    "CPU ms each",
    "its CPU ms",
    "peak RSS MB",
)
DELAY_HEADINGS: Final = ("figure", "p50", "p99", "worst p99", "at")


def aligned(
    rows: Sequence[Sequence[str]],
    headings: Sequence[str] = HEADINGS,
    *,
    text: Collection[int] = (0, 3),
    markdown: bool = False,
) -> str:
    """The rows under their headings: the columns of `text` flush left, figures flush right."""
    table = [list(headings), *map(list, rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(headings))]
    lines = [
        [cell.ljust(w) if at in text else cell.rjust(w) for at, (cell, w) in enumerate(cells)]
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in lines)
    rule = ["-" * w if at in text else "-" * (w - 1) + ":" for at, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def machine(load_before: float, load_after: float) -> str:
    """The conditions of a run, as far as the machine tells them."""
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}; "
        f"load average {load_before:.2f} before, {load_after:.2f} after"
    )
