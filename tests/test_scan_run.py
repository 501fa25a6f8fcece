"""`depositd scan` as an operator has it: beside a running engine and without one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from indexer.chains import NATIVE
from indexer.chains.evm_codec import EvmCodec
from indexer.cli import parser
from indexer.devnet.evm_chain import SimulatedChain
from indexer.model import Refused
from tests.harness.terminal import COMMAND, Node, Terminal, settings, until
from tests.test_cli_run import stops

BLOCKS: Final = 40
PAYEE: Final = b"\x07" * 20
PLENTY: Final = 10**24  # wei


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """Each of its blocks pays somebody whom nobody watches yet."""
    chain = SimulatedChain(1, finality=8)
    payer = chain.wallet("payer")
    chain.endow(NATIVE, payer.address, PLENTY)
    for number in range(BLOCKS):
        chain.send(payer, PAYEE, 1 + number)
        chain.mine()
    async with Node(chain) as node:
        yield node
        node.answering.set()


async def follows(dsn: str) -> None:
    """Wait until the engine is at the head."""
    database = await asyncpg.connect(dsn)

    async def there() -> bool:
        begun = await database.fetchval("select to_regclass('cursor') is not null")
        return bool(
            begun and await database.fetchval("select max(height) = $1 from cursor", BLOCKS)
        )

    await until(there)
    await database.close()


async def execute(dsn: str, statement: str) -> None:
    database = await asyncpg.connect(dsn)
    await database.execute(statement)
    await database.close()


async def test_a_past_range_is_read_again_beside_the_engine_and_without_it(
    terminal: Terminal, node: Node, empty_dsn: str
) -> None:
    terminal.write(settings({"sim": [node.address]}, database=empty_dsn))
    said = await terminal.run("scan", "sim", "--from", "1", "--to", "5", code=2)
    assert "has never been run on this database" in said.line
    (terminal.folder / "payee.csv").write_text(EvmCodec().format_address(PAYEE) + ",user-1\n")
    everything = ("scan", "sim", "--from", "1", "--to", str(BLOCKS))
    async with terminal.running("run") as process:
        await follows(empty_dsn)
        await execute(empty_dsn, "insert into account (id, name) values ('shop', 'Shop')")
        added = ("watch", "import", "payee.csv", "--account", "shop", "--network", "sim")
        said = await terminal.run(*added)
        assert said.out == (
            "1 new and 0 known addresses of shop are watched on sim, "
            f"from block {BLOCKS + 1} on at the latest\n"
        )
        said = await terminal.run(*everything, "--all-history", "--no-callbacks", "--json")
        assert said.json == {
            "network": "sim", "from": 1, "to": BLOCKS, "deposits": BLOCKS, "complete": True,
        }  # fmt: skip
        await stops(process)
    said = await terminal.run(*everything, "--candidates", "logs")
    assert said.out.startswith(f"read blocks 1 to {BLOCKS} of sim again; 0 deposits written\n")
    assert "what it left out is missing" in said.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nowhere --from 1 --to 2", "no network 'nowhere' is configured; there are: sim"),
        ("sim --from 5 --to 2", "--from 5 is above --to 2"),
        ("sim --from -1 --to 2", "--from must be 0 or more"),
        ("sim --from x --to 2", "invalid int value: 'x'"),
        ("sim --to 2", "required: --from"),
        ("sim --from 1 --to 2 --candidates some", "invalid choice: 'some'"),
    ],
)
async def test_wrong_usage_is_refused(tmp_path: Path, arguments: str, sentence: str) -> None:
    config = tmp_path / "depositd.toml"
    config.write_text(settings({"sim": ["http://127.0.0.1:1"]}))

    async def scan() -> None:
        chosen = parser().parse_args(["scan", *arguments.split(), "-c", str(config)])
        await chosen.act(chosen, {})

    with pytest.raises(Refused, match=sentence):
        await scan()


async def test_ctrl_c_leaves_it_where_it_is_and_the_same_command_goes_on(
    terminal: Terminal, node: Node, empty_dsn: str
) -> None:
    terminal.write(settings({"sim": [node.address]}, database=empty_dsn))
    async with terminal.running("run") as process:
        await follows(empty_dsn)
        await stops(process)
    command = ("scan", "sim", "--from", "1", "--to", str(BLOCKS))
    database = await asyncpg.connect(empty_dsn)
    async with terminal.running(*command) as process:
        while not await database.fetchval("select exists (select from scan where command)"):
            await asyncio.sleep(0.01)
        node.answering.clear()
        process.send_signal(signal.SIGINT)
        code = await asyncio.wait_for(process.wait(), 20)
    node.answering.set()
    if code == 130:  # it may have been as fast as we were
        assert "the same command goes on where it was" in terminal.log.read_text()
    assert await database.fetchval("select count(*) from scan_claim") == 0
    await terminal.call(COMMAND, command, 0)
    scans = await database.fetch("select state, next from scan where command")
    await database.close()
    assert [tuple(row) for row in scans] == [("done", BLOCKS + 1)] * len(scans)
