"""Whose a delivery is: only who claimed it last may say what came of it, and only once.

Were an outcome taken from somebody else, receivers might be sent something twice or out of order
much later; here it is seen at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from callbacks import claims, outcomes


class Fence:
    """Hears every call of the database that took effect."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._tokens: dict[int, UUID] = {}  # of the last claim, by delivery

    def hear(self, call: Sequence[Any], result: Any) -> None:
        statement, *arguments = call
        if statement in (claims._CLAIM, claims._PROBE):
            self._tokens.update((row["id"], arguments[0]) for row in result)
        elif statement == outcomes._SETTLE:
            given = dict(zip(arguments[0], arguments[1], strict=True))
            for row in result:
                if self._tokens.pop(row["id"], None) != given[row["id"]]:
                    self._complain(f"delivery {row['id']} was settled by who had lost it")
