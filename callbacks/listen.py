"""`depositd listen`: shows a developer each callback that comes, and says why one does not verify.

It can misbehave as receivers do, so that retries, repetitions and their order can be watched.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from callbacks.receiver import Arrival, Inbox, receiving
from callbacks.signing import decode_secret
from indexer.model import Refused, Unavailable, format_time

PORT: Final = 9000
SECRET_VARIABLE: Final = "CALLBACK_SECRET"  # one secret, or several with blanks between
MAX_DELAY_SECONDS: Final = 3600.0
MAX_SHOWN: Final = 100  # characters of a text that came
# Characters of the columns; what is wider pushes the rest aside.
ANSWER_WIDTH: Final = 9
TYPE_WIDTH: Final = 17
AMOUNT_WIDTH: Final = 22
COIN_WIDTH: Final = 10
REFERENCE_WIDTH: Final = 12

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}

# Prints one thing: as an object for scripts, as a line for people. Unavailable: nobody reads on.
Show = Callable[[Mapping[str, Any], str], None]


@dataclass(frozen=True, slots=True)
class Manners:
    """How callbacks that verify are answered: at their best with 204 and at once."""

    fail: float = 0.0  # the chance of a 500
    drop: float = 0.0  # the chance of hanging up without an answer
    delay: float = 0.0  # seconds before every answer

    def __post_init__(self) -> None:
        for name, chance in (("--fail", self.fail), ("--drop", self.drop)):
            if not 0 <= chance <= 1:
                raise Refused(f"{name} must be from 0 (never) to 1 (always), not {chance}")


def seconds(text: str) -> float:
    """`2s`, `500ms`, `1m` or a number of seconds. Refused where it is none."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is no duration; try 2s or 500ms")
    value = float(found[1]) * _UNITS[found[2]]
    if value > MAX_DELAY_SECONDS:
        raise Refused(f"{text} is longer than an hour")
    return value


def read_secrets(given: Sequence[str], environ: Mapping[str, str]) -> list[bytes]:
    """Of the options and of SECRET_VARIABLE. Refused where there is none or one is malformed."""
    texts = [*given, *environ.get(SECRET_VARIABLE, "").split()]
    if not texts:
        raise Refused(
            f"no secret: say --secret whsec_…, or set {SECRET_VARIABLE}, which no list of "
            f"processes shows"
        )
    return [_decoded(text, f"{number} of {len(texts)}") for number, text in enumerate(texts, 1)]


def _decoded(text: str, which: str) -> bytes:
    try:
        return decode_secret(text)
    except Refused as refused:
        raise Refused(f"secret {which}: {refused}") from None


class Listener:
    """Takes callbacks and shows them, until `stop`."""

    def __init__(
        self,
        manners: Manners,
        show: Show,
        stop: asyncio.Event,
        *,
        now: Callable[[], float],
        rng: Random,
    ) -> None:
        """`now`: Unix seconds."""
        self._manners = manners
        self._show = show
        self._stop = stop
        self._now = now
        self._rng = rng
        self._lost: Unavailable | None = None
        self._counts = {"callbacks": 0, "repeated": 0, "unverified": 0}

    async def run(self, secrets: Sequence[bytes], port: int) -> None:
        """Refused where the port can't be had, Unavailable where nobody reads what is shown."""
        async with receiving(Inbox(secrets), self._answer, self._now, port) as url:
            self._show({"url": url}, f"listening at {url} (any path); Ctrl-C ends it")
            await self._stop.wait()
        if self._lost is not None:
            raise self._lost
        told = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        self._show(self._counts, told)

    async def _answer(self, arrival: Arrival) -> int | None:
        status = self._choose(arrival)
        self._counts["callbacks"] += 1
        self._counts["repeated"] += arrival.repeated
        self._counts["unverified"] += arrival.problem is not None
        moment = datetime.fromtimestamp(self._now(), UTC)
        try:
            self._show(_record(arrival, status, moment), _line(arrival, status, moment))
        except Unavailable as lost:
            self._lost = lost
            self._stop.set()
        await asyncio.sleep(self._manners.delay)
        return status

    def _choose(self, arrival: Arrival) -> int | None:
        if arrival.problem is not None:
            return 401
        if self._rng.random() < self._manners.drop:
            return None
        return 500 if self._rng.random() < self._manners.fail else 204


def _record(arrival: Arrival, status: int | None, moment: datetime) -> dict[str, Any]:
    return {
        "time": format_time(moment),
        "id": arrival.id,
        "attempt": arrival.attempt,
        "verified": arrival.problem is None,
        "problem": arrival.problem,
        "secret": None if arrival.problem else arrival.secret + 1,
        "repeated": arrival.repeated,
        "changed": arrival.changed,
        "newestSequence": arrival.newest,
        "answer": status,
        "event": arrival.event,
    }


def _line(arrival: Arrival, status: int | None, moment: datetime) -> str:
    answer = "no answer" if status is None else str(status)
    columns = [
        f"{moment.astimezone():%H:%M:%S}",
        answer.ljust(ANSWER_WIDTH),
        f"attempt {_plain(arrival.attempt)}",
    ]
    if arrival.problem is not None:
        columns += [_plain(arrival.id), _escaped(arrival.problem)]
    elif arrival.event is not None:
        columns += [*_columns(arrival.event), *_marks(arrival)]
    return "  ".join(columns).rstrip()


def _columns(event: Mapping[str, Any]) -> Iterator[str]:
    yield _plain(event.get("type")).ljust(TYPE_WIDTH)
    data = event.get("data")
    if isinstance(data, dict) and "amount" in data:
        yield _plain(data["amount"]).rjust(AMOUNT_WIDTH)
        yield _plain(data.get("coin")).ljust(COIN_WIDTH)
        yield _plain(data.get("reference")).ljust(REFERENCE_WIDTH)
        yield f"#{_plain(data.get('sequence'))}"


def _marks(arrival: Arrival) -> Iterator[str]:
    """What a receiver has to mind about this one."""
    if arrival.repeated:
        with_what = "with ANOTHER BODY" if arrival.changed else ""
        yield f"repeated {_plain(arrival.id)} {with_what}".rstrip()
    if arrival.newest is not None:
        yield f"out of order: #{arrival.newest} came before"
    if arrival.secret:
        yield f"signed with secret {arrival.secret + 1}"


def _plain(value: object) -> str:
    text = "-" if value is None else str(value)
    return _escaped(text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…")


def _escaped(text: str) -> str:
    """As a terminal may show it: what came can hold characters that command it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
