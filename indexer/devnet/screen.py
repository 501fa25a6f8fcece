"""What the demo shows: a line for each thing that happens, aligned, coloured on a terminal only."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import Final, TextIO

KIND_WIDTH: Final = 8  # characters of a line's first word
AMOUNT_WIDTH: Final = 26  # characters: 18 fraction digits, a dot, 7 before it

_COLOURS: Final = {
    "block": "2",
    "deposit": "32",
    "callback": "36",
    "reorg": "33",
    "problem": "31;1",
}


def local_time() -> datetime:
    return datetime.now().astimezone()


class Screen:
    def __init__(self, out: TextIO, now: Callable[[], datetime] = local_time) -> None:
        self._out = out
        self._now = now
        self.lost = False  # nobody reads on: say nothing more
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ

    def line(self, kind: str, *columns: str) -> None:
        """`columns` are padded by the caller."""
        text = f"{self._now():%H:%M:%S}  {kind:<{KIND_WIDTH}}  {'  '.join(columns)}".rstrip()
        colour = _COLOURS.get(kind)
        if self._coloured and colour is not None:
            text = f"\x1b[{colour}m{text}\x1b[0m"
        self.plain(text)

    def plain(self, text: str) -> None:
        if self.lost:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError:
            self.lost = True


def short(text: str) -> str:
    """A hash or id, cut to what tells it from others on a screen."""
    return text if len(text) <= 15 else f"{text[:9]}…{text[-4:]}"


def amount(text: str, symbol: str) -> str:
    return f"{text:>{AMOUNT_WIDTH}} {symbol:<4}"
