"""Endpoints compared: each fault moves the choice, is named, and heals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from indexer.chains import Header
from indexer.chains.failover import FORGIVE_SECONDS, RETURN_SECONDS, Endpoints, Fault
from indexer.chains.lookout import COMPARE_SECONDS, DEPTH_BLOCKS, LAG_BLOCKS, Lookout
from indexer.chains.quorum import Verdict, agree
from indexer.chains.rpc import Endpoint
from indexer.model import Unavailable

SOON = 5.0  # seconds
HEAD = 100
HONEST, FORGED = b"\1", b"\2"


class Net:
    """Endpoints that are slow, behind, failing or on another branch, and a clock."""

    def __init__(self, names: str = "abc") -> None:
        self.now = 0.0
        self.all = [Endpoint(f"http://{name}:1") for name in names]
        self.heads = dict.fromkeys(self.all, HEAD)
        self.branches = dict.fromkeys(self.all, HONEST)
        self.failing: set[Endpoint] = set()
        self.silent: set[Endpoint] = set()
        self.asked = 0
        self.endpoints = Endpoints(self.all, self._check, lambda: self.now)
        self.lookout = Lookout(self.endpoints, self._head, self._header, lambda: self.now)

    async def _check(self, endpoint: Endpoint) -> None:
        if self.lookout.best_head - self.heads[endpoint] > LAG_BLOCKS:
            raise Unavailable(f"{endpoint.name} is behind")

    async def _head(self, endpoint: Endpoint) -> Header:
        return await self._header(endpoint, self.heads[endpoint])

    async def _header(self, endpoint: Endpoint, height: int) -> Header:
        self.asked += 1
        if endpoint in self.silent:
            await asyncio.Event().wait()
        if endpoint in self.failing:
            raise Unavailable(f"{endpoint.name} failed")
        return Header(height, self.branches[endpoint] * 32, bytes(32), 0, endpoint.name)

    async def tip(self) -> Header:
        tip = await self.endpoints.at_followed(self._head)
        self.lookout.see(tip)
        return tip

    async def compare(self) -> str:
        """One look more at them all; who is followed then."""
        self.now += COMPARE_SECONDS
        await self.tip()
        before, same = -1, 0
        async with asyncio.timeout(SOON):
            while same < 5:  # turns of the loop in which nobody was asked
                same = same + 1 if before == self.asked else 0
                before = self.asked
                await asyncio.sleep(0)
        return self.endpoints.followed.name

    async def heal(self) -> str:
        """Who is followed once all is well for a while."""
        for _ in range(4):
            self.now += max(RETURN_SECONDS, FORGIVE_SECONDS)
            await self.compare()
        return self.endpoints.followed.name

    def faults(self) -> Sequence[dict[Fault, int]]:
        return [dict(each.faults) for each in self.endpoints.health()]


@pytest.fixture
async def net() -> Net:
    made = Net()
    await made.endpoints.check_all()
    return made


async def test_all_well_changes_nothing(net: Net) -> None:
    assert await net.compare() == "http://a:1"
    assert net.faults() == [{}, {}, {}]
    assert net.endpoints.disagreement is None


@pytest.mark.pitfall("P61")
async def test_who_lags_is_left_and_returned_to(net: Net) -> None:
    a = net.all[0]
    net.heads[a] = HEAD - LAG_BLOCKS
    assert await net.compare() == "http://a:1"  # a little is nothing
    net.heads[a] -= 1
    assert await net.compare() == "http://b:1"
    assert net.faults()[0][Fault.LAG] == 1
    net.heads[a] = HEAD
    assert await net.heal() == "http://a:1"


async def test_who_errs_is_left_and_returned_to(net: Net) -> None:
    net.failing = {net.all[0]}
    for _ in range(3):
        try:
            await net.tip()
        except Unavailable:
            continue
    assert net.endpoints.followed.name == "http://b:1"
    assert net.faults()[0] == {Fault.ERROR: 3}
    net.failing = set()
    assert await net.heal() == "http://a:1"


async def test_who_lies_alone_is_left_named_and_returned_to(net: Net) -> None:
    net.branches[net.all[0]] = FORGED
    assert await net.compare() == "http://b:1"
    assert net.endpoints.disagreement == "http://a:1 names other blocks than the others"
    assert net.faults()[0] == {Fault.DISAGREEMENT: 1}
    net.branches[net.all[0]] = HONEST
    assert await net.heal() == "http://a:1"
    assert net.endpoints.disagreement is None


async def test_another_that_lies_is_named_and_the_followed_one_stays(net: Net) -> None:
    net.branches[net.all[2]] = FORGED
    assert await net.compare() == "http://a:1"
    assert net.endpoints.disagreement == "http://c:1 names other blocks than the others"


async def test_of_two_the_followed_one_is_believed() -> None:
    net = Net("ab")
    await net.endpoints.check_all()
    net.branches[net.all[1]] = FORGED
    assert await net.compare() == "http://a:1"
    assert net.faults() == [{}, {Fault.DISAGREEMENT: 1}]


async def test_the_work_does_not_wait_for_who_is_slow(net: Net) -> None:
    net.silent = {net.all[1]}
    net.now += COMPARE_SECONDS
    async with asyncio.timeout(SOON):
        for _ in range(3):
            net.now += COMPARE_SECONDS
            await net.tip()
        await net.lookout.close()


async def test_chains_too_short_to_compare_are_left_alone(net: Net) -> None:
    net.heads = dict.fromkeys(net.all, DEPTH_BLOCKS - 1)
    net.branches[net.all[0]] = FORGED
    assert await net.compare() == "http://a:1"
    assert net.endpoints.disagreement is None


async def test_who_contradicts_a_quorum_is_named(net: Net) -> None:
    async def judge(endpoint: Endpoint) -> Verdict:
        return Verdict.ANOTHER if endpoint is net.all[2] else Verdict.SAME

    await agree(net.endpoints, net.all[0], 2, "block 7", judge)
    assert net.endpoints.disagreement == "http://c:1 contradicts 2 others"
    assert net.endpoints.followed is net.all[0]
