"""Every pitfall has a test, or the README tells users that it is theirs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.pitfalls import COUNT, OUT_OF_SCOPE

ROOT: Final = Path(__file__).parents[1]


def marked() -> Iterator[int]:
    """Numbers that stand in markers, of whichever test."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.pitfall":
                for argument in node.args:
                    yield int(ast.literal_eval(argument).removeprefix("P"))


def test_every_pitfall_has_a_test_or_is_out_of_scope_and_none_is_both() -> None:
    tested = set(marked())
    assert tested | OUT_OF_SCOPE.keys() == set(range(1, COUNT + 1))
    assert not tested & OUT_OF_SCOPE.keys()


def test_what_is_out_of_scope_is_told_to_users_in_the_same_words() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {
        int(n): text for n, text in re.findall(r"^\| P(\d+) \| (.*?) \|$", readme, re.MULTILINE)
    }
    assert told == OUT_OF_SCOPE
