"""Numbers of ours as callers see them.

The database numbers deliveries, imports and resends of all accounts in one row each. Shown as they
are, those numbers would tell an account how much the others do.
"""

from __future__ import annotations

from typing import Final

from indexer.secret import Vault

DELIVERY: Final = "dlv_"
IMPORT: Final = "imp_"
RESEND: Final = "rsd_"
NUMBER_BYTES: Final = 8


def conceal(vault: Vault, kind: str, number: int) -> str:
    """An id that begins with `kind`; the same for the same number, always."""
    return kind + vault.conceal(number.to_bytes(NUMBER_BYTES, "big"), kind)


def reveal(vault: Vault, kind: str, text: str) -> int | None:
    """The number of an id; None for a text that was never given out."""
    plain = vault.reveal(text.removeprefix(kind), kind) if text.startswith(kind) else None
    return None if plain is None else int.from_bytes(plain, "big")
