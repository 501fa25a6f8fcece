"""The table number → test → state of a list whose numbers tests carry as a marker.

Without `--run` tests are collected and none runs: states are "has a test" or why there is none.
With it each marked test runs: "pass", "FAIL", "skipped".
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

OPEN: Final = "open"
TEXT_CHARS: Final = 90  # so that the states stand below each other


@dataclass(frozen=True)
class Marked:
    """A numbered list; the numbers of `@pytest.mark.<marker>` may bear the `prefix`."""

    marker: str
    count: int
    prefix: str = ""
    titles: Mapping[int, str] = field(default_factory=dict)
    untested: Mapping[int, str] = field(default_factory=dict)  # why a number has no test

    def number(self, argument: object) -> int:
        """Of a marker's argument. Raises ValueError where the list has no such number."""
        number = int(str(argument).removeprefix(self.prefix))
        if not 1 <= number <= self.count:
            raise ValueError(f"there is no {self.marker} {argument}")
        return number


class Collector:
    """What pytest found and what became of it."""

    def __init__(self, marked: Marked) -> None:
        self._marked = marked
        self.tests: dict[int, list[str]] = defaultdict(list)
        self.outcomes: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = item.nodeid.split("[")[0]
            for marker in item.iter_markers(self._marked.marker):
                for argument in marker.args:
                    tests = self.tests[self._marked.number(argument)]
                    if test not in tests:
                        tests.append(test)
        items[:] = [item for item in items if item.get_closest_marker(self._marked.marker)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.split("[")[0]
        if report.failed:
            self.outcomes[test] = "FAIL"
        elif report.skipped:
            self.outcomes.setdefault(test, "skipped")
        elif report.when == "call":
            self.outcomes.setdefault(test, "pass")

    def state(self, number: int, *, ran: bool) -> str:
        tests = self.tests.get(number)
        if not tests:
            return self._marked.untested.get(number, OPEN)
        if not ran:
            return "has a test"
        outcomes = {self.outcomes.get(test, "not run") for test in tests}
        return next(s for s in ("FAIL", "not run", "skipped", "pass") if s in outcomes)

    def show(self, *, ran: bool) -> bool:
        """Print the table; whether nothing failed."""
        marked, states = self._marked, set()
        for number in range(1, marked.count + 1):
            state = self.state(number, ran=ran)
            states.add(state)
            rows = [re.sub(r"^tests/|\.py", "", test) for test in self.tests.get(number, ())]
            if number in marked.titles:
                rows.insert(0, marked.titles[number])
            for row, text in enumerate(rows or ["-"]):
                label = "" if row else f"{marked.prefix}{number}"
                _say(f"{label:5} {text[:TEXT_CHARS]:{TEXT_CHARS}} {state}")
        _say(f"{len(self.tests)} of {marked.count} have a test")
        return "FAIL" not in states


def main(marked: Marked) -> int:
    """The command of such a list: its exit code."""
    parser = argparse.ArgumentParser(description=f"the table {marked.marker}, test, state")
    parser.add_argument("--run", action="store_true", help="run the tests first")
    ran = parser.parse_args().run
    collector = Collector(marked)
    options = ["-o", "addopts=--strict-markers", "-p", "no:terminal", "tests"]
    code = pytest.main(options if ran else ["--collect-only", *options], plugins=[collector])
    if not ran and code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return int(code)
    return int(not collector.show(ran=ran))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
