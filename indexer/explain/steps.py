"""The steps of a transaction up to its transfers, as sentences. Pure.

A step `passed`, or `waits` for something that may still come, or `ended` the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from indexer.chains import Sighting
from indexer.explain.cases import Subject
from indexer.explain.nodes import Elsewhere, Look
from indexer.status import NetworkState, Standing

StepName: TypeAlias = Literal[
    "transaction",
    "block",
    "execution",
    "transfers",
    "coin",
    "address",
    "amount",
    "deposit",
    "confirmations",
    "event",
    "delivery",
]


class Step(TypedDict):
    """One step of the way; `advice`: what to do about it."""

    step: StepName
    result: Literal["passed", "waits", "ended"]
    sentence: str
    advice: str | None


def passed(step: StepName, sentence: str, advice: str | None = None) -> Step:
    return {"step": step, "result": "passed", "sentence": sentence, "advice": advice}


def waits(step: StepName, sentence: str, advice: str | None = None) -> Step:
    return {"step": step, "result": "waits", "sentence": sentence, "advice": advice}


def ended(step: StepName, sentence: str, advice: str | None = None) -> Step:
    return {"step": step, "result": "ended", "sentence": sentence, "advice": advice}


def stopped_at(steps: Sequence[Step]) -> StepName | None:
    """The first step that did not pass."""
    return next((each["step"] for each in steps if each["result"] != "passed"), None)


def transaction_steps(subject: Subject, text: str, elsewhere: Elsewhere) -> Iterator[Step]:
    """As far as the nodes and our chain tell; `text`: the hash as the network writes it."""
    look, sighting = subject.look, subject.look.sighting
    if sighting is None:
        yield _unseen(subject.network, text, look, elsewhere)
        return
    if sighting.height is None or sighting.block is None:
        yield _unmined(sighting)
        return
    where = f"block {sighting.height} ({subject.codec.format_hash(sighting.block)})"
    yield passed("transaction", f"{_who(sighting)} has it in {where}")
    yield _block(subject, sighting.height)
    if look.stray:
        return
    if sighting.executed is False:
        why = f": {sighting.trouble}" if sighting.trouble else ""
        yield ended(
            "execution",
            f"it failed{why}; a failed transaction moves nothing",
            "the sender has to send it again",
        )
        return
    if sighting.executed:
        yield passed("execution", "it succeeded")
    yield _transfers(sighting, look)


def hindrance(network: str, standing: Standing | None) -> tuple[str, str] | None:
    """Why a network does not go on now, and what to do; None where it does."""
    if standing is None or standing["cursor"] is None:
        return f"{network} has not started yet", "run it: `depositd run`"
    why = f": {standing['reason']}" if standing["reason"] else ""
    match standing["state"]:
        case NetworkState.HALTED:
            return (
                f"{network} is halted{why}",
                f"an operator looks at it, then `depositd rewind {network} HEIGHT`",
            )
        case NetworkState.REFUSED:
            return f"{network} is refused{why}", "`depositd check` says what its nodes lack"
        case NetworkState.UNREACHABLE:
            return (
                f"{network} is unreachable{why}",
                "`depositd check` tries its nodes; `depositd run` has to be running",
            )
        case NetworkState.FORKED:
            return (
                f"the node of {network} is on another branch than ours, not longer yet{why}",
                "wait until one of the two is longer",
            )
        case NetworkState.CATCHING_UP:
            return f"{network} is behind: {_place(standing)}", "wait until it has caught up"
    return None


# ------------------------------------------------------------------------------ sentences


def _who(sighting: Sighting) -> str:
    return sighting.source or "the node"


def _unseen(network: str, text: str, look: Look, elsewhere: Elsewhere) -> Step:
    if look.problem is not None:
        return waits(
            "transaction",
            f"no node of {network} could say: {look.problem}",
            "ask again when one can; what follows is what the database knows",
        )
    if elsewhere.found:
        other = elsewhere.found[0]
        return ended(
            "transaction",
            f"no node of {network} knows it, {other} has it: it was sent on another network",
            f"see what became of it there: `depositd explain {other} {text}`",
        )
    looked = "".join(f", {name} neither" for name in elsewhere.not_there)
    missed = "".join(f"; {name} could not be asked" for name in elsewhere.not_asked)
    return ended(
        "transaction",
        f"no node of {network} knows it{looked}{missed}",
        "it was never sent, dropped, or replaced by another: compare the hash with the sender's",
    )


def _unmined(sighting: Sighting) -> Step:
    if sighting.trouble is not None:
        return ended(
            "transaction",
            f"{_who(sighting)} has it in no block, and it never will be in one: {sighting.trouble}",
            "ask the sender for the transaction that came in its place",
        )
    return waits(
        "transaction",
        f"{_who(sighting)} has it, but in no block yet: it waits to be mined",
        "wait; the sender may raise its fee",
    )


def _block(subject: Subject, height: int) -> Step:
    network, cursor = subject.network, subject.facts.cursor
    if subject.look.stray:
        return ended(
            "block",
            f"its block {height} is not on the node's chain any more: it was orphaned",
            "wait until it is mined again, or ask the sender for what replaced it",
        )
    if subject.read:
        return passed("block", f"block {height} is read: {network} is at {cursor}")
    about = (f"{network} is about to read it", "wait a moment")
    said, advice = hindrance(network, subject.facts.standing) or about
    if cursor is None or height > cursor:
        return waits("block", f"its block {height} is not read yet: {said}", advice)
    return waits("block", f"our chain has another block {height}: {said}", advice)


def _place(standing: Standing) -> str:
    head = "an unknown head" if standing["head"] is None else standing["head"]
    return f"at block {standing['cursor']} of {head}"


def _transfers(sighting: Sighting, look: Look) -> Step:
    unseen = None if sighting.unseen is None else f"not seen: {sighting.unseen}"
    if look.problem is not None:
        return waits(
            "transfers",
            f"its block could not be read: {look.problem}",
            "ask again when it can",
        )
    if not look.transfers:
        return ended(
            "transfers", "it moves no coin to anybody in a way that can be a deposit", unseen
        )
    count = len(look.transfers)
    return passed("transfers", f"it has {count} transfer{'s' if count > 1 else ''}", unseen)
