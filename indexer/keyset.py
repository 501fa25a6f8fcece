"""Millions of address keys in little memory: may this one be among them?

It may say yes to a key that was never added (of ten million, to one in 450 million) and never no to
one that was. Keys are hashed by Python's own hash of bytes: SipHash under a key that is drawn for
each process, so that nobody outside can make addresses that collide (unless PYTHONHASHSEED is set).
"""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

RECENT_KEYS: Final = 50_000  # kept as they are, about 6 MB, before they join the bulk
KEY_BYTES: Final = 60  # of memory that a recent key takes, beside its place in the set

BUCKET_BITS: Final = 20  # of a hash, which say where to look
LOW_BITS: Final = 32  # of a hash, which are kept
SPARE_BITS: Final = 64 - BUCKET_BITS - LOW_BITS

Hashes: TypeAlias = NDArray[np.uint64]  # of BUCKET_BITS + LOW_BITS bits each


class _Bulk:
    """Distinct hashes, sorted: 4 bytes each and 4 MB. It never changes.

    A bucket holds ten of ten million hashes, side by side: measured at a fifth of the time that a
    search through sorted 64-bit hashes takes, most of whose steps miss the processor's caches.
    """

    def __init__(self, starts: NDArray[np.int32], low: NDArray[np.uint32]) -> None:
        """`starts`: where each bucket begins, and the end. `low`: at least one hash's low bits."""
        self._starts = starts
        self._low = low
        self._steps = int(np.diff(starts).max()).bit_length()  # that halve the largest bucket

    def __len__(self) -> int:
        return len(self._low)

    @property
    def memory_bytes(self) -> int:
        return self._starts.nbytes + self._low.nbytes

    @classmethod
    def of(cls, hashes: Hashes) -> _Bulk:
        """From hashes in any order, some twice; they are sorted in place."""
        hashes.sort()
        first = np.ones(len(hashes), np.bool_)
        np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
        if not first.all():
            hashes = hashes[first]
        edges = np.arange(2**BUCKET_BITS + 1, dtype=np.uint64) << np.uint64(LOW_BITS)
        return cls(hashes.searchsorted(edges).astype(np.int32), hashes.astype(np.uint32))

    def find(self, hashes: Hashes) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Of each hash the place where it is or belongs, and whether it is there."""
        bucket, low = _bucket(hashes), hashes.astype(np.uint32)
        at, end = self._starts[bucket], self._starts[bucket + 1]
        above = end
        for _ in range(self._steps):
            middle = (at + above) >> 1
            less = (middle < above) & (self._low.take(middle, mode="clip") < low)
            at, above = np.where(less, middle + 1, at), np.where(less, above, middle)
        return at, (at < end) & (self._low.take(at, mode="clip") == low)

    def joined(self, hashes: Hashes) -> _Bulk:
        """This and some hashes more."""
        hashes = np.unique(hashes)
        at, found = self.find(hashes)
        new = hashes[~found]
        more = np.bincount(_bucket(new) + 1, minlength=2**BUCKET_BITS + 1).cumsum()
        low = np.insert(self._low, at[~found], new.astype(np.uint32))
        return _Bulk(self._starts + more.astype(np.int32), low)


class KeySet:
    """Keys of any length: a bulk of hashes, and as they are those that came since."""

    def __init__(self, bulk: _Bulk | None = None) -> None:
        self._bulk = bulk
        self._recent: set[bytes] = set()

    def __len__(self) -> int:
        """How many were added, each counted once."""
        return len(self._recent) + (0 if self._bulk is None else len(self._bulk))

    @property
    def memory_bytes(self) -> int:
        """What the keys take, about."""
        recent = sys.getsizeof(self._recent) + KEY_BYTES * len(self._recent)
        return recent + (0 if self._bulk is None else self._bulk.memory_bytes)

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        recent = self._recent
        if self._bulk is None or not keys:
            return [key in recent for key in keys]
        found: list[bool] = self._bulk.find(_hashes(keys))[1].tolist()
        if not recent:
            return found
        return [hit or key in recent for hit, key in zip(found, keys, strict=True)]

    def add(self, keys: Sequence[bytes]) -> None:
        """Some keys more, found from now on. `settle` afterwards."""
        known = self.contains(keys)
        self._recent.update(key for key, there in zip(keys, known, strict=True) if not there)

    async def settle(self) -> None:
        """Join recent keys to the bulk once they are many, in a thread: that copies it.

        Nothing may be added meanwhile.
        """
        if len(self._recent) >= RECENT_KEYS:
            self._bulk = await asyncio.to_thread(_join, self._bulk, self._recent)
            self._recent = set()


class Loading:
    """A key set in the making, of keys that come in any order and more than once."""

    def __init__(self) -> None:
        self._hashes = array("q")  # grows in place: nothing is there twice

    def add(self, keys: Iterable[bytes]) -> None:
        self._hashes.extend(map(hash, keys))

    async def finish(self) -> KeySet:
        """The set of them all, sorted in a thread."""
        if not self._hashes:
            return KeySet()
        hashes = _shortened(np.frombuffer(self._hashes, np.uint64))
        return KeySet(await asyncio.to_thread(_Bulk.of, hashes))


def _join(bulk: _Bulk | None, keys: Collection[bytes]) -> _Bulk:
    hashes = _hashes(keys)
    return _Bulk.of(hashes) if bulk is None else bulk.joined(hashes)


def _hashes(keys: Collection[bytes]) -> Hashes:
    return _shortened(np.fromiter(map(hash, keys), np.int64, len(keys)).view(np.uint64))


def _shortened(hashes: NDArray[np.uint64]) -> Hashes:
    """Whole hashes, without the bits that are not looked at; in place."""
    hashes >>= np.uint64(SPARE_BITS)
    return hashes


def _bucket(hashes: Hashes) -> NDArray[np.intp]:
    return (hashes >> np.uint64(LOW_BITS)).astype(np.intp)
