"""The processes that prove blocks beside the event loop: as they begin, answer, die and end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from structlog.testing import capture_logs

from indexer.chains import provers
from indexer.chains.evm_body import Body
from indexer.chains.evm_prover import Question
from indexer.chains.evm_reader import FAR_BYTES
from indexer.chains.provers import Provers, usable_cores
from indexer.devnet.evm_chain import SimulatedChain
from tests.harness.terminal import Node, Terminal, settings, until

BLOCKS: Final = 12  # of the node that is followed
GONE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 15.0

# About no JSON at all, which is soon said.
QUESTION: Final = msgspec.msgpack.encode(
    Question(Body("http://node:1", memoryview(b"?"), memoryview(b"?")), "full")
)


@pytest.fixture
async def pool() -> AsyncIterator[Provers]:
    started = Provers(2)
    yield started
    await started.close()


async def up(pool: Provers, processes: int = 1) -> list[int]:
    """So many that have begun to answer: while they start, nobody waits for them."""

    async def there() -> bool:
        await asyncio.gather(*(pool.ask(QUESTION) for _ in range(processes)))
        return [each.ready for each in pool._running] == [True] * processes

    await until(there)
    return pool.pids


def running(pid: int) -> bool:
    """Whether a process is there that isn't merely waiting to be seen dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def gone(*pids: int) -> None:
    async def all_gone() -> bool:
        return not any(map(running, pids))

    await until(all_gone, GONE_SECONDS)


def children(parent: int) -> list[int]:
    """The provers of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(status[1]) == parent and provers.MODULE.encode() in command:
            found.append(int(folder.name))
    return found


async def proving(parent: int) -> list[int]:
    """The same, once there are some."""
    found: list[int] = []

    async def there() -> bool:
        found[:] = children(parent)
        return bool(found)

    await until(there)
    return found


async def test_processes_are_started_by_the_first_question_and_ended_by_close(
    pool: Provers,
) -> None:
    assert pool.pids == []
    assert await pool.ask(QUESTION) is None  # not yet
    [pid] = await up(pool)
    assert await pool.ask(QUESTION) is not None
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpgid(pid) != os.getpgid(0)  # what is sent to us by Ctrl-C doesn't reach it
    pids = await up(pool, 2)
    assert pid in pids
    await pool.close()
    assert not any(map(running, pids))
    assert await pool.ask(QUESTION) is None
    assert pool.pids == []


async def test_what_a_process_had_in_hand_when_it_was_killed_is_handed_back(
    pool: Provers, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pid] = await up(pool)
    os.kill(pid, signal.SIGSTOP)  # in the middle of its work
    asked = asyncio.create_task(pool.ask(QUESTION))
    await asyncio.sleep(0.05)
    with capture_logs() as logs:
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.wait_for(asked, GONE_SECONDS) is None
        assert await pool.ask(QUESTION) is None  # none is started at once
    [told] = logs
    assert (told["log_level"], told["pid"], told["code"]) == ("warning", pid, -signal.SIGKILL)
    assert pool.pids == []
    monkeypatch.setattr(provers, "REST_SECONDS", 0.0)
    pool._rest_until = 0.0
    assert await up(pool) != [pid]


async def test_the_others_go_on_when_one_is_killed(pool: Provers) -> None:
    first, second = await up(pool, 2)
    os.kill(first, signal.SIGSTOP)
    asked = [asyncio.create_task(pool.ask(QUESTION)) for _ in range(4)]
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    answers = await asyncio.wait_for(asyncio.gather(*asked), GONE_SECONDS)
    assert {None} < set(answers)
    assert pool.pids == [second]
    assert await pool.ask(QUESTION) is not None


async def test_one_that_does_not_answer_is_ended(
    pool: Provers, monkeypatch: pytest.MonkeyPatch
) -> None:
    [pid] = await up(pool)
    monkeypatch.setattr(provers, "ANSWER_SECONDS", 0.05)
    os.kill(pid, signal.SIGSTOP)
    assert await asyncio.wait_for(pool.ask(QUESTION), GONE_SECONDS) is None
    assert not running(pid)


async def test_an_answer_that_nobody_waits_for_any_more_is_no_other_questions(
    pool: Provers,
) -> None:
    [pid] = await up(pool)
    os.kill(pid, signal.SIGSTOP)
    left = asyncio.create_task(pool.ask(QUESTION))
    await asyncio.sleep(0.05)
    left.cancel()
    other = asyncio.create_task(pool.ask(b"\xc1"))  # no question at all: the process ends over it
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGCONT)
    assert await asyncio.wait_for(other, GONE_SECONDS) is None


async def test_all_end_when_nobody_asked_for_a_while(
    pool: Provers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provers, "IDLE_SECONDS", 0.5)
    await gone(*await up(pool))
    monkeypatch.setattr(provers, "IDLE_SECONDS", 60.0)
    await up(pool)  # they begin anew


async def test_one_that_can_not_begin_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    pool = Provers(2, "indexer.nothing")
    with capture_logs() as logs:

        async def told() -> bool:
            assert await pool.ask(QUESTION) is None
            return bool(logs)

        await until(told)
    assert logs[0]["code"] == 1
    assert "indexer.nothing" in capfd.readouterr().err
    await pool.close()


async def test_no_room_for_a_process_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    pool = Provers(2)
    with capture_logs() as logs:
        assert await pool.ask(QUESTION) is None
        assert await pool.ask(QUESTION) is None
    [told] = logs  # once for all that is asked during the rest
    assert "/nowhere/python" in told["error"]
    await pool.close()


async def test_one_core_has_no_process_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provers, "usable_cores", lambda: 1)
    pool = Provers()
    assert await pool.ask(QUESTION) is None
    assert pool.pids == []


ASKING: Final = """
import asyncio, sys
from indexer.chains.provers import Provers

async def main():
    pool = Provers(2)
    while len(pool.pids) < 2:
        await asyncio.gather(*(pool.ask(bytes.fromhex(sys.argv[1])) for _ in range(2)))
        await asyncio.sleep(0.1)
    print(*pool.pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_none_outlives_the_process_that_started_it_whatever_ends_that() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASKING, QUESTION.hex()), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = [int(pid) for pid in (await process.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(map(running, pids))
    process.kill()
    await process.wait()
    await gone(*pids)


# ---------------------------------------------------------------- in `depositd run`


class Heavy(Node):
    """A node whose blocks weigh more than the bytes from which on processes are started."""

    def answer(self, call: Any) -> Any:
        reply = super().answer(call)
        if call["method"].startswith("eth_getBlockBy") and call["params"][1] and reply["result"]:
            reply["result"] = {**reply["result"], "of no use": " " * (2 * FAR_BYTES // BLOCKS)}
        return reply


@pytest.mark.skipif(usable_cores() < 2, reason="one core has no process beside it")
async def test_a_run_that_ends_leaves_none_behind(tmp_path: Path) -> None:
    chain = SimulatedChain(1)
    for _ in range(BLOCKS):
        chain.mine()
    terminal = Terminal(tmp_path)
    async with Heavy(chain) as node:
        terminal.write(settings({"sim": [node.address]}, start=1))
        async with terminal.running("run") as process:
            found = await proving(process.pid)
            process.send_signal(signal.SIGTERM)  # which comes to the same as Ctrl-C
            assert await asyncio.wait_for(process.wait(), STOP_SECONDS) == 0
            assert not any(map(running, found))
