"""Lists: newest first in pages, with a cursor that stays true while rows arrive.

A cursor is sealed for its list and its account: nobody can make one up, read how many rows others
have in it, or use another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        self.arguments: list[Any] = []

    def where(self, condition: str, *values: Any) -> None:
        """`condition` has one `?` for each value."""
        for value in values:
            self.arguments.append(value)
            condition = condition.replace("?", f"${len(self.arguments)}", 1)
        self._conditions.append(condition)

    @property
    def text(self) -> str:
        where = ["where", " and ".join(self._conditions)] if self._conditions else []
        return " ".join([self._select, *where])

    def page(
        self, query: PageQuery, created_at: str, key: str, parse: Callable[[str], Any] = str
    ) -> str:
        """The text, for one row more than the page has: so it is known whether another follows.

        `parse` makes a value of the tie-breaker `key` from a cursor's text.
        """
        if query.cursor is not None:
            micros, text = query.cursor.split(",", 1)
            moment = EPOCH + timedelta(microseconds=int(micros))
            self.where(f"({created_at}, {key}) < (?, ?)", moment, parse(text))
        self.arguments.append(query.limit + 1)
        order = f"order by {created_at} desc, {key} desc limit ${len(self.arguments)}"
        return f"{self.text} {order}"


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
    return query.model_copy(update={"cursor": cursor.decode()})


def sealed(answer: Page[R], vault: Vault, of: str) -> Page[R]:
    """As it is given out."""
    cursor = answer["nextCursor"]
    if cursor is None:
        return answer
    return {"items": answer["items"], "nextCursor": vault.conceal(cursor.encode(), of)}
