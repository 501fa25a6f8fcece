"""An endpoint's breaker, pauses and warnings, attempt by attempt, with time passed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callbacks.answer import Answer
from callbacks.health import (
    DISABLED_AFTER,
    DISABLED_FAILURES,
    FAULTS,
    WARNINGS,
    End,
    Health,
    Notice,
    Report,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WIDTH = 8


def after(
    health: Health,
    *ends: End,
    at: datetime = NOW,
    probe: bool = False,
    pause: float = 0.0,
    mostly_faults: bool = False,
) -> list[Notice]:
    """What was told while so many attempts ended so."""
    told = []
    for end in ends:
        report = Report("ep_1", end, Answer(None, "timeout"), probe, pause, mostly_faults)
        told.append(health.take(report, at, WIDTH))
    return [each for each in told if each is not None]


def opened(at: datetime = NOW) -> Health:
    health = Health()
    after(health, *[End.FAULT] * FAULTS, at=at)
    return health


def seconds(health: Health, at: datetime = NOW) -> float:
    """That the breaker stays open."""
    assert health.open_until is not None
    return (health.open_until - at).total_seconds()


@pytest.mark.case(39)
def test_five_faults_in_a_row_open_the_breaker() -> None:
    health = Health()
    after(health, *[End.FAULT] * 4)
    assert not health.stopped(NOW)
    after(health, End.FAULT)
    assert health.stopped(NOW)
    assert seconds(health) == 30


@pytest.mark.parametrize("between", [End.REFUSED, End.DELIVERED])
def test_an_answer_between_faults_begins_the_count_anew(between: End) -> None:
    health = Health()
    after(health, *[End.FAULT] * 4, between, *[End.FAULT] * 4)
    assert health.open_until is None


def test_refusals_of_messages_never_open_it() -> None:
    health = Health()
    after(health, *[End.REFUSED] * 500)
    assert health.open_until is None


def test_one_fault_opens_it_when_most_of_the_last_were() -> None:
    health = Health()
    after(health, End.FAULT, mostly_faults=True)
    assert health.open_until is not None


def test_each_failed_probe_doubles_the_time_up_to_five_minutes() -> None:
    health, lasted = opened(), []
    for _ in range(6):
        lasted.append(seconds(health))
        after(health, End.FAULT, probe=True)
    assert lasted == [30, 60, 120, 240, 300, 300]


def test_what_was_under_way_when_it_opened_does_not_lengthen_it() -> None:
    health = opened()
    after(health, *[End.FAULT] * 7, at=NOW + timedelta(seconds=15))
    assert seconds(health) == 30


def test_a_probe_that_is_answered_half_opens_it_and_each_answer_doubles_its_room() -> None:
    health, rooms = opened(), []
    after(health, End.DELIVERED, probe=True)
    while not health.well:
        rooms.append(health.room)
        assert not health.stopped(NOW)
        after(health, End.DELIVERED)
    assert rooms == [1, 2, 4]


def test_a_refused_probe_shows_that_the_endpoint_is_there() -> None:
    health = opened()
    after(health, End.REFUSED, probe=True)
    assert (health.open_until, health.room) == (None, 1)


def test_a_fault_while_half_open_opens_it_for_longer() -> None:
    health = opened()
    after(health, End.DELIVERED, probe=True)
    after(health, End.FAULT)
    assert (seconds(health), health.room) == (60, None)
    after(health, End.DELIVERED, probe=True)
    after(health, *[End.DELIVERED] * 3)
    assert health.well
    after(health, *[End.FAULT] * FAULTS)
    assert seconds(health) == 30


@pytest.mark.case(14)
def test_a_pause_lasts_as_long_as_was_asked_whatever_succeeds_meanwhile() -> None:
    health = Health()
    after(health, End.PAUSE, pause=60.0)
    after(health, End.PAUSE, pause=20.0)
    after(health, End.DELIVERED)
    assert health.stopped(NOW + timedelta(seconds=59))
    assert not health.stopped(NOW + timedelta(seconds=60))
    after(health, End.DELIVERED, at=NOW + timedelta(seconds=60))
    assert health.well


def test_pauses_are_no_faults() -> None:
    health = Health()
    after(health, *[End.PAUSE] * 50, pause=1.0)
    assert health.open_until is None


def test_a_probe_that_is_asked_to_wait_is_followed_by_one_after_that() -> None:
    health = opened()
    after(health, End.PAUSE, probe=True, pause=45.0)
    assert seconds(health) == 45


def test_failure_without_a_break_is_told_after_each_time_once() -> None:
    health = Health()
    told = []
    for minutes in range(25 * 60):
        for notice in after(health, End.REFUSED, at=NOW + timedelta(minutes=minutes)):
            told.append((notice, timedelta(minutes=minutes)))
    assert told == [(Notice.FAILING, lasted) for lasted in WARNINGS]


def test_of_several_times_that_passed_together_one_is_told() -> None:
    health = Health()
    assert after(health, End.FAULT) == []
    assert after(health, *[End.FAULT] * 2, at=NOW + timedelta(hours=7)) == [Notice.FAILING]
    assert after(health, End.FAULT, at=NOW + timedelta(hours=24)) == [Notice.FAILING]


def test_a_success_ends_the_failure_and_is_told_if_the_failure_was() -> None:
    health = Health()
    after(health, End.FAULT)
    assert after(health, End.DELIVERED) == []
    after(health, End.FAULT)
    assert after(health, End.FAULT, at=NOW + timedelta(minutes=10)) == [Notice.FAILING]
    assert after(health, End.DELIVERED, End.DELIVERED) == [Notice.RECOVERED]
    assert health.well


def test_five_days_and_twenty_failures_disable_it() -> None:
    health = Health()
    after(health, *[End.FAULT] * (DISABLED_FAILURES - 2))
    late = NOW + DISABLED_AFTER
    assert after(health, End.FAULT, at=late) == [Notice.FAILING]
    assert after(health, End.FAULT, at=late - timedelta(seconds=1)) == []
    assert after(health, End.FAULT, at=late) == [Notice.DISABLED]


@pytest.mark.case(15)
@pytest.mark.parametrize("end", [End.GONE, End.UNWANTED])
def test_a_receiver_that_wants_no_more_disables_it_at_once(end: End) -> None:
    health = Health()
    assert after(health, end) == [Notice.DISABLED]
    assert after(health, End.DELIVERED) == [Notice.RECOVERED]
