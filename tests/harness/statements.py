"""What a program asks its database, and how the database finds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import orjson

from indexer.database import CONNECTION, prepare

Asked = tuple[str, tuple[Any, ...]]  # a statement and its arguments
EXPLAIN: Final = "explain (analyze, buffers, timing off, summary off, format json) "


@dataclass(frozen=True)
class Plan:
    """How one statement was carried out."""

    statement: str
    blocks: int  # of 8 kB, looked at in all
    nodes: list[dict[str, Any]]

    def scanned(self, tables: tuple[str, ...]) -> list[str]:
        """Of these tables, those that were read from end to end, and are not empty."""
        return [
            node["Relation Name"]
            for node in self.nodes
            if node["Node Type"] == "Seq Scan"
            and node["Relation Name"].startswith(tables)
            and _rows(node)
        ]

    @property
    def rows(self) -> int:
        """That were looked at, whatever came of them."""
        return sum(_rows(node) for node in self.nodes if "Scan" in node["Node Type"])


class Recording(asyncpg.Connection):  # type: ignore[misc]
    """A connection that notes what is asked, for all of its kind together."""

    asked: list[Asked]

    async def fetch(self, query: str, *args: Any, **more: Any) -> Any:
        self.asked.append((query, args))
        return await super().fetch(query, *args, **more)

    async def fetchrow(self, query: str, *args: Any, **more: Any) -> Any:
        self.asked.append((query, args))
        return await super().fetchrow(query, *args, **more)


async def recording_pool(dsn: str) -> tuple[asyncpg.Pool, list[Asked]]:
    """A pool like the program's own, and the list of what it is asked."""
    asked: list[Asked] = []
    kind = type("Recording", (Recording,), {"asked": asked})
    pool = await asyncpg.create_pool(
        dsn, min_size=1, max_size=4, init=prepare, connection_class=kind, **CONNECTION
    )
    return pool, asked


async def explained(pool: asyncpg.Pool, asked: Asked) -> Plan:
    """Carry a statement out again, with the same arguments, and say how that was done."""
    statement, arguments = asked
    found = await pool.fetchval(EXPLAIN + statement, *arguments)
    [plan] = orjson.loads(found)
    root = plan["Plan"]
    return Plan(
        statement, root["Shared Hit Blocks"] + root["Shared Read Blocks"], list(_nodes(root))
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _rows(node: dict[str, Any]) -> int:
    counts = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows: int = round(node["Actual Loops"] * sum(node.get(count, 0) for count in counts))
    return rows
