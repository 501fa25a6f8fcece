"""What a token says of itself, made fit to be shown. Display only: never a key (P6)."""

from __future__ import annotations

from typing import Final

from indexer.chains import Token
from indexer.model import MAX_DECIMALS, Refused

NAME_CHARS: Final = 100
SYMBOL_CHARS: Final = 32


def describe(token: str, name: str | None, symbol: str | None, decimals: object) -> Token:
    """Refused where it says what no token says. `token`: its address or id."""
    if not isinstance(decimals, int) or not 0 <= decimals <= MAX_DECIMALS:
        raise Refused(f"{token} is no token: it has no decimals that make sense")
    shown_symbol = _shown(token, "symbol", symbol, SYMBOL_CHARS)
    if shown_symbol is None:
        raise Refused(f"{token} is no token: it has no symbol")
    return Token(_shown(token, "name", name, NAME_CHARS) or shown_symbol, shown_symbol, decimals)


def _shown(token: str, what: str, text: str | None, limit: int) -> str | None:
    shown = "".join(char for char in text or "" if char.isprintable()).strip()
    if len(shown) > limit:
        raise Refused(f"{token} is no token: its {what} has {len(shown)} characters")
    return shown or None
