"""The steps of a deposit's events and their deliveries, as sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from indexer.explain.facts import Delivery, Event, Facts
from indexer.explain.steps import Step, ended, passed, waits
from indexer.model import Deposit, format_time


def callback_steps(deposit: Deposit, facts: Facts) -> Iterator[Step]:
    """Each event, and behind it where it went."""
    events = facts.events.get(deposit.id, [])
    if not events and deposit.sequence:
        yield passed("event", "its events are too old: they are no longer kept")
    told = any(event.deliveries for event in events)
    for event in events:
        yield passed("event", f"{event.type} ({event.sequence}) at {format_time(event.created_at)}")
        for delivery in event.deliveries:
            yield _delivery(delivery, facts)
        if not event.deliveries:
            said, advice = _untold(event, deposit, facts)
            yield passed("delivery", said) if told else ended("delivery", said, advice)


def _untold(event: Event, deposit: Deposit, facts: Facts) -> tuple[str, str]:
    """Why nobody is told of an event."""
    if deposit.silent:
        return (
            "nobody is told: its address was registered with callbacks: false",
            "`POST /v1/endpoints/{id}/resend` with `since` sends it nevertheless",
        )
    if not facts.endpoints.get(deposit.account):
        return f"account {deposit.account} has no endpoint", "make one: `POST /v1/endpoints`"
    if event.wanted_by:
        return f"its delivery to {event.wanted_by[0]} is no longer kept", "see the receiver's log"
    if event.wanted_since_by:
        endpoint = event.wanted_since_by[0]
        return (
            f"endpoint {endpoint} was made after it happened",
            f"`POST /v1/endpoints/{endpoint}/resend` with `since` sends it",
        )
    return (
        f"no endpoint of account {deposit.account} asks for {event.type} of this deposit",
        "change the events, networks, coins or minAmount of one: `PATCH /v1/endpoints/{id}`",
    )


def _delivery(delivery: Delivery, facts: Facts) -> Step:
    to, tries = f"to endpoint {delivery.endpoint}", _count(delivery.attempts, "attempt")
    done = "" if delivery.done_at is None else f" at {format_time(delivery.done_at)}"
    again = f"mend the receiver, then `POST /v1/deliveries/{delivery.id}/resend`"
    match delivery.state:
        case "delivered":
            return passed("delivery", f"delivered {to}{done}, after {tries}")
        case "exhausted":
            why = delivery.last_error or delivery.reason
            return ended("delivery", f"given up {to}{done}, after {tries}: {why}", again)
        case "cancelled":
            why = "" if delivery.reason is None else f": {delivery.reason}"
            return ended("delivery", f"cancelled {to}{done}{why}", again)
    return waits("delivery", *_pending(delivery, facts))


def _pending(delivery: Delivery, facts: Facts) -> tuple[str, str]:
    """What an unsent delivery waits for."""
    name = f"endpoint {delivery.endpoint}"
    if delivery.endpoint_state != "active" and delivery.endpoint_since is not None:
        why = "" if delivery.endpoint_reason is None else f": {delivery.endpoint_reason}"
        since = format_time(delivery.endpoint_since)
        return (
            f"held: {name} is {delivery.endpoint_state} since {since}{why}",
            f"`POST /v1/endpoints/{delivery.endpoint}/resume`",
        )
    if delivery.after is not None:
        return (
            f"{name} is sent event {delivery.after} of this deposit first",
            "see what that one waits for",
        )
    if not facts.sending:
        return f"no process sends callbacks to {name}", "run one: `depositd run --role dispatcher`"
    due = _next(delivery, facts.now)
    mend = "mend the receiver; what waits is tried again by itself"
    if delivery.attempts:
        tries = _count(delivery.attempts, "attempt")
        return f"{name} failed {tries}: {delivery.last_error}; next try {due}", mend
    if delivery.failures:
        tries = _count(delivery.failures, "attempt")
        return f"{name} takes nothing now: its last {tries} failed; next try {due}", mend
    return f"on its way to {name}, next try {due}", "wait a moment"


def _next(delivery: Delivery, now: datetime) -> str:
    due = [each for each in (delivery.due_at, delivery.shut_until) if each is not None]
    soonest = max(due, default=now)
    return "now" if soonest <= now else f"at {format_time(soonest)}"


def _count(number: int | None, noun: str) -> str:
    return f"{number or 0} {noun}{'' if number == 1 else 's'}"
