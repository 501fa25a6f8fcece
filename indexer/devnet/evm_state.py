"""The world state of the simulated EVM chain: balances, nonces, token ledgers, with a way back."""

from __future__ import annotations

from typing import Final, TypeAlias

Key: TypeAlias = tuple[bytes, ...]  # (space, address, …)

BALANCE: Final = b"balance"
NONCE: Final = b"nonce"


class State:
    """Numbers by key, and a journal of every change, so that any earlier state can be had again."""

    def __init__(self) -> None:
        self._values: dict[Key, int] = {}
        self._endowed: dict[Key, int] = {}
        self._journal: list[tuple[Key, int]] = []  # key and the value before

    def get(self, key: Key) -> int:
        return self._values.get(key, 0) + self._endowed.get(key, 0)

    def add(self, key: Key, amount: int) -> None:
        """`amount` may be negative; the caller has checked that the sum is not."""
        old = self._values.get(key, 0)
        self._journal.append((key, old))
        self._values[key] = old + amount

    def endow(self, key: Key, amount: int) -> None:
        """Give as if genesis had given it: no rollback takes it away."""
        self._endowed[key] = self._endowed.get(key, 0) + amount

    def mark(self) -> int:
        return len(self._journal)

    def rollback(self, mark: int) -> None:
        self._undo(self._values, mark)
        del self._journal[mark:]

    def at(self, mark: int) -> State:
        """A copy of the state as it was at `mark`."""
        past = State()
        past._values, past._endowed = dict(self._values), self._endowed
        self._undo(past._values, mark)
        return past

    def changes(self, mark: int) -> list[tuple[Key, int]]:
        """Keys changed since `mark` and their values now, sorted."""
        return sorted((key, self.get(key)) for key in {key for key, _ in self._journal[mark:]})

    def _undo(self, values: dict[Key, int], mark: int) -> None:
        for key, old in reversed(self._journal[mark:]):
            values[key] = old
