"""Which endpoint is asked: one is followed, the others stand in for it.

The first endpoint of the configuration that works is followed. After `FAILURES` failures in short
order the best of the others is, by the faults that each showed, which fade; and the first again
once it passes its check and the most of its faults has faded. Every endpoint is checked before its
first use and after such a series, because what answers at a URL may have changed (P39).
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

import structlog

from indexer.chains.metrics import FOLLOWED, NODE_FAILURES, STATE, kind
from indexer.chains.rpc import Endpoint, EndpointFailed
from indexer.model import Refused, Unavailable

FAILURES: Final = 3  # before another endpoint is followed
# A success forgets failures only when the last is so old: a node may answer for its head all the
# time and fail at every block.
FORGIVE_SECONDS: Final = 30.0
RETURN_SECONDS: Final = 15.0  # between two looks whether a preferred endpoint works again
EXCLUDED_SECONDS: Final = 15.0  # before an endpoint that failed its check is checked again
FADE_SECONDS: Final = 15.0  # in which a fault counts for half of what it did
RETURN_FAULTS: Final = FAILURES / 2  # faded ones, with which a preferred endpoint is followed again

T = TypeVar("T")

log = structlog.get_logger()


class Lagging(EndpointFailed):
    """It stands still, or falls behind, while others go on."""


class Disagreeing(EndpointFailed):
    """It names other blocks than others do."""


class Fault(StrEnum):
    """What speaks against an endpoint."""

    ERROR = "error"
    LAG = "lag"
    DISAGREEMENT = "disagreement"

    @classmethod
    def of(cls, failure: Unavailable) -> Fault:
        match failure:
            case Lagging():
                return cls.LAG
            case Disagreeing():
                return cls.DISAGREEMENT
            case _:
                return cls.ERROR


class Health(StrEnum):
    UNCHECKED = "unchecked"
    HEALTHY = "healthy"
    FAILING = "failing"
    EXCLUDED = "excluded"  # wrong network, or it can't serve what the settings need


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How an endpoint does, for operators."""

    name: str
    state: Health
    followed: bool
    error: str | None  # the last failure, until it is forgiven
    faults: Mapping[Fault, int]  # since this process began
    disagrees: bool  # by the last failure


@dataclass(slots=True)
class _Member:
    endpoint: Endpoint
    state: Health = Health.UNCHECKED
    error: str | None = None
    failures: int = 0  # not forgiven yet
    failed_at: float = 0.0
    fault: Fault | None = None  # the last failure's
    faults: Counter[Fault] = field(default_factory=Counter)
    weight: float = 0.0  # of its faults, as of `failed_at`
    excluded_until: float = 0.0
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_in(self, state: Health) -> bool:
        return self.state is state

    def forgive(self) -> None:
        self.failures, self.error, self.fault = 0, None, None

    def faded(self, now: float) -> float:
        """What its faults weigh by now."""
        return self.weight * math.exp2((self.failed_at - now) / FADE_SECONDS)

    def mark(self, failure: Unavailable, now: float) -> None:
        """One fault more."""
        self.weight = self.faded(now) + 1
        self.failures += 1
        self.failed_at = now
        self.fault = Fault.of(failure)
        self.faults[self.fault] += 1


class Endpoints:
    """A network's endpoints in order of preference.

    `check` raises Refused for an endpoint that must not be used, Unavailable for one that may work
    later. Work handed in raises Unavailable where another endpoint may do better; whatever else it
    raises passes through and counts for nothing.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        check: Callable[[Endpoint], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        _name_apart(endpoints)
        self._members = [_Member(endpoint) for endpoint in endpoints]
        self._check = check
        self._clock = clock
        self._followed = 0
        self._look_back_at = 0.0
        self._tell()

    @property
    def followed(self) -> Endpoint:
        return self._members[self._followed].endpoint

    @property
    def several(self) -> bool:
        return len(self._members) > 1

    def health(self) -> list[EndpointHealth]:
        return [
            EndpointHealth(
                name=m.endpoint.name,
                state=m.state,
                followed=at == self._followed,
                error=m.error,
                faults=dict(m.faults),
                disagrees=m.fault is Fault.DISAGREEMENT,
            )
            for at, m in enumerate(self._members)
        ]

    @property
    def disagreement(self) -> str | None:
        """Which of them name other blocks, lately; None where all agree."""
        return "; ".join(each.error or "" for each in self.health() if each.disagrees) or None

    async def check_all(self) -> None:
        """Check every endpoint. None healthy: Unavailable if one may recover, else Refused."""
        outcomes = await asyncio.gather(*(self._try_check(m) for m in self._members))
        if any(outcome is None for outcome in outcomes):
            states = [member.state for member in self._members]
            self._followed = states.index(Health.HEALTHY)
            self._look_back_at = self._clock() + RETURN_SECONDS
            return
        if len(outcomes) == 1 and outcomes[0] is not None:
            raise outcomes[0]
        sentence = "; ".join(str(outcome) for outcome in outcomes)
        if all(isinstance(outcome, Refused) for outcome in outcomes):
            raise Refused(sentence)
        raise Unavailable(sentence)

    async def at_followed(self, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Do it at the followed endpoint; at the next one when that has failed too often."""
        await self._look_back()
        for _ in self._members:
            at = self._followed
            try:
                return await self._use(self._members[at], work)
            except Unavailable:
                if self._followed == at:
                    raise
        raise Unavailable(self._failures())

    async def at_any(self, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        """Do it at the followed endpoint, else at any other; Unavailable names all failures."""
        await self._look_back()
        failures: list[str] = []
        for member in [self._members[self._followed], *self._others(self.followed)]:
            try:
                return await self._use(member, work)
            except Unavailable as error:
                failures.append(str(error))
        raise Unavailable("; ".join(dict.fromkeys(failures)))

    async def at_each(self, work: Callable[[Endpoint], Awaitable[T | None]]) -> T | None:
        """Do it at the followed endpoint, then at each other until one has a result.

        None where those that answer have none; Unavailable where none answers.
        """
        await self._look_back()
        answered, failures = False, []
        for member in [self._members[self._followed], *self._others(self.followed)]:
            try:
                result = await self._use(member, work)
            except Unavailable as error:
                failures.append(str(error))
                continue
            if result is not None:
                return result
            answered = True
        if answered:
            return None
        raise Unavailable("; ".join(dict.fromkeys(failures)))

    async def at(
        self, those: Collection[Endpoint], work: Callable[[Endpoint], Awaitable[T]]
    ) -> list[tuple[Endpoint, T | Unavailable]]:
        """Do it at some endpoints, at once; what came of it at each."""

        async def outcome(member: _Member) -> tuple[Endpoint, T | Unavailable]:
            try:
                return member.endpoint, await self._use(member, work)
            except Unavailable as error:
                return member.endpoint, error

        asked = [member for member in self._members if member.endpoint in those]
        return await asyncio.gather(*(outcome(member) for member in asked))

    async def at_others(
        self, but: Endpoint, work: Callable[[Endpoint], Awaitable[T]]
    ) -> list[tuple[Endpoint, T | Unavailable]]:
        """The same at every endpoint but one."""
        return await self.at([member.endpoint for member in self._others(but)], work)

    async def at_all(
        self, work: Callable[[Endpoint], Awaitable[T]]
    ) -> list[tuple[Endpoint, T | Unavailable]]:
        """The same at every endpoint."""
        return await self.at([member.endpoint for member in self._members], work)

    def blame(self, endpoint: Endpoint, error: Unavailable) -> None:
        """Count a failure that showed only in comparison with others."""
        for member in self._members:
            if member.endpoint is endpoint:
                self._failed(member, error)

    def leave(self, endpoint: Endpoint, error: Unavailable) -> None:
        """Follow another at once; this one again after it has passed its check."""
        for member in self._members:
            if member.endpoint is endpoint:
                member.failures = max(member.failures, FAILURES - 1)
                self._failed(member, error)

    def _tell(self) -> None:
        """Let Prometheus ask for what `health` says."""
        for at, member in enumerate(self._members):
            labels = (member.endpoint.network, member.endpoint.name)
            FOLLOWED.labels(*labels).set_function(partial(self._follows, at))
            for state in Health:
                STATE.labels(*labels, state).set_function(partial(member.is_in, state))

    def _follows(self, at: int) -> bool:
        return at == self._followed

    def _others(self, but: Endpoint) -> list[_Member]:
        return [member for member in self._members if member.endpoint is not but]

    async def _use(self, member: _Member, work: Callable[[Endpoint], Awaitable[T]]) -> T:
        try:
            await self._ready(member)
            result = await work(member.endpoint)
        except Unavailable as error:
            self._failed(member, error)
            raise
        if self._clock() - member.failed_at >= FORGIVE_SECONDS:
            member.forgive()
        return result

    async def _ready(self, member: _Member) -> None:
        """Return if the endpoint has passed its check; raise Unavailable if it doesn't."""
        if member.endpoint.recorded:
            return
        if member.state is Health.EXCLUDED and self._clock() < member.excluded_until:
            raise EndpointFailed(f"{member.endpoint.name} is left out: {member.error}")
        async with member.checking:
            if member.state is not Health.HEALTHY:
                outcome = await self._try_check(member)
                if outcome is not None:
                    raise EndpointFailed(str(outcome))

    async def _try_check(self, member: _Member) -> Refused | Unavailable | None:
        try:
            await self._check(member.endpoint)
        except Refused as refused:
            if member.state is not Health.EXCLUDED:
                log.warning("endpoint_excluded", endpoint=member.endpoint.name, reason=str(refused))
            member.state, member.error = Health.EXCLUDED, str(refused)
            member.excluded_until = self._clock() + EXCLUDED_SECONDS
            return refused
        except Unavailable as error:
            member.state, member.error = Health.FAILING, str(error)
            return error
        member.forgive()
        member.state = Health.HEALTHY
        return None

    def _failed(self, member: _Member, error: Unavailable) -> None:
        if str(error) != member.error:
            log.warning("endpoint_failed", endpoint=member.endpoint.name, reason=str(error))
        NODE_FAILURES.labels(member.endpoint.network, member.endpoint.name, kind(error)).inc()
        member.mark(error, self._clock())
        if member.state is not Health.EXCLUDED:
            member.error = str(error)
            if member.failures >= FAILURES:
                member.state = Health.FAILING
        usable = member.failures < FAILURES and member.state is not Health.EXCLUDED
        if not usable and member is self._members[self._followed]:
            if (best := self._best()) != self._followed:
                self._followed = best
                log.info("endpoint_followed", endpoint=self.followed.name)
            self._look_back_at = self._clock() + RETURN_SECONDS

    def _best(self) -> int:
        """Another than the followed one: not known to fail, with the least faults, preferred.

        The followed one itself where it stands alone.
        """
        now = self._clock()
        bad = (Health.FAILING, Health.EXCLUDED)

        def order(at: int) -> tuple[bool, float, int]:
            member = self._members[at]
            return member.state in bad, member.faded(now), at

        others = [at for at in range(len(self._members)) if at != self._followed]
        return min(others, key=order, default=self._followed)

    async def _look_back(self) -> None:
        """Follow a preferred endpoint again if it is well by now and passes its check."""
        if self._followed == 0 or self._clock() < self._look_back_at:
            return
        self._look_back_at = self._clock() + RETURN_SECONDS
        for at, member in enumerate(self._members[: self._followed]):
            if member.faded(self._clock()) > RETURN_FAULTS:
                continue
            async with member.checking:
                if await self._try_check(member) is None:
                    self._followed = at
                    log.info("endpoint_followed", endpoint=self.followed.name)
                    return

    def _failures(self) -> str:
        return "; ".join(member.error or "" for member in self._members if member.error)


def _name_apart(endpoints: Sequence[Endpoint]) -> None:
    """Two keys at one provider differ only in what is secret: number them."""
    seen: dict[str, int] = {}
    for endpoint in endpoints:
        times = seen[endpoint.name] = seen.get(endpoint.name, 0) + 1
        if times > 1:
            endpoint.name = f"{endpoint.name}#{times}"
