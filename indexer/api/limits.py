"""How often a key may call and an address may guess, and how many imports run: of this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from math import ceil
from typing import Final

from aiohttp import web

from indexer.api.caller import Address
from indexer.api.errors import Problem

DEFAULT_RATE: Final = 100.0  # requests a second, of a key that has no limit of its own
BURST_SECONDS: Final = 2.0  # of the rate may come at once
GUESSES: Final = 10  # failed logins that an address has at once
GUESS_SECONDS: Final = 6.0  # until it has another one
IMPORTS: Final = 4  # at once: each may fill a disk with 2 GiB, and then holds a connection for long
IMPORT_SECONDS: Final = 10.0  # until it is worth trying again
MAX_BUCKETS: Final = 10_000  # remembered of each kind; the longest unused are forgotten
IPV6_PREFIX: Final = 64  # bits: one caller's own network


@dataclass
class _Bucket:
    left: float
    at: float


class Buckets:
    """Token buckets by name: `size` at once, refilled at `rate` a second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def left(self, name: Hashable, rate: float, size: float) -> float:
        return self._filled(name, rate, size).left

    def take(self, name: Hashable, rate: float, size: float) -> float:
        """What is left after taking one; below zero, and nothing taken, if there was none."""
        bucket = self._filled(name, rate, size)
        if bucket.left < 1.0:
            return bucket.left - 1.0
        bucket.left -= 1.0
        return bucket.left

    def _filled(self, name: Hashable, rate: float, size: float) -> _Bucket:
        now = self._now()
        bucket = self._buckets.pop(name, None) or _Bucket(size, now)
        bucket.left = min(size, bucket.left + max(0.0, now - bucket.at) * rate)
        bucket.at = now
        self._buckets[name] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return bucket


@dataclass(frozen=True)
class Quota:
    """What a key has left, for the `RateLimit-*` headers (draft-ietf-httpapi-ratelimit-headers)."""

    size: int
    remaining: int
    reset: int  # seconds until it is full again

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.size),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


class Limits:
    """Of one process."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        *,
        rate: float = DEFAULT_RATE,
        guesses: int = GUESSES,
    ) -> None:
        """`rate`: requests a second of a key that has no limit of its own."""
        self._rate = rate
        self._most_guesses = guesses
        self._keys = Buckets(now)
        self._guesses = Buckets(now)
        self._importing: set[str] = set()  # accounts

    def use(self, key_id: str, rate: float | None) -> Quota:
        """Count a request of a key. Problem (429) when it has no more now."""
        rate = rate or self._rate
        size = max(1.0, rate * BURST_SECONDS)
        left = self._keys.take(key_id, rate, size)
        quota = Quota(int(size), max(0, int(left)), ceil((size - max(0.0, left)) / rate))
        if left < 0:
            raise too_many("this key has used up its requests", -left / rate, quota.headers())
        return quota

    def may_guess(self, address: Address) -> None:
        """Problem (429) for an address whose last logins failed too often."""
        left = self._guesses.left(_network(address), 1 / GUESS_SECONDS, self._most_guesses)
        if left < 1.0:
            raise too_many("too many keys from here were wrong", (1.0 - left) * GUESS_SECONDS)

    def guessed_wrong(self, address: Address) -> None:
        self._guesses.take(_network(address), 1 / GUESS_SECONDS, self._most_guesses)

    @contextmanager
    def one_import(self, account: str) -> Iterator[None]:
        """While an import of an account runs. Problem (429) where there are enough of them."""
        if account in self._importing:
            raise too_many("this account's last import is still running", IMPORT_SECONDS)
        if len(self._importing) >= IMPORTS:
            raise too_many("this server has as many imports as it can serve", IMPORT_SECONDS)
        self._importing.add(account)
        try:
            yield
        finally:
            self._importing.remove(account)


def too_many(why: str, wait: float, headers: dict[str, str] | None = None) -> Problem:
    """429; `wait` in seconds."""
    seconds = max(1, ceil(wait))
    message = f"{why}: try again in {seconds} s"
    return Problem(429, message, headers={**(headers or {}), "Retry-After": str(seconds)})


def _network(address: Address) -> Hashable:
    if isinstance(address, IPv6Address):
        return ip_network((address, IPV6_PREFIX), strict=False)
    return address


LIMITS: Final = web.AppKey("limits", Limits)
