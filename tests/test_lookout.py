"""Endpoints compared: each fault moves the choice, is named, and heals."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from msgspec import structs

from indexer.chains import Header
from indexer.chains.failover import FAILURES, FORGIVE_SECONDS, RETURN_SECONDS, Endpoints, Fault
from indexer.chains.lookout import (
    COMPARE_SECONDS,
    DEPTH_BLOCKS,
    HEARD_SECONDS,
    LAG_BLOCKS,
    Lookout,
)
from indexer.chains.quorum import Verdict, agree
from indexer.chains.rpc import Endpoint
from indexer.model import Unavailable

SOON = 5.0  # seconds
HEAD = 100
HONEST, FORGED = b"\1", b"\2"


class Net:
    """Endpoints that are slow, behind, failing or on another branch, and a clock."""

    def __init__(self, names: str = "abc", quorum: int = 1) -> None:
        self.now = 0.0
        self.all = [Endpoint(f"http://{name}:1") for name in names]
        self.heads = dict.fromkeys(self.all, HEAD)
        self.excess = dict.fromkeys(self.all, 0)  # of the head that it names
        self.branches = dict.fromkeys(self.all, HONEST)
        self.failing: set[Endpoint] = set()
        self.silent: set[Endpoint] = set()
        self.inventing: set[Endpoint] = set()  # blocks for the heads that they name
        self.asked = 0
        self.endpoints = Endpoints(self.all, self._check, lambda: self.now)
        self.lookout = Lookout(self.endpoints, self._head, self._header, quorum, lambda: self.now)

    async def _check(self, endpoint: Endpoint) -> None:
        self.lookout.check(endpoint, self.heads[endpoint])

    async def _head(self, endpoint: Endpoint) -> Header:
        found = await self._header(endpoint, self.heads[endpoint])
        assert found is not None
        return structs.replace(found, height=found.height + self.excess[endpoint])

    async def _header(self, endpoint: Endpoint, height: int) -> Header | None:
        self.asked += 1
        if endpoint in self.silent:
            await asyncio.Event().wait()
        if endpoint in self.failing:
            raise Unavailable(f"{endpoint.name} failed")
        invented = self.excess[endpoint] if endpoint in self.inventing else 0
        if height > self.heads[endpoint] + invented:
            return None
        return Header(height, self.branches[endpoint] * 32, bytes(32), 0, endpoint.name)

    async def tip(self) -> Header:
        tip = await self.endpoints.at_followed(self._head)
        self.lookout.look()
        return tip

    async def read(self) -> Header:
        """What the work does: the head of who is followed, and its block."""
        tip = await self.tip()

        async def block(endpoint: Endpoint) -> Header:
            found = await self._header(endpoint, tip.height)
            if found is None:
                raise Unavailable(f"{endpoint.name} has no block {tip.height}")
            return found

        return await self.endpoints.at_followed(block)

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

    def faults(self) -> list[dict[Fault, int]]:
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


@pytest.mark.pitfall("P61")
async def test_an_endpoint_alone_is_never_behind_what_it_named_itself() -> None:
    """A head that was too high once, and failures enough that it has to pass its check again."""
    net = Net("a")
    await net.endpoints.check_all()
    net.excess[net.all[0]] = 1000
    for _ in range(2 * FAILURES):
        with pytest.raises(Unavailable):
            await net.read()
    net.excess[net.all[0]] = 0
    assert (await net.read()).height == HEAD


@pytest.mark.pitfall("P61")
@pytest.mark.parametrize("liar", [0, 1, 2])
async def test_a_head_without_blocks_leaves_the_others_right(net: Net, liar: int) -> None:
    net.excess[net.all[liar]] = 1000
    followed = await net.compare()
    faults = net.faults()
    assert faults[liar] == {Fault.DISAGREEMENT: 1}
    assert faults[:liar] + faults[liar + 1 :] == [{}, {}]
    assert net.endpoints.disagreement == (
        f"{net.all[liar].name} names a head that it has no blocks of"
    )
    assert followed == "http://a:1"  # one failure is not yet enough


@pytest.mark.pitfall("P61")
@pytest.mark.parametrize("names", ["ab", "abc"])
async def test_who_is_followed_and_names_a_head_without_blocks_stops_nobody(names: str) -> None:
    net = Net(names)
    await net.endpoints.check_all()
    net.excess[net.all[0]] = 1000
    read = 0
    for _ in range(60):
        net.now += COMPARE_SECONDS / 3
        with suppress(Unavailable):
            assert (await net.read()).height == HEAD
            read += 1
    assert read >= 20  # it is the preferred one: now and then it is tried again


@pytest.mark.pitfall("P61")
async def test_blocks_that_one_invents_leave_nobody_behind_where_two_are_needed() -> None:
    net = Net(quorum=2)
    await net.endpoints.check_all()
    net.excess[net.all[2]] = 1000
    net.inventing = {net.all[2]}
    assert [await net.compare() for _ in range(3)] == ["http://a:1"] * 3
    assert net.faults() == [{}, {}, {}]
    net.heads[net.all[0]] -= LAG_BLOCKS + 1
    assert await net.compare() == "http://b:1"


async def test_who_answered_before_the_chain_went_on_is_not_behind() -> None:
    class Late(Net):
        async def _head(self, endpoint: Endpoint) -> Header:
            if endpoint is self.all[2]:  # the last to answer
                self.heads = dict.fromkeys(self.all, HEAD + LAG_BLOCKS + 1)
            return await super()._head(endpoint)

    net = Late()
    await net.endpoints.check_all()
    assert await net.compare() == "http://a:1"
    assert net.heads[net.all[0]] > HEAD
    assert net.faults() == [{}, {}, {}]


@pytest.mark.pitfall("P61")
async def test_a_head_that_was_named_long_ago_speaks_against_nobody() -> None:
    """The chain of a test network began anew at all its nodes."""
    net = Net("ab")
    await net.endpoints.check_all()
    await net.compare()
    net.heads = dict.fromkeys(net.all, 5)
    net.failing = set(net.all)
    for _ in range(2 * FAILURES):
        with pytest.raises(Unavailable):
            await net.tip()
    net.failing = set()
    net.now += HEARD_SECONDS + 1
    assert (await net.read()).height == 5


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
