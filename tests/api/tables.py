"""All that a database holds, for tests that nothing of it changes."""

from __future__ import annotations

from collections import Counter
from typing import Final

import asyncpg

_TABLES: Final = """
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition
"""

_ROWS: Final = "select (to_jsonb(t) - 'used_at' - 'used_from')::text as row from"


async def rows(pool: asyncpg.Pool) -> Counter[tuple[str, str]]:
    """Every row of every table, but for when a key was used."""
    found: Counter[tuple[str, str]] = Counter()
    for table in await pool.fetch(_TABLES):
        for row in await pool.fetch(" ".join([_ROWS, table["name"], "t"])):
            found[table["name"], row["row"]] += 1
    return found
