"""What an answer means: for its delivery, and for its endpoint.

Pure. Sources of the rules: the callback specification's "Status", "Retry-After" and "Schedule", and
Standard Webhooks' proposal of the answer's header `webhook-delivery`.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from callbacks.answer import Answer
from callbacks.claims import Claim
from callbacks.health import End, Report
from callbacks.outcomes import Outcome
from callbacks.schedule import MAX_ATTEMPTS, MAX_RETRY_AFTER_SECONDS, next_wait, parse_retry_after

# Of the header `webhook-delivery`.
DISABLE: Final = "disable"
ABORT: Final = "abort-message"
# Statuses with a meaning of their own.
GONE: Final = 410
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
SERVER_ERRORS: Final = range(500, 600)


class Verdict(NamedTuple):
    outcome: Outcome
    report: Report


def judge(
    claim: Claim, answer: Answer, began: float, now: float, rng: Random, mostly_faults: bool = False
) -> Verdict:
    """`began`: on time.monotonic(); `now`: Unix seconds.

    `mostly_faults`: whether most of the endpoint's last attempts were faults, this one aside.
    """
    asked = parse_retry_after(answer.retry_after, now)
    end = _end(answer, asked)
    report = Report(
        claim.message.endpoint,
        end,
        answer,
        claim.probe,
        min(asked or 0.0, MAX_RETRY_AFTER_SECONDS),
        mostly_faults,
    )
    return Verdict(_outcome(claim, answer, began, end, asked, rng), report)


def _outcome(
    claim: Claim, answer: Answer, began: float, end: End, asked: float | None, rng: Random
) -> Outcome:
    if answer.error is None:
        return Outcome(claim, answer, began, "delivered")
    if _directive(answer) == ABORT:
        return Outcome(claim, answer, began, "exhausted", "aborted")
    if end in (End.GONE, End.UNWANTED):
        return Outcome(claim, answer, began, wait=0.0, charged=False)  # held from now on
    if end is End.PAUSE:
        # Never its last attempt, which is charged.
        wait = next_wait(min(claim.attempts + 1, MAX_ATTEMPTS - 1), asked, rng)
        return Outcome(claim, answer, began, wait=wait, charged=False)
    if claim.early:
        return Outcome(claim, answer, began, wait=0.0, charged=False)  # its own time is to come
    wait = next_wait(claim.attempts + 1, asked, rng)
    if wait is None:
        return Outcome(claim, answer, began, "exhausted", "attempts")
    return Outcome(claim, answer, began, wait=wait)


def _end(answer: Answer, asked: float | None) -> End:
    if _directive(answer) == DISABLE:
        return End.UNWANTED
    if answer.error is None:
        return End.DELIVERED
    if answer.error != "status" or answer.status is None:
        return End.FAULT
    if answer.status == GONE:
        return End.GONE
    if asked is not None and answer.status in (TOO_MANY, UNAVAILABLE):
        return End.PAUSE
    if answer.status == TOO_MANY or answer.status in SERVER_ERRORS:
        return End.FAULT
    return End.REFUSED


def _directive(answer: Answer) -> str:
    return (answer.directive or "").strip().lower()
