"""The table pitfall → test → state, from the markers on the tests and a fresh run of them.

python -m tests.pitfalls            # collects, runs nothing: states are "has a test" or "open"
python -m tests.pitfalls --run      # runs each marked test: "pass", "FAIL", "skipped"
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict

import pytest

COUNT = 128

# Why a pitfall has no test yet. What is not here and has no test is simply open.
LATER = {
    **{n: "UTXO: comes with its networks" for n in range(87, 114) if n not in (89, 110, 111)},
    7: "balanceCheck comes with the full API",
    12: "credited from Transfer logs alone; ERC-777's Sent is another topic",
    13: "balanceCheck comes with the full API",
    14: "out of scope: rebasing tokens are not to be listed",
    15: "out of scope: watch the issuer's events; an inactive coin holds deposits",
    16: "mirrors of the native coin are denied; two entry points: list one",
    18: "unlisted tokens make no rows",
    28: "validator withdrawals have no transaction and are not deposits",
    29: "fees and block rewards are not deposits",
    30: "reconciliation is outside this engine",
    31: "reconciliation is outside this engine",
    32: "deposit keys are outside this engine",
    53: "Polygon's blocks before Madhugiri do not prove: README",
    54: "finality is the node's own",
    63: "an operator's choice of nodes",
    115: "sums by state come with the full API",
    116: "chains with tags are out of scope",
    118: "one address an invoice is the caller's part",
    123: "reconciliation is outside this engine",
    125: "screening is outside this engine",
    126: "a retired contract is made INACTIVE by its operator",
    127: "a token's supply is outside this engine",
}


class Collector:
    """What pytest found and what became of it."""

    def __init__(self) -> None:
        self.tests: dict[int, list[str]] = defaultdict(list)
        self.outcomes: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("pitfall"):
                for name in marker.args:
                    test = item.nodeid.split("[")[0]
                    if test not in self.tests[int(name[1:])]:
                        self.tests[int(name[1:])].append(test)
        items[:] = [item for item in items if item.get_closest_marker("pitfall")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.split("[")[0]
        if report.failed:
            self.outcomes[test] = "FAIL"
        elif report.skipped:
            self.outcomes.setdefault(test, "skipped")
        elif report.when == "call":
            self.outcomes.setdefault(test, "pass")


def state(collector: Collector, number: int, *, ran: bool) -> str:
    tests = collector.tests.get(number)
    if not tests:
        return LATER.get(number, "open")
    if not ran:
        return "has a test"
    outcomes = {collector.outcomes.get(test, "not run") for test in tests}
    return next(s for s in ("FAIL", "not run", "skipped", "pass") if s in outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description="the table pitfall, test, state")
    parser.add_argument("--run", action="store_true", help="run the tests first")
    arguments = parser.parse_args()
    collector = Collector()
    options = ["-o", "addopts=--strict-markers", "-p", "no:terminal", "tests"]
    code = pytest.main(
        options if arguments.run else ["--collect-only", *options], plugins=[collector]
    )
    if not arguments.run and code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return int(code)
    failed = False
    for number in range(1, COUNT + 1):
        said = state(collector, number, ran=arguments.run)
        failed |= said == "FAIL"
        names = [re.sub(r"^tests/|\.py", "", test) for test in collector.tests.get(number, ["-"])]
        for row, name in enumerate(names):
            sys.stdout.write(f"{f'P{number}' if row == 0 else '':5} {name[:90]:90} {said}\n")
    tested = len([n for n in collector.tests if collector.tests[n]])
    sys.stdout.write(f"{tested} of {COUNT} pitfalls have a test\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
