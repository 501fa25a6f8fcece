"""What each kind of answer means for its delivery and for its endpoint."""

from __future__ import annotations

from email.utils import formatdate
from random import Random
from uuid import UUID

import pytest

from callbacks.answer import Answer
from callbacks.attempts import Message
from callbacks.claims import Claim
from callbacks.health import End
from callbacks.schedule import MAX_ATTEMPTS, WAITS
from callbacks.verdict import Verdict, judge

NOW = 1_800_000_000.0
MESSAGE = Message("ep_1", "evt_1", b"{}", 1, "https://shop.example/", ())


def verdict(
    answer: Answer, *, attempts: int = 0, probe: bool = False, early: bool = False
) -> Verdict:
    claim = Claim(1, UUID(int=1), attempts, MESSAGE, probe, early)
    return judge(claim, answer, 5.0, NOW, Random(1))


def status(code: int, retry_after: str | None = None, directive: str | None = None) -> Answer:
    error = None if 200 <= code <= 299 else "status"
    return Answer(code, error, retry_after, directive)


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (status(200), End.DELIVERED),
        (status(299), End.DELIVERED),
        (status(302), End.REFUSED),
        (status(400), End.REFUSED),
        (status(404), End.REFUSED),
        (status(410), End.GONE),
        (status(429), End.FAULT),
        (status(500), End.FAULT),
        (status(503), End.FAULT),
        (status(599), End.FAULT),
        (status(429, "7"), End.PAUSE),
        (status(503, "7"), End.PAUSE),
        (status(500, "7"), End.FAULT),
        (status(400, "7"), End.REFUSED),
        (status(429, "-1"), End.FAULT),
        (status(200, directive=" Disable "), End.UNWANTED),
        (status(500, directive="disable"), End.UNWANTED),
        (status(500, directive="enable"), End.FAULT),
        *((Answer(None, error), End.FAULT) for error in ("dns", "connect", "tls", "timeout")),
        *((Answer(None, error), End.FAULT) for error in ("reset", "protocol", "blocked")),
    ],
)
def test_what_an_answer_says_of_its_endpoint(answer: Answer, end: End) -> None:
    report = verdict(answer, probe=True).report
    assert (report.endpoint, report.end, report.answer, report.probe) == (
        "ep_1",
        end,
        answer,
        True,
    )


@pytest.mark.parametrize("directive", [None, "disable", "abort-message"])
def test_a_complete_2xx_is_delivered_whatever_else_it_says(directive: str | None) -> None:
    outcome = verdict(status(204, directive=directive)).outcome
    assert (outcome.state, outcome.wait, outcome.charged) == ("delivered", None, True)


@pytest.mark.parametrize("attempts", range(MAX_ATTEMPTS))
def test_a_failure_waits_for_its_place_in_the_schedule_and_the_last_exhausts(attempts: int) -> None:
    outcome = verdict(status(500), attempts=attempts).outcome
    assert outcome.charged
    if attempts == MAX_ATTEMPTS - 1:
        assert (outcome.state, outcome.reason, outcome.wait) == ("exhausted", "attempts", None)
    else:
        assert outcome.state is None
        assert outcome.wait is not None
        assert WAITS[attempts] <= outcome.wait <= WAITS[attempts] * 1.1 + 1


@pytest.mark.case(14)
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("120", 120), (formatdate(NOW + 90, usegmt=True), 90), ("315360000", 3600)],
)
def test_a_pause_is_not_charged_and_lasts_no_longer_than_an_hour(
    code: int, asked: str, seconds: float
) -> None:
    outcome, report = verdict(status(code, asked))
    assert (outcome.state, outcome.charged, report.pause_seconds) == (None, False, seconds)
    assert outcome.wait is not None
    assert seconds <= outcome.wait <= seconds * 1.1


@pytest.mark.case(14)
@pytest.mark.parametrize("asked", ["-1", "NaN", "1e309", formatdate(NOW - 90, usegmt=True), "soon"])
def test_a_retry_after_that_says_nothing_is_a_failure_like_others(asked: str) -> None:
    outcome, report = verdict(status(503, asked))
    assert (outcome.charged, report.end, report.pause_seconds) == (True, End.FAULT, 0.0)


def test_a_pause_never_takes_the_last_attempt() -> None:
    outcome = verdict(status(429, "1"), attempts=MAX_ATTEMPTS - 1).outcome
    assert (outcome.state, outcome.charged) == (None, False)
    assert outcome.wait is not None


@pytest.mark.case(15)
@pytest.mark.parametrize("answer", [status(410), status(500, directive="disable")])
def test_a_receiver_that_wants_no_more_costs_its_delivery_nothing(answer: Answer) -> None:
    outcome = verdict(answer, attempts=MAX_ATTEMPTS - 1).outcome
    assert (outcome.state, outcome.charged, outcome.wait) == (None, False, 0.0)


@pytest.mark.case(15)
def test_abort_message_exhausts_this_delivery_and_says_nothing_of_its_endpoint() -> None:
    outcome, report = verdict(status(400, directive="abort-message"))
    assert (outcome.state, outcome.reason) == ("exhausted", "aborted")
    assert report.end is End.REFUSED


def test_a_probe_before_its_deliverys_own_time_is_not_charged() -> None:
    outcome = verdict(Answer(None, "connect"), probe=True, early=True).outcome
    assert (outcome.state, outcome.charged, outcome.wait) == (None, False, 0.0)
    on_time = verdict(Answer(None, "connect"), probe=True).outcome
    assert on_time.charged
