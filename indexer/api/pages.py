"""Lists: newest first in pages, with a cursor that stays true while rows arrive.

A cursor is sealed for its list and its account: nobody can make one up, read how many rows others
have in it, or use another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.inputs import Query
from indexer.model import Refused
from indexer.secret import Vault

DEFAULT_LIMIT: Final = 100  # rows of a page
MAX_LIMIT: Final = 1000
MAX_CURSOR: Final = 512  # characters
CURSOR_CHARS: Final = 48  # what is sealed as one: microseconds and a number or an id
MAX_BIGINT: Final = 2**63 - 1
R = TypeVar("R")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PageQuery(Query):
    """What every list takes."""

    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)
    cursor: str | None = Field(default=None, max_length=MAX_CURSOR)


class Page(TypedDict, Generic[R]):
    """A list's answer; the next page is asked for with `nextCursor`."""

    items: list[R]
    nextCursor: str | None


class Statement:
    """A SELECT that grows condition by condition. Its texts are constants; values are arguments."""

    def __init__(self, select: str) -> None:
        self._select = select
        self._conditions: list[str] = []
        self._alternatives: list[str] = []
        self.arguments: list[Any] = []

    def where(self, condition: str, *values: Any) -> None:
        """`condition` has one `?` for each value."""
        self._conditions.append(self._numbered(condition, values))

    def either(self, condition: str, *values: Any) -> None:
        """The same, where one of several will do; no row may meet two of them.

        A page takes the newest of each and merges them: of every one there is an index in that
        order, of all together there is none.
        """
        self._alternatives.append(self._numbered(condition, values))

    @property
    def text(self) -> str:
        return self._where(self._conditions)

    def page(
        self,
        query: PageQuery,
        created_at: str,
        key: str,
        parse: Callable[[str], Any] = str,
        until: datetime | None = None,
    ) -> str:
        """The text, for one row more than the page has: so it is known whether another follows.

        `parse` makes a value of the tie-breaker `key` from a cursor's text. `until`: the rows are
        older than that.
        """
        # The lower bound alone: of two PostgreSQL begins at one and reads all down to the other.
        micros, _, text = (query.cursor or "").partition(",")
        moment = EPOCH + timedelta(microseconds=int(micros)) if micros else None
        if moment is not None and (until is None or moment < until):
            self.where(f"({created_at}, {key}) < (?, ?)", moment, parse(text))
        elif until is not None:
            self.where(f"{created_at} < ?", until)
        self.arguments.append(query.limit + 1)
        order = f"order by {created_at} desc, {key} desc limit ${len(self.arguments)}"
        if len(self._alternatives) < 2:
            return f"{self._where([*self._conditions, *self._alternatives])} {order}"
        parts = " union all ".join(
            f"({self._where([*self._conditions, each])} {order})" for each in self._alternatives
        )
        return " ".join(["select * from", f"({parts})", key.partition(".")[0], order])

    def _numbered(self, condition: str, values: Iterable[Any]) -> str:
        for value in values:
            self.arguments.append(value)
            condition = condition.replace("?", f"${len(self.arguments)}", 1)
        return condition

    def _where(self, conditions: Sequence[str]) -> str:
        where = ["where", " and ".join(conditions)] if conditions else []
        return " ".join([self._select, *where])


def page(rows: Sequence[Any], query: PageQuery, key: str, render: Callable[[Any], R]) -> Page[R]:
    """The reply of a list whose rows have `created_at` and the tie-breaker `key`."""
    shown, cursor = rows[: query.limit], None
    if len(rows) > query.limit:
        micros = (shown[-1]["created_at"] - EPOCH) // timedelta(microseconds=1)
        cursor = f"{micros},{shown[-1][key]}"
    return {"items": [render(row) for row in shown], "nextCursor": cursor}


def unsealed(query: PageQuery, vault: Vault, of: str) -> PageQuery:
    """With its cursor as the list made it; Refused if that was not given out for the list `of`."""
    if query.cursor is None:
        return query
    cursor = vault.reveal(query.cursor, of)
    if cursor is None:
        raise Refused("the cursor is not one that this list gave out")
    return query.model_copy(update={"cursor": cursor.decode().rstrip()})


def sealed(answer: Page[R], vault: Vault, of: str) -> Page[R]:
    """As it is given out."""
    cursor = answer["nextCursor"]
    if cursor is None:
        return answer
    padded = cursor.ljust(CURSOR_CHARS)  # or its length would tell how long a number is
    return {"items": answer["items"], "nextCursor": vault.conceal(padded.encode(), of)}
