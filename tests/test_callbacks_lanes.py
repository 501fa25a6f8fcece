"""An endpoint's pace and width in one process, with time passed in."""

from __future__ import annotations

from uuid import UUID

import pytest

from callbacks.attempts import Message
from callbacks.claims import Claim, Lot
from callbacks.health import End
from callbacks.lanes import BURST_SECONDS, WINDOW_SECONDS, Bucket, Lane, Recent

MESSAGE = Message("ep_1", "evt_1", b"{}", 1, "https://shop.example/", ())


def lot(count: int, *, rate: float = 1000.0, concurrency: int = 8) -> Lot:
    claims = tuple(Claim(number, UUID(int=1), 0, MESSAGE) for number in range(count))
    return Lot("ep_1", rate, concurrency, claims, full=True)


def lane(count: int, *, rate: float = 1000.0, concurrency: int = 8) -> Lane:
    """One that has answered for a while."""
    made = Lane(lot(0, rate=rate, concurrency=concurrency), 0.0)
    for _ in range(concurrency.bit_length()):
        made.note(End.DELIVERED, 0.0)
    made.begin_anew()
    made.add(lot(count, rate=rate, concurrency=concurrency), 60.0)
    return made


def started(lane: Lane, now: float) -> int:
    """How many attempts may begin at once."""
    return sum(1 for _ in iter(lambda: lane.next(now), None))


def test_no_more_attempts_are_under_way_than_the_endpoint_takes() -> None:
    one = lane(20, concurrency=3)
    assert started(one, 0.0) == 3
    one.under_way -= 1
    assert started(one, 0.0) == 1


def test_who_is_not_known_to_answer_begins_with_one_and_each_answer_doubles_that() -> None:
    one = Lane(lot(0, concurrency=3), 0.0)
    one.add(lot(20, concurrency=3), 60.0)
    widths = []
    for _ in range(4):
        widths.append(started(one, 0.0))
        one.under_way = 0
        one.note(End.REFUSED, 0.0)
    assert widths == [1, 2, 3, 3]


def test_who_hangs_gets_nothing_more_and_begins_anew() -> None:
    one = lane(20)
    assert started(one, 0.0) == 8
    one.lingering = 1
    one.under_way = 1
    assert (one.next(0.0), one.want(100, 0.0).room) == (None, 0)
    one.under_way = one.lingering = 0
    one.note(End.FAULT, 0.0, lingered=True)
    assert (started(one, 0.0), one.proven) == (1, False)
    one.note(End.DELIVERED, 0.0)
    assert one.proven


def test_claims_go_out_in_their_order_with_their_leases() -> None:
    one = lane(3)
    found = [one.next(0.0) for _ in range(3)]
    assert [each and (each.claim.id, each.lease_ends) for each in found] == [
        (0, 60.0),
        (1, 60.0),
        (2, 60.0),
    ]


def test_after_a_burst_the_rate_is_kept_to_the_second() -> None:
    one = lane(1000, rate=50.0, concurrency=1000)
    assert started(one, 0.0) == 50 * BURST_SECONDS
    assert one.pause(0.0) == pytest.approx(0.02)
    assert started(one, 0.5) == 25
    assert started(one, 1.5) == 50


def test_a_rate_below_one_a_second_lets_one_through_at_its_time() -> None:
    one = lane(5, rate=0.1)
    assert started(one, 0.0) == 1
    assert one.pause(0.0) == pytest.approx(10.0)
    assert started(one, 9.9) == 0
    assert started(one, 10.0) == 1


def test_nothing_is_held_up_by_the_rate_where_nothing_could_be_sent() -> None:
    empty, full = lane(0, rate=0.1), lane(5, rate=1.0, concurrency=1)
    assert started(full, 0.0) == 1
    assert (empty.pause(0.0), full.pause(0.0)) == (0.0, 0.0)


def test_a_changed_rate_holds_from_the_next_lot_on() -> None:
    bucket = Bucket(1.0, 0.0)
    bucket.tokens = 0.0
    bucket.rate = 10.0
    assert bucket.fill(1.0) == 10.0
    assert bucket.fill(100.0) == 10.0 * BURST_SECONDS


def test_no_more_is_claimed_ahead_than_can_be_sent_soon() -> None:
    assert lane(0).want(64, 0.0).room == 32  # four rounds of eight
    assert lane(30).want(64, 0.0).room == 2
    assert lane(40).want(64, 0.0).room == 0
    assert lane(0, concurrency=64).want(64, 0.0).room == 64
    slow = lane(0, rate=1.0)
    assert slow.want(64, 0.0).room == 4
    slow.add(lot(3), 60.0)
    assert slow.want(64, 0.0).busy == 3


def test_half_of_twenty_attempts_in_a_minute_are_many_faults() -> None:
    recent = Recent(0.0)
    for number in range(19):
        recent.add(number % 2 == 0, number)
    found = [recent.mostly_faults]  # too few to tell
    for number in (19, 20):
        recent.add(False, number)
        found.append(recent.mostly_faults)
    assert found == [False, True, False]


def test_faults_are_forgotten_after_the_window_and_when_the_breaker_has_opened() -> None:
    recent = Recent(0.0)
    for _ in range(20):
        recent.add(True, 0.0)
    found = [recent.mostly_faults]
    for now in (WINDOW_SECONDS - 1, WINDOW_SECONDS + 10):
        recent.add(False, now)
        found.append(recent.mostly_faults)
    assert found == [True, True, False]
    for _ in range(30):
        recent.add(True, WINDOW_SECONDS + 10)
    recent.clear()
    assert not recent.mostly_faults


@pytest.mark.parametrize(
    ("ends", "goes_on"),
    [
        ([End.FAULT] * 4, True),
        ([End.FAULT] * 5, False),
        ([End.FAULT] * 4 + [End.REFUSED] + [End.FAULT] * 4, True),
        ([End.REFUSED, End.FAULT] * 10, False),
        ([End.REFUSED] * 50, True),
        ([End.PAUSE], False),
        ([End.GONE], False),
        ([End.UNWANTED], False),
    ],
)
def test_nothing_more_is_sent_once_the_breaker_must_open_or_a_pause_was_asked(
    ends: list[End], goes_on: bool
) -> None:
    one = lane(3)
    for end in ends:
        one.note(end, 0.0)
    assert (one.next(0.0) is not None, one.pause(0.0)) == (goes_on, 0.0)
    assert len(one.give_back()) == 3 - goes_on
    one.begin_anew()
    one.add(lot(1), 60.0)
    assert one.next(0.0) is not None


def test_a_lane_is_forgotten_only_when_it_rests() -> None:
    one = lane(1)
    assert not one.stale(10 * WINDOW_SECONDS)
    assert started(one, 0.0) == 1
    assert not one.stale(10 * WINDOW_SECONDS)
    one.under_way -= 1
    assert not one.stale(WINDOW_SECONDS)
    assert one.stale(WINDOW_SECONDS + 1)
