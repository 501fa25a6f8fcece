"""What a receiver said, as text that can be stored whatever it was."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.answer import MAX_EXCERPT, excerpt


@pytest.mark.case(11)
@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_become_printable_text(data: bytes) -> None:
    shown = excerpt(data)
    assert len(shown.encode()) <= MAX_EXCERPT
    assert all(char in "\t\n\r" or ord(char) >= 0x20 for char in shown)
    assert not {chr(code) for code in range(0x7F, 0xA0)} & set(shown)


@pytest.mark.case(11)
async def test_the_database_takes_it(pool: asyncpg.Pool) -> None:
    everything = bytes(range(256)) * 16
    shown = excerpt(everything)
    await pool.execute(
        "insert into attempt (delivery, number, at, charged, total_ms, head) "
        "values (1, 1, clock(), true, 0, $1)",
        shown,
    )
    assert await pool.fetchval("select head from attempt") == shown
