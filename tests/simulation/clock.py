"""Time and randomness of the program while it is simulated: the loop's clock, the seed's choices.

Wherever a module of the program has them, they are replaced for as long as a history runs.
"""

from __future__ import annotations

import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any, Final
from unittest.mock import patch

from callbacks.clock import Clock
from tests.simulation.loop import PROCESS, Loop

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)  # when histories begin
TICK_SECONDS: Final = 1.0  # of the database's clock: sessions are told of each
PACKAGES: Final = ("indexer", "callbacks")


class Time:
    """What `time` is to the program, with each machine's own idea of what time it is."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.wrong: dict[str, float] = {}  # seconds, by machine
        self.database_wrong = 0.0  # seconds

    def monotonic(self) -> float:
        return self._loop.now

    perf_counter = monotonic

    def time(self) -> float:
        machine = PROCESS.get().partition(":")[0]
        return EPOCH.timestamp() + self._loop.now + self.wrong.get(machine, 0.0)

    def database(self) -> datetime:
        """By the database's clock."""
        ticks = int((self._loop.now + self.database_wrong) / TICK_SECONDS)
        return EPOCH + timedelta(seconds=ticks * TICK_SECONDS)


class Randomness:
    """What `secrets` is to the program."""

    def __init__(self, choices: Random) -> None:
        self._choices = choices

    def token_bytes(self, size: int) -> bytes:
        return self._choices.randbytes(size)

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self._choices.getrandbits(128), version=4)


@contextmanager
def instead(now: Time, randomness: Randomness) -> Iterator[None]:
    """Replace time and randomness in every module of the program."""
    replaced: list[tuple[Any, Any]] = [
        (time, now),
        (time.monotonic, now.monotonic),
        (secrets, randomness),
        (uuid.uuid4, randomness.uuid4),
        (Clock, partial(Clock, monotonic=now.monotonic)),
    ]
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] not in PACKAGES:
                continue
            for attribute, value in list(vars(module).items()):
                for real, simulated in replaced:
                    if value is real:
                        stack.enter_context(patch.object(module, attribute, simulated))
        yield
