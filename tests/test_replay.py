"""`depositd replay`: what is stored, held against the chain; what is lost is put back, once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from indexer import cli, replay
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.simulation import Simulation
from indexer.devnet.simulations import simulations
from indexer.model import Refused, Unavailable
from indexer.replay import Compared, Replay, Sign
from tests.followed import World
from tests.harness.past import FAMILIES, Past, lose, past
from tests.harness.scene import Scene, installed
from tests.harness.terminal import Node
from tests.scripted import ADDRESSES, payment
from tests.test_follower import ALICE, advance, world_with_alice

STEPS: Final = 12  # of traffic

# What is wrong, and the sentence that says so.
MISUSED: Final = {
    "evm --from 5": "the following arguments are required: --to",
    "evm --from five --to 9": "--from: invalid int value: 'five'",
    "evm --from 9 --to 5": "--from 9 is above --to 5",
    "evm --from -1 --to 5": "--from must be 0 or more, not -1",
    "moon --from 1 --to 5": "no network 'moon' is configured; there are: none",
}
WRONG: Final = {
    "evm --from 1 --to 999": "evm is at block 24: there is no block 999 to compare",
    "evm --from 1 --to 5 --source nothing.rec": "nothing.rec can't be read: No such file",
    f"evm --from 1 --to 5 --source {__file__}": "test_replay.py is no recording of depositd",
    "evm --from 1 --to 5 --endpoint ftp://node": "--endpoint must begin with http:// or https://",
}


@dataclass
class Simulated(Scene):
    """A scene on a simulated network."""

    simulation: Simulation

    async def head(self) -> bytes:
        found: bytes = self.simulation.traffic.chain.head.hash
        return found


@pytest.fixture
async def evm(dsn: str, tmp_path: Path) -> AsyncIterator[Past]:
    async with past("evm", dsn, tmp_path / "evm", STEPS) as made:
        yield made


@pytest.mark.parametrize("command", ["replay", "record -o past.rec"])
@pytest.mark.parametrize("arguments", MISUSED)
def test_misuse_is_one_line_and_exit_2(
    command: str, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.command([*command.split(), *arguments.split()], {}) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert MISUSED[arguments] in said.err


async def test_what_it_can_not_do_is_refused_with_a_sentence(evm: Past) -> None:
    for arguments, sentence in WRONG.items():
        with pytest.raises(Refused) as refused:
            await evm.command("replay", *arguments.split())
        assert sentence in str(refused.value)
    said = await evm.terminal.run(
        "replay", *evm.range, "--endpoint", "http://x", "--source", "y", code=2
    )
    assert said.line == "--endpoint and --source don't go together: blocks come from one of them"
    await evm.pool.execute("truncate network cascade")
    with pytest.raises(Refused, match="evm has not started yet: there is nothing to compare"):
        await evm.command("replay", *evm.range)


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_is_stored_is_the_same_as_the_chain(
    family: str, dsn: str, tmp_path: Path
) -> None:
    async with past(family, dsn, tmp_path / family, STEPS) as made:
        rows = await made.standing()
        said = await made.command("replay", *made.range)
        assert said.out.endswith("(~); not all of these blocks are scanned yet\n")
        await made.pool.execute("update scan set unread = '{}', state = 'done'")
        said = await made.command("replay", *made.range)
        count = f"{len(rows)} same (=), 0 missing here (+), 0 not in the chain (-), 0 different (~)"
        assert said.out == f"{family} 1 to {made.head}: {count}\n"
        listed = await made.command("replay", *made.range, "--json", "--verbose")
        assert sorted(line["id"] for line in listed.json["lines"]) == [row["id"] for row in rows]
        assert {line["sign"] for line in listed.json["lines"]} == {"="}


@pytest.mark.parametrize("family", FAMILIES)
async def test_each_difference_is_a_line_and_nothing_is_written_unless_asked(
    family: str, dsn: str, tmp_path: Path
) -> None:
    async with past(family, dsn, tmp_path / family, STEPS) as made:
        rows = await made.standing()
        lost, changed, moved, orphaned, invented = (row["id"] for row in rows[:5])
        await lose(made.pool, lost)
        update = "update deposit set {} where id = $1"
        await made.pool.execute(update.format("units = units + 1"), changed)
        await made.pool.execute(update.format("hash = sha256(hash)"), moved)
        await made.pool.execute(
            update.format("state = 'orphaned', reason = null, previous = state"), orphaned
        )
        await made.pool.execute(update.format("tx = sha256(tx)"), invented)
        await made.pool.execute("truncate seen_output")
        before = await made.pool.fetch("select * from deposit order by id")
        said = await made.command("replay", *made.range, "--json", code=1)
        assert await made.pool.fetch("select * from deposit order by id") == before
        assert await made.pool.fetchval("select count(*) from seen_output") == 0
        found = {(line["sign"], line["id"]): line["chain"] for line in said.json["lines"]}
        assert found.keys() == {
            ("+", lost),
            ("~", changed),
            ("~", moved),
            ("+", orphaned),
            ("-", invented),
        }
        assert list(found["~", changed]) == ["amount"]
        assert list(found["~", moved]) == ["blockHeight", "blockHash"]
        assert said.json["same"] == len(rows) - 5
        text = await made.command("replay", *made.range, code=1)
        assert [line[0] for line in text.out.splitlines()[:-1]] == [
            line["sign"] for line in said.json["lines"]
        ]


async def test_a_lost_deposit_is_put_back_and_called_for_once(dsn: str, tmp_path: Path) -> None:
    """Beside the engine that lost it, whose callbacks have the ids of the first time."""
    [simulation] = [each for each in simulations() if each.id == "evm"]
    async with simulation.node as node:
        table = {**simulation.rules, "endpoints": [node.url]}
        async with installed(dsn, tmp_path, "evm", table) as parts:
            scene = Simulated(*parts, simulation)
            await scene.subscribe()
            await scene.follow()
            addresses = simulation.texts(simulation.traffic.addresses)
            body = {"network": "evm", "addresses": [{"address": each} for each in addresses]}
            await scene.account.post("/v1/addresses", body)
            for _ in range(STEPS):
                simulation.step()
                await scene.follow()
            await scene.delivered()
            [lost, *_] = [row["id"] for row in await scene.deposits(status="confirmed")]
            calls = [each.id for each in scene.receiver.accepted if each.deposit == lost]
            scene.receiver.requests.clear()  # what is found again has other times in its bytes
            await lose(scene.database, lost)
            blocks = ("--from", str(simulation.first), "--to", str(simulation.head))
            code, said = await scene.engine.run("replay", "evm", *blocks)
            assert (code, said.count("\n+ ") + said.startswith("+ ")) == (1, 1)
            code, said = await scene.engine.run("replay", "evm", *blocks, "--write")
            assert (code, said.splitlines()[-1].split("; ")[-1]) == (1, "1 written")
            await scene.delivered()
            assert [each.id for each in scene.receiver.accepted] == calls
            code, said = await scene.engine.run("replay", "evm", *blocks, "--write")
            assert (code, said.splitlines()[-1].split("; ")[-1]) == (0, "0 written")
            await scene.delivered()
            assert [each.id for each in scene.receiver.accepted] == calls


async def test_another_node_audits_what_the_configured_one_said(evm: Past) -> None:
    async with EvmNode(evm.simulation.traffic.chain) as other, EvmNode(SimulatedChain(7)) as wrong:
        said = await evm.command("replay", *evm.range, "--endpoint", other.url, "--json")
        assert said.json["same"] == len(await evm.standing())
        with pytest.raises(Refused, match="this database follows evm:420042:"):
            await evm.command("replay", *evm.range, "--endpoint", wrong.url)
    secret = "http://user:NODE-PASSWORD@127.0.0.1:1/NODE-KEY"
    said = await evm.terminal.run("replay", *evm.range, "--endpoint", secret, code=1)
    assert said.line == "http://127.0.0.1:1 can't be reached: Connection refused"


async def test_in_a_terminal_a_bar_shows_how_far_it_is(evm: Past) -> None:
    """And what is printed is the same as in a pipe."""
    rows = await evm.standing()
    await lose(evm.pool, rows[0]["id"])
    piped = await evm.terminal.run("replay", *evm.range, code=1)
    assert piped.err == ""
    seen, said = await evm.terminal.seen("replay", *evm.range)
    assert said == piped.out
    assert f"/{evm.head}" in seen
    assert "blocks" in seen


async def test_it_ends_at_once_when_it_is_told_to(evm: Past) -> None:
    async with Node(evm.simulation.traffic.chain) as node:
        node.answering.clear()
        arguments = ("replay", *evm.range, "--endpoint", node.address)
        async with evm.terminal.running(*arguments) as process:
            await asyncio.wait_for(node.asked.wait(), 20)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 20) == 130
        node.answering.set()
    assert evm.terminal.log.read_text() == ""


def replaying(world: World, *, write: bool = False) -> Replay:
    return Replay("net", world.rules, world.chain, world.pool, world.watch, write=write)


async def signs(replaying: Replay, first: int, last: int) -> list[Sign]:
    pieces: list[Compared] = [some async for some in replaying.compare(first, last)]
    return [line.sign for some in pieces for line in some.lines]


async def test_what_is_reorganised_meanwhile_is_read_again_and_not_reported(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BACKOFF_SECONDS", (0.0, 0.0))
    world = await world_with_alice(pool)
    await advance(world, 5, payment(1, (ALICE, 1)))
    last, read = world.chain.view[-1][0].height, world.chain.blocks

    async def reorganising(first: int, last: int) -> AsyncIterator[object]:
        async for block in read(first, last):
            yield block
        world.chain.blocks = read  # type: ignore[method-assign]
        for payments in reversed(world.chain.cut(5)):
            world.chain.mine(*payments)
        world.chain.mine()
        assert await world.step() is not None

    world.chain.blocks = reorganising  # type: ignore[assignment, method-assign]
    assert await signs(replaying(world), 1, last) == [Sign.SAME]


async def test_a_node_on_another_branch_is_a_failure_and_no_difference(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BACKOFF_SECONDS", (0.0, 0.0))
    world = await world_with_alice(pool)
    await advance(world, 5, payment(1, (ALICE, 1)))
    last = world.chain.view[-1][0].height
    world.chain.cut(3)
    for _ in range(3):
        world.chain.mine()
    with pytest.raises(Unavailable, match="has another block"):
        await signs(replaying(world), 1, last)


async def test_nothing_below_coverage_is_missing_and_nothing_removed_is_gone(
    pool: asyncpg.Pool,
) -> None:
    """Coverage is what a scan books in; who is not watched any more keeps what he had."""
    world = await world_with_alice(pool)
    bob = ADDRESSES[1]
    await advance(world, 1, payment(1, (ALICE, 1), (bob, 1)))
    await world.register("bob", bob)
    await advance(world, 1, payment(2, (bob, 2)))
    await world.remove("bob", bob)
    await advance(world, 12, payment(3, (bob, 3)))
    last = world.chain.view[-1][0].height
    assert await signs(replaying(world), 1, last) == [Sign.SAME, Sign.SAME]
    await pool.execute("delete from event")
    await pool.execute("delete from deposit")
    world.restart()
    assert await signs(replaying(world), 1, last) == [Sign.MISSING, Sign.MISSING]
    assert await signs(replaying(world, write=True), 1, last) == [Sign.MISSING, Sign.MISSING]
    assert await signs(replaying(world, write=True), 1, last) == [Sign.SAME, Sign.SAME]
