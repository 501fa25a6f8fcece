"""Blocks proved in processes: the same contents, and the same errors, as in this one."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from indexer.chains import NATIVE, evm_reader
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evm_body import Body, read
from indexer.chains.evm_decode import Content, transfers
from indexer.chains.evm_prover import read_elsewhere
from indexer.chains.evm_reader import FAR_BYTES, Reader
from indexer.chains.provers import Provers
from indexer.chains.rpc import Endpoint, EndpointFailed
from indexer.model import Unavailable
from tests.evm_samples import (
    BLOCK,
    FRAMES,
    RECEIPTS,
    TOKEN,
    USDC,
    USDT,
    Watching,
    load,
    recorded,
    simulated,
)
from tests.evm_samples import read as read_whole
from tests.test_provers import up

SOURCE: Final = "http://node:1"
ENDPOINT: Final = Endpoint(SOURCE, network="sim")
EVERYTHING: Final = Watching([NATIVE, USDT, USDC, TOKEN])


@pytest.fixture
async def pool() -> AsyncIterator[Provers]:
    started = Provers(1)
    await up(started)
    yield started
    await started.close()


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    return simulated()


def body(answers: dict[str, Any]) -> Body:
    """A node's answers, as they come over the wire."""

    def told(answer: Any) -> memoryview:
        return memoryview(msgspec.json.encode(answer))

    traces = None
    if FRAMES in answers:
        traces = told([{"result": frame} for frame in answers[FRAMES]])
    return Body(SOURCE, told(answers[BLOCK]), told(answers[RECEIPTS]), traces)


@pytest.mark.parametrize("path", recorded())
async def test_recorded_blocks_are_read_as_here(pool: Provers, path: Path) -> None:
    told = load(path)
    block = body(told)
    for verify in ("full", "off"):
        proved = await read_elsewhere(pool, block, verify)
        assert proved is not None
        assert proved.content == read(block, verify)
    here = transfers(read_whole(told), EVERYTHING)
    assert transfers(read(block, "full"), EVERYTHING) == here


@pytest.mark.parametrize("verify", ["full", "bloom", "off"])
async def test_a_block_of_all_kinds_is_read_as_here(
    pool: Provers, answers: dict[str, Any], verify: str
) -> None:
    block = body(answers)
    proved = await read_elsewhere(pool, block, verify)
    assert proved is not None
    assert proved.seconds > 0
    assert proved.content == read(block, verify)
    found = transfers(proved.content, EVERYTHING)
    assert found
    if verify == "full":
        assert found == transfers(read_whole(answers), EVERYTHING)


async def test_every_block_comes_back_in_its_own_place(pool: Provers, answers: Any) -> None:
    blocks = [body(answers)] * 3 + [body({**answers, FRAMES: []})] + [body(answers)] * 8
    told = await asyncio.gather(
        *(read_elsewhere(pool, block, "full") for block in blocks), return_exceptions=True
    )
    assert [isinstance(each, NotProved) for each in told] == [at == 3 for at in range(12)]


# ---------------------------------------------------------------- what is wrong


def set_in(method: str, *where: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(answers: dict[str, Any]) -> None:
        at = answers[method]
        for step in where[:-1]:
            at = at[step]
        at[where[-1]] = value

    return spoil


def drop_log(answers: dict[str, Any]) -> None:
    next(each for each in reversed(answers[RECEIPTS]) if each["logs"])["logs"].pop()


SPOILT: Final[list[tuple[type[Unavailable], Callable[[dict[str, Any]], None]]]] = [
    (NotProved, drop_log),
    (NotProved, set_in(BLOCK, "transactions", 0, "gas", value="0x1")),
    (NotProved, set_in(BLOCK, "timestamp", value="0x1")),
    (NotProved, set_in(RECEIPTS, 0, "transactionHash", value="0x" + "00" * 32)),
    (Malformed, set_in(BLOCK, "transactions", 0, "value", value="0xno")),
    (Malformed, set_in(BLOCK, "stateRoot", value="none")),
    (Missing, set_in(RECEIPTS, 0, value=None)),
    (EndpointFailed, set_in(RECEIPTS, 0, value={})),
    (EndpointFailed, set_in(BLOCK, "transactions", value=7)),
]


@pytest.mark.parametrize(("kind", "spoil"), SPOILT)
async def test_what_is_wrong_is_said_as_here(
    pool: Provers,
    answers: dict[str, Any],
    kind: type[Unavailable],
    spoil: Callable[[dict[str, Any]], None],
) -> None:
    told = copy.deepcopy(answers)
    spoil(told)
    sentences = []
    for stretch in (1, FAR_BYTES):
        with pytest.raises(kind) as raised:
            await Reader("full", pool).contents(ENDPOINT, [body(told)], stretch)
        assert type(raised.value) is kind
        sentences.append(str(raised.value))
    assert sentences[0] == sentences[1]
    assert len(pool.pids) == 1  # the second was said there, and the process goes on


# ---------------------------------------------------------------- where it is read


async def test_at_the_tip_no_process_is_started(answers: dict[str, Any]) -> None:
    pool = Provers(2)
    block = body(answers)
    far = -(-FAR_BYTES // block.size)
    reader = Reader("full", pool)
    for stretch in (3, far - 1):
        await reader.contents(ENDPOINT, [block] * 3, stretch)
        assert pool.pids == []
    await Reader("full", None).contents(ENDPOINT, [block] * 3, far)
    assert pool.pids == []
    await reader.contents(ENDPOINT, [block] * 3, far)
    assert pool.pids != []
    await pool.close()


async def test_no_block_is_lost_with_the_process_that_had_it(
    pool: Provers, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    block = body(answers)
    [pid] = pool.pids
    os.kill(pid, signal.SIGSTOP)
    here: list[Body] = []

    def read_here(body: Body, verify: str) -> Content:
        here.append(body)
        return read(body, verify)

    monkeypatch.setattr(evm_reader, "read", read_here)
    reading = asyncio.create_task(Reader("full", pool).contents(ENDPOINT, [block] * 9, FAR_BYTES))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    assert await reading == [read(block, "full")] * 9
    assert len(here) == 9


async def test_leaving_it_leaves_nothing_running(pool: Provers, answers: dict[str, Any]) -> None:
    block = body(answers)
    [pid] = pool.pids
    os.kill(pid, signal.SIGSTOP)
    before = asyncio.all_tasks()
    reading = asyncio.create_task(Reader("full", pool).contents(ENDPOINT, [block] * 9, FAR_BYTES))
    await asyncio.sleep(0.05)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    os.kill(pid, signal.SIGCONT)
    assert not [task for task in asyncio.all_tasks() - before if "_Prover" not in repr(task)]
    assert await read_elsewhere(pool, block, "full") is not None
