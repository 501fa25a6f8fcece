"""The one seed that decides everything: a stream of choices for each who has to choose.

Streams are apart, so that what one part asks for more or less often leaves the others' choices as
they were: without that a history could not be shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Seed:
    number: int

    def stream(self, name: str) -> Random:
        """The choices of one part; a text, because those are not seeded by Python's own hash."""
        return Random(f"{self.number}/{name}")
