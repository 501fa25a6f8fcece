"""The retry schedule: 14 attempts over three days, never early, never later than asked."""

from __future__ import annotations

from datetime import timedelta
from email.utils import formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks.schedule import MAX_ATTEMPTS, WAITS, next_wait, parse_retry_after

NOW = 1_800_000_000.0


def test_fourteen_attempts_over_71_hours_52_minutes_35_seconds() -> None:
    assert MAX_ATTEMPTS == 14
    assert timedelta(seconds=sum(WAITS)) == timedelta(hours=71, minutes=52, seconds=35)


@given(seed=st.integers(), attempts=st.integers(1, 13))
def test_jitter_only_adds_a_tenth_or_up_to_a_second(seed: int, attempts: int) -> None:
    planned = WAITS[attempts - 1]
    wait = next_wait(attempts, None, Random(seed))
    assert wait is not None
    assert planned <= wait <= planned + max(1.0, planned / 10)


def test_jitter_spreads_the_shortest_wait() -> None:
    rng = Random(1)
    waits = [next_wait(1, None, rng) for _ in range(50)]
    assert len(set(waits)) == 50


def test_the_last_attempt_is_followed_by_none() -> None:
    assert next_wait(13, None, Random(1)) is not None
    assert next_wait(14, None, Random(1)) is None
    assert next_wait(14, 60.0, Random(1)) is None


@pytest.mark.parametrize(
    ("attempts", "asked", "floor"),
    [(1, 60.0, 60), (1, 2.0, 5), (1, 1e9, 3600), (13, 3600.0, 24 * 3600)],
)
def test_retry_after_lengthens_a_wait_by_no_more_than_an_hour(
    attempts: int, asked: float, floor: int
) -> None:
    wait = next_wait(attempts, asked, Random(1))
    assert wait is not None
    assert floor <= wait <= floor * 1.1 + 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("315360000", 315360000.0),  # ten years: capped where it is used
        (formatdate(NOW + 90, usegmt=True), 90.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),  # the past
        (formatdate(NOW - 1, usegmt=True), None),
        (None, None),
        ("", None),
        ("0", None),
        ("-1", None),
        ("1.5", None),
        ("NaN", None),
        ("1e309", None),
        ("9" * 5000, None),
        ("٣", None),
        ("soon", None),
        ("Wed, 99 Xxx 2099 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date_and_garbage_ignored(
    value: str | None, seconds: float | None
) -> None:
    assert parse_retry_after(value, NOW) == seconds


@given(value=st.text(max_size=60))
def test_no_retry_after_breaks_the_dispatcher(value: str) -> None:
    wait = parse_retry_after(value, NOW)
    assert wait is None or wait > 0
