"""What the demo shows: a line for each thing that happens, its network in a column of its own.

Aligned for everyone, coloured on a terminal only: what happened by its kind, and each network's
name, so that those that live side by side are told apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TextIO

KIND_WIDTH: Final = 8  # characters of what happened
NETWORK_WIDTH: Final = 4
ACCOUNT_WIDTH: Final = 8
STATUS_WIDTH: Final = 9
WHOLE_WIDTH: Final = 4  # characters of an amount before its dot
FRACTION_WIDTH: Final = 19  # its dot and 18 digits behind it
SYMBOL_WIDTH: Final = 4
SHOWN_ENDS: Final = 6  # characters of a hash's or id's head and tail

_COLOURS: Final = {
    "block": "2",
    "deposit": "32",
    "callback": "36",
    "reorg": "33",
    "problem": "31;1",
}
_NETWORK_COLOURS: Final = ("94", "95", "93")  # in the order in which they first appear


def local_time() -> datetime:
    return datetime.now().astimezone()


class Screen:
    def __init__(self, out: TextIO, now: Callable[[], datetime] = local_time) -> None:
        self._out = out
        self._now = now
        self.lost = False  # nobody reads on: say nothing more
        self._coloured = out.isatty() and "NO_COLOR" not in os.environ
        self._networks: dict[str, str] = {}  # their colours

    def line(self, kind: str, network: str, *columns: str) -> None:
        """`columns` are padded by the caller."""
        if network not in self._networks:
            self._networks[network] = _NETWORK_COLOURS[len(self._networks) % len(_NETWORK_COLOURS)]
        named = self._painted(f"{network:<{NETWORK_WIDTH}}", self._networks[network])
        said = f"{kind:<{KIND_WIDTH}}  {'  '.join(columns)}".rstrip()
        self.plain(f"{self._now():%H:%M:%S}  {named}  {self._painted(said, _COLOURS[kind])}")

    def step(self, kind: str, account: str, data: Mapping[str, Any], *columns: str) -> None:
        """A step of a deposit's life, as an event's `data` has it."""
        self.line(
            kind,
            data["network"],
            f"{account:<{ACCOUNT_WIDTH}}",
            amount(data["amount"], data["symbol"]),
            f"{data['status']:<{STATUS_WIDTH}}",
            *columns,
        )

    def plain(self, text: str) -> None:
        if self.lost:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError:
            self.lost = True

    def _painted(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text


def short(text: str) -> str:
    """A hash or id, cut to what tells it from others on a screen."""
    if len(text) <= 2 * SHOWN_ENDS + 1:
        return text
    return f"{text[:SHOWN_ENDS]}…{text[-SHOWN_ENDS:]}"


def amount(text: str, symbol: str) -> str:
    """Dots below each other, whatever a coin's decimals."""
    whole, dot, fraction = text.partition(".")
    return f"{whole:>{WHOLE_WIDTH}}{dot + fraction:<{FRACTION_WIDTH}} {symbol:<{SYMBOL_WIDTH}}"
