"""Signatures carry the right time, whatever this machine's clock does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from callbacks.clock import Clock

TRUE = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Machine:
    """One whose clock is off by `skew` seconds, and whose monotonic clock is not."""

    def __init__(self, skew: float) -> None:
        self.skew = skew
        self.passed = 0.0
        self.clock = Clock(lambda: self.now, lambda: 1000.0 + self.passed)

    @property
    def now(self) -> float:
        return TRUE.timestamp() + self.passed + self.skew

    @property
    def error(self) -> float:
        """Of what would be signed."""
        return self.clock() - TRUE.timestamp() - self.passed

    def hear(self) -> None:
        self.clock.hear(datetime.fromtimestamp(TRUE.timestamp() + self.passed, UTC))


def warned(during: Callable[[], None]) -> int:
    with capture_logs() as logs:
        during()
    return sum(line["event"] == "clock skew" for line in logs)


@pytest.mark.case(27)
@pytest.mark.parametrize(
    ("skew", "warnings", "error"),
    [(0.0, 0, 0.0), (4.0, 0, 4.0), (-6.0, 1, -6.0), (29.0, 1, 29.0), (31.0, 1, 0.0)],
)
def test_a_clock_that_is_off_is_told_and_far_off_not_believed(
    skew: float, warnings: int, error: float
) -> None:
    machine = Machine(skew)
    assert warned(machine.hear) == warnings
    machine.passed += 600.0
    assert machine.error == pytest.approx(error, abs=1e-3)


@pytest.mark.case(27)
@pytest.mark.parametrize("step", [600.0, -600.0])
def test_a_clock_that_steps_between_two_looks_is_noticed_at_once(step: float) -> None:
    machine = Machine(0.0)
    machine.hear()
    machine.passed, machine.skew = 30.0, step
    assert machine.error == pytest.approx(0.0, abs=1e-3)


def test_the_warning_is_not_repeated_at_every_look() -> None:
    machine = Machine(60.0)

    def an_hour() -> None:
        for _ in range(3600):
            machine.hear()
            machine.passed += 1.0

    assert warned(an_hour) == 60


def test_until_the_database_was_heard_this_machine_is_believed() -> None:
    assert Machine(600.0).error == pytest.approx(600.0, abs=1e-3)
