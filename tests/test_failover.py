"""Which endpoint is asked, and what has to happen before it is another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from indexer.chains.failover import (
    EXCLUDED_SECONDS,
    FADE_SECONDS,
    FAILURES,
    FORGIVE_SECONDS,
    RETURN_SECONDS,
    Disagreeing,
    Endpoints,
    Fault,
    Health,
    Lagging,
)
from indexer.chains.rpc import Endpoint
from indexer.model import Refused, Unavailable

A, B, C = (Endpoint(f"http://{name}:1") for name in "abc")


class World:
    """Endpoints that are up, down or wrong, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.down: set[Endpoint] = set()  # nothing works
        self.broken: set[Endpoint] = set()  # passes its check, fails at work
        self.wrong: set[Endpoint] = set()
        self.checks: list[Endpoint] = []
        self.endpoints = Endpoints([A, B, C], self.check, lambda: self.now)

    async def check(self, endpoint: Endpoint) -> None:
        self.checks.append(endpoint)
        if endpoint in self.wrong:
            raise Refused(f"{endpoint.name} serves another chain")
        if endpoint in self.down:
            raise Unavailable(f"{endpoint.name} is down")

    async def work(self, endpoint: Endpoint) -> Endpoint:
        if endpoint in self.down | self.broken:
            raise Unavailable(f"{endpoint.name} failed")
        return endpoint

    async def follow(self) -> Endpoint:
        return await self.endpoints.at_followed(self.work)

    def states(self) -> list[Health]:
        return [health.state for health in self.endpoints.health()]


@pytest.fixture
def world() -> World:
    return World()


async def failing(act: Callable[[], Awaitable[object]], times: int) -> None:
    for _ in range(times):
        with pytest.raises(Unavailable):
            await act()


async def test_the_first_is_followed_and_checked_once(world: World) -> None:
    assert [await world.follow() for _ in range(3)] == [A, A, A]
    assert world.checks == [A]


async def test_the_next_is_followed_after_enough_failures(world: World) -> None:
    await world.follow()
    world.down = {A}
    await failing(world.follow, FAILURES - 1)
    assert await world.follow() is B
    assert world.endpoints.followed is B
    first = world.endpoints.health()[0]
    assert (first.state, first.followed, first.error) == (Health.FAILING, False, f"{A.name} failed")


async def test_a_success_between_failures_does_not_forgive_them_at_once(world: World) -> None:
    await world.follow()
    for _ in range(FAILURES - 1):
        world.broken = {A}
        await failing(world.follow, 1)
        world.broken = set()
        assert await world.follow() is A
    world.broken = {A}
    assert await world.follow() is B


async def test_old_failures_are_forgiven(world: World) -> None:
    await world.follow()
    for _ in range(2 * FAILURES):
        world.broken = {A}
        await failing(world.follow, 1)
        world.broken = set()
        world.now += FORGIVE_SECONDS
        assert await world.follow() is A
    assert world.endpoints.health()[0].error is None


async def test_the_preferred_one_is_followed_again_once_it_passes_its_check(world: World) -> None:
    world.down = {A}
    await failing(world.follow, FAILURES - 1)
    assert await world.follow() is B
    world.now += RETURN_SECONDS
    assert await world.follow() is B  # still down
    world.down = set()
    assert await world.follow() is B  # not looked at again so soon
    world.now += RETURN_SECONDS
    assert await world.follow() is A


async def test_any_other_stands_in(world: World) -> None:
    world.down = {A, B}
    assert await world.endpoints.at_any(world.work) is C
    assert world.endpoints.followed is A


async def test_what_failed_everywhere_is_told_of_all(world: World) -> None:
    world.down = {A}
    world.broken = {B, C}
    with pytest.raises(Unavailable) as failed:
        await world.endpoints.at_any(world.work)
    assert str(failed.value) == f"{A.name} is down; {B.name} failed; {C.name} failed"


@pytest.mark.pitfall("P39")
async def test_the_wrong_chain_is_left_out_with_its_reason(world: World) -> None:
    world.wrong = {A}
    assert await world.follow() is B
    assert world.states() == [Health.EXCLUDED, Health.HEALTHY, Health.UNCHECKED]
    assert world.endpoints.health()[0].error == f"{A.name} serves another chain"
    checked = len(world.checks)
    world.broken = {B, C}
    with pytest.raises(Unavailable, match="is left out: http://a:1 serves another chain"):
        await world.endpoints.at_any(world.work)
    assert A not in world.checks[checked:]
    world.wrong, world.broken = set(), {B, C}
    world.now += EXCLUDED_SECONDS
    assert await world.endpoints.at_any(world.work) is A


async def test_all_are_checked_at_connect(world: World) -> None:
    world.wrong, world.down = {A}, {B}
    await world.endpoints.check_all()
    assert world.states() == [Health.EXCLUDED, Health.FAILING, Health.HEALTHY]
    assert world.endpoints.followed is C


@pytest.mark.pitfall("P39")
async def test_none_left_is_refused_unless_one_may_recover(world: World) -> None:
    world.wrong = {A, B, C}
    with pytest.raises(Refused, match="http://a:1 serves another chain; http://b:1"):
        await world.endpoints.check_all()
    world.wrong, world.down = {A, B}, {C}
    with pytest.raises(Unavailable, match="http://c:1 is down"):
        await world.endpoints.check_all()


@pytest.mark.pitfall("P39")
async def test_an_endpoint_is_checked_again_after_it_failed(world: World) -> None:
    await world.follow()
    world.down = {A, B, C}
    for _ in range(FAILURES):
        await failing(lambda: world.endpoints.at_any(world.work), 1)
    world.down, world.wrong = set(), {A}
    world.now += RETURN_SECONDS
    assert await world.follow() is not A


async def test_what_is_no_failure_of_an_endpoint_passes_through(world: World) -> None:
    async def refuse(endpoint: Endpoint) -> None:
        raise Refused("no token")

    for _ in range(2 * FAILURES):
        with pytest.raises(Refused, match="no token"):
            await world.endpoints.at_followed(refuse)
    assert world.endpoints.followed is A


async def test_the_others_are_asked_at_once(world: World) -> None:
    world.down = {C}
    outcomes = await world.endpoints.at_others(A, world.work)
    assert [endpoint for endpoint, _ in outcomes] == [B, C]
    assert outcomes[0][1] is B
    assert isinstance(outcomes[1][1], Unavailable)


async def test_the_best_of_the_others_is_followed_next(world: World) -> None:
    await world.endpoints.check_all()
    world.endpoints.blame(B, Disagreeing(f"{B.name} names other blocks"))
    world.broken = {A}
    await failing(world.follow, FAILURES - 1)
    assert await world.follow() is C


async def test_faults_fade(world: World) -> None:
    await world.endpoints.check_all()
    world.endpoints.blame(B, Disagreeing(f"{B.name} names other blocks"))
    world.now += 5 * FADE_SECONDS
    world.endpoints.blame(C, Unavailable(f"{C.name} failed"))
    world.broken = {A}
    await failing(world.follow, FAILURES - 1)
    assert await world.follow() is B


async def test_who_fails_again_and_again_is_returned_to_later(world: World) -> None:
    away = []
    for _ in range(3):
        assert await world.follow() is A
        world.broken = {A}
        await failing(world.follow, FAILURES - 1)
        assert await world.follow() is not A
        world.broken, left = set(), world.now
        while await world.follow() is not A:
            world.now += 1
        away.append(world.now - left)
    assert away == sorted(away)
    assert away[-1] > away[0]


async def test_each_fault_is_counted_by_its_kind(world: World) -> None:
    await world.follow()
    world.endpoints.blame(B, Disagreeing(f"{B.name} names other blocks"))
    world.endpoints.blame(B, Lagging(f"{B.name} is 11 blocks behind"))
    world.endpoints.blame(C, Unavailable("stands alone"))
    first, second, third = (health.faults for health in world.endpoints.health())
    assert first == {}
    assert second == {Fault.DISAGREEMENT: 1, Fault.LAG: 1}
    assert third == {Fault.ERROR: 1}


async def test_who_disagrees_is_named_until_it_is_forgiven(world: World) -> None:
    await world.endpoints.check_all()
    problem = f"{B.name} names other blocks"
    world.endpoints.blame(B, Disagreeing(problem))
    assert world.endpoints.disagreement == problem
    world.now += FORGIVE_SECONDS
    await world.endpoints.at_all(world.work)
    assert world.endpoints.disagreement is None


async def test_blame_counts_as_failure(world: World) -> None:
    await world.follow()
    for _ in range(FAILURES):
        world.endpoints.blame(A, Unavailable("stands alone"))
    assert world.endpoints.followed is B


async def test_all_down_means_each_was_tried(world: World) -> None:
    world.down = {A, B, C}
    for _ in range(3 * FAILURES):
        await failing(world.follow, 1)
    assert set(world.states()) == {Health.FAILING}
    world.down = set()
    assert await world.follow() in (A, B, C)


def test_two_keys_at_one_provider_are_told_apart() -> None:
    twins = [Endpoint("http://p:1/key-one"), Endpoint("http://p:1/key-two")]

    async def check(endpoint: Endpoint) -> None: ...

    health = Endpoints(twins, check, lambda: 0.0).health()
    assert [each.name for each in health] == ["http://p:1", "http://p:1#2"]


class Known:
    """What some endpoints know of something."""

    def __init__(self, world: World, **known: str) -> None:
        self.asked: list[Endpoint] = []
        self._world = world
        self._known = {f"http://{name}:1": what for name, what in known.items()}

    async def ask(self, endpoint: Endpoint) -> str | None:
        self.asked.append(endpoint)
        await self._world.work(endpoint)
        return self._known.get(endpoint.name)


async def test_each_is_asked_until_one_has_a_result(world: World) -> None:
    known = Known(world, b="beta", c="gamma")
    assert await world.endpoints.at_each(known.ask) == "beta"
    assert known.asked == [A, B]
    assert world.endpoints.followed is A
    assert {health.error for health in world.endpoints.health()} == {
        None
    }  # to know not is no fault


async def test_none_is_a_result_of_those_that_answer(world: World) -> None:
    world.broken = {A, C}
    assert await world.endpoints.at_each(Known(world, a="alpha").ask) is None
    world.broken = {A, B, C}
    with pytest.raises(Unavailable, match=r"failed.*failed.*failed"):
        await world.endpoints.at_each(Known(world, a="alpha").ask)
