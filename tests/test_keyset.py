"""Millions of keys in little memory: never a no to a key that was added, hardly a wrong yes."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import keyset
from indexer.keyset import KeySet, Loading

LENGTHS: Final = (20, 22, 23, 25, 34)  # bytes of addresses and scripts

# Few enough different ones that they come again.
KEYS: Final = st.builds(
    lambda n, length: n.to_bytes(length, "big"), st.integers(0, 60), st.sampled_from(LENGTHS)
)
ADDED: Final = st.lists(st.lists(KEYS, max_size=12), max_size=8)


async def loaded(keys: Iterable[bytes]) -> KeySet:
    loading = Loading()
    loading.add(keys)
    return await loading.finish()


def random_keys(count: int, seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(source.choice(LENGTHS)) for _ in range(count)]


@contextmanager
def crowded(bits: int) -> Iterator[None]:
    """Buckets that many keys share, so that most hashes have close neighbours."""
    with patch.object(keyset, "BUCKET_BITS", bits), patch.object(keyset, "SPARE_BITS", 32 - bits):
        yield


@settings(max_examples=150, deadline=None)
@given(st.lists(KEYS), ADDED, st.lists(KEYS, min_size=1), st.integers(1, 9), st.integers(0, 12))
def test_it_agrees_with_a_plain_set_over_loads_additions_and_joins(
    first: list[bytes], added: list[list[bytes]], asked: list[bytes], recent: int, bits: int
) -> None:
    async def history() -> None:
        keys, plain = await loaded(first), set(first)
        for some in added:
            keys.add(some)
            plain.update(some)
            assert keys.contains(asked) == [key in plain for key in asked]
            await keys.settle()
            assert keys.contains(asked) == [key in plain for key in asked]
            assert all(keys.contains(sorted(plain)))
            assert len(keys) == len(plain)

    with crowded(bits), patch.object(keyset, "RECENT_KEYS", recent):
        asyncio.run(history())


async def test_of_many_keys_each_is_found_and_no_other() -> None:
    keys, others = random_keys(200_000, 1), random_keys(20_000, 2)
    held = await loaded(keys[:150_000])
    held.add(keys[140_000:])
    await held.settle()
    assert all(held.contains(keys))
    assert not any(held.contains(others))
    assert len(held) == len(keys)
    assert held.contains([]) == []


async def test_ten_times_the_keys_take_the_bytes_that_were_promised() -> None:
    keys = random_keys(300_000, 3)
    small, large = await loaded(keys[:30_000]), await loaded(keys)
    assert large.memory_bytes - small.memory_bytes == 4 * (len(large) - len(small))
    recent = KeySet()
    recent.add(keys[:30_000])
    assert recent.memory_bytes > small.memory_bytes - 4 * 2**20


async def test_recent_keys_are_found_while_they_join_the_bulk() -> None:
    keys = random_keys(keyset.RECENT_KEYS + 1, 4)
    held = await loaded(keys[:1])
    held.add(keys[1:])
    joining = asyncio.create_task(held.settle())
    looks = 0
    while not joining.done():
        assert all(held.contains(keys[:50] + keys[-50:]))
        looks += 1
        await asyncio.sleep(0)
    await joining
    assert looks > 1
    assert all(held.contains(keys))


def test_each_process_hashes_otherwise() -> None:
    code = "from indexer.keyset import _hashes; print(_hashes([b'key'])[0])"
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(seen) == 2
