"""Addresses by the hundred thousand while blocks pay them: none missed, none doubled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from indexer import coverage
from indexer.bulk import REGISTERED_AT_ONCE as CHUNK
from tests.api.crowded import Crowd, key
from tests.api.world import IDLE, World, address

SOAK: Final = bool(os.environ.get("DEPOSITD_SOAK"))
BY_CALLS: Final = 100_000 if SOAK else 10_000
PER_CALL: Final = 10_000 if SOAK else 2_000
BY_IMPORT: Final = 1_000_000 if SOAK else 30_000
LONGEST_STEP: Final = 5.0  # seconds that the follower may be kept from the chain, in a long run
PATIENCE: Final = 10.0  # seconds
WHOLE_FILE: Final = aiohttp.ClientTimeout(total=None)  # its import takes what it takes

pytestmark = pytest.mark.timeout(1_800 if SOAK else 240)


async def lines(numbers: range) -> AsyncIterator[bytes]:
    for start in range(numbers.start, numbers.stop, 1_000):
        some = range(start, min(start + 1_000, numbers.stop))
        yield "".join(f"{address(number)},user-{number}\n" for number in some).encode()


async def send(world: World, numbers: range) -> Any:
    """What the import of these answers."""
    path, headers = f"/v1/addresses/import?network={IDLE}", {"Content-Type": "text/csv"}
    answer = await world.alice.ask(
        "POST", path, data=lines(numbers), headers=headers, timeout=WHOLE_FILE
    )
    assert answer.status == 201, answer
    return answer.body


async def check_coverage(world: World, numbers: range, stated: int, tip: int) -> None:
    """What the 201 stated holds for each of them, and it stated no later block than the next."""
    assert stated <= tip + 1
    rows = await world.pool.fetch(
        "select covered_from from watched_address where account = 'alice' and address = any ($1)",
        [key(number) for number in numbers],
    )
    assert len(rows) == len(numbers)
    assert max(row["covered_from"] for row in rows) <= stated


async def test_of_many_registered_while_blocks_pay_them_none_is_missed_and_none_doubled(
    world: World,
) -> None:
    imported = range(BY_CALLS + 1, BY_CALLS + BY_IMPORT + 1)
    crowd = await Crowd.gather(world, BY_CALLS + BY_IMPORT)
    async with crowd.bustling():
        importing = asyncio.create_task(send(world, imported))
        for start in range(1, BY_CALLS + 1, PER_CALL):
            numbers = range(start, start + PER_CALL)
            answer = await world.alice.register(IDLE, *(address(number) for number in numbers))
            assert answer.body["created"] == PER_CALL
            tip = len(crowd.chain.view) - 1
            await check_coverage(world, numbers, answer.body["coveredFrom"], tip)
        done = await importing
        assert (done["created"], done["existing"]) == (BY_IMPORT, 0)
        await check_coverage(world, imported, done["coveredFrom"], len(crowd.chain.view) - 1)
        again = await send(world, imported[:PER_CALL])
        assert (again["created"], again["existing"]) == (0, PER_CALL)
    await crowd.settle()
    for _ in range(3):  # everybody is known by now
        crowd.pay()
    await crowd.settle()
    told = await crowd.told("alice")
    assert len(told) == len(set(told))
    assert set(told) == await crowd.owed("alice")
    assert len(told) > 3
    if SOAK:
        assert max(crowd.steps) < LONGEST_STEP


async def test_an_import_in_the_middle_of_its_transaction_holds_up_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def halting(*arguments: Any, **more: Any) -> coverage.Registered:
        done = await coverage.register_addresses(*arguments, **more)
        halfway.set()
        await go_on.wait()
        return done

    monkeypatch.setattr("indexer.bulk.register_addresses", halting)
    crowd = await Crowd.gather(world, CHUNK + 1_000)
    await world.alice.register(IDLE, address(5_000), address(5_001))
    importing = asyncio.create_task(send(world, range(1, CHUNK + 501)))
    async with asyncio.timeout(PATIENCE):
        await halfway.wait()
        await world.bob.register(IDLE, *map(address, range(1, 1_001)))
        await world.alice.register(IDLE, *map(address, range(CHUNK + 501, CHUNK + 1_001)))
        assert (await world.alice.delete(f"/v1/addresses/{IDLE}/{address(5_001)}")).status == 204
        crowd.pay(range(1, CHUNK + 1_001))
        await crowd.settle()
    assert len(await crowd.told("bob")) == 1_000
    assert {recipient for _, recipient in await crowd.told("alice")} == {
        key(number) for number in range(CHUNK + 501, CHUNK + 1_001)
    }
    assert await world.alice.pages("/v1/addresses", network=IDLE, reference="user-1") == []
    go_on.set()
    # The block came before the import's last part, and after the coverage of its first one began.
    assert (await importing)["coveredFrom"] == len(crowd.chain.view)
    await crowd.settle()
    told = await crowd.told("alice")
    assert len(told) == 500 + CHUNK
    assert set(told) == await crowd.owed("alice")
