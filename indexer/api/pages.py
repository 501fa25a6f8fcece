"""Lists: newest first in pages, with an opaque cursor that stays true while rows arrive."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from indexer.api.inputs import Query
from indexer.model import Refused

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

        `parse` makes a value of the tie-breaker `key` from a cursor's text, or raises ValueError.
        """
        if query.cursor is not None:
            self.where(f"({created_at}, {key}) < (?, ?)", *decode_cursor(query.cursor, parse))
        self.arguments.append(query.limit + 1)
        order = f"order by {created_at} desc, {key} desc limit ${len(self.arguments)}"
        return f"{self.text} {order}"


def page(rows: Sequence[Any], query: PageQuery, key: str, render: Callable[[Any], R]) -> Page[R]:
    """The reply of a list whose rows have `created_at` and the tie-breaker `key`."""
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    cursor = encode_cursor(shown[-1]["created_at"], shown[-1][key]) if more else None
    return {"items": [render(row) for row in shown], "nextCursor": cursor}


def encode_cursor(created_at: datetime, key: str) -> str:
    micros = (created_at - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros},{key}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str, parse: Callable[[str], Any] = str) -> tuple[datetime, Any]:
    """Refused unless it is one of ours."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        micros, key = base64.b64decode(padded, b"-_", validate=True).decode().split(",", 1)
        moment = EPOCH + timedelta(microseconds=int(micros))
        if not key or not key.isprintable() or encode_cursor(moment, key) != cursor:
            raise ValueError
        return moment, parse(key)
    except (ValueError, OverflowError):
        raise Refused("the cursor is not one that this list gave out") from None


def bigint(text: str) -> int:
    """A tie-breaker that the database numbers itself."""
    number = int(text)
    if not 0 <= number <= MAX_BIGINT:
        raise ValueError
    return number
