"""`depositd watch import`: a file of addresses, all of it watched at once or nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from indexer import bulk, coverage
from indexer.chains.evm_codec import EvmCodec
from indexer.commands import watch
from indexer.console import Commands, Parser
from indexer.model import Refused, Unavailable
from tests.conftest import SECRET_KEY
from tests.harness.terminal import settings

HEIGHT: Final = 1000
CODEC: Final = EvmCodec()

Import: TypeAlias = Callable[..., Awaitable[int]]


def address(number: int) -> str:
    return CODEC.format_address(number.to_bytes(20, "big"))


@pytest.fixture
async def run(pool: asyncpg.Pool, dsn: str, tmp_path: Path) -> Import:
    """`watch import ARGUMENTS` on a network that has come to a block."""
    await pool.execute("insert into account (id, name) values ('shop', 'Shop')")
    await pool.execute("insert into network (id, family) values ('sim', 'evm')")
    await pool.execute(
        "insert into cursor (network, height, hash) values ('sim', $1, $2)", HEIGHT, bytes(32)
    )
    config = tmp_path / "depositd.toml"
    networks = {"sim": ["http://127.0.0.1:1"], "idle": ["http://127.0.0.1:1"]}
    config.write_text(settings(networks, database=dsn))
    parser = Parser()
    watch.add(Commands(parser))

    async def run(file: Path | str, *more: str, network: str = "sim", account: str = "shop") -> int:
        given = ["watch", "import", str(file), "--account", account, "--network", network]
        chosen: Namespace = parser.parse_args([*given, "-c", str(config), "--json", *more])
        code: int = await chosen.act(chosen, {"DEPOSITD_SECRET_KEY": SECRET_KEY})
        return code

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "addresses.csv"
    rows = [f"{address(1)},user-1", f"{address(2)},user-2,990", address(3)]
    path.write_text("address,reference,fromBlock\n" + "\n".join(rows) + "\n")
    return path


async def watched(pool: asyncpg.Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "select reference, covered_from, not isempty(silent) from watched_address order by address"
    )
    return [tuple(row) for row in rows]


async def test_all_lines_are_watched_and_again_changes_nothing(
    run: Import, file: Path, pool: asyncpg.Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(file) == 0
    assert capsys.readouterr().out == '{"created": 3, "existing": 0, "coveredFrom": 1001}\n'
    expected = [("user-1", HEIGHT + 1, False), ("user-2", 990, False), (None, HEIGHT + 1, False)]
    assert await watched(pool) == expected
    assert await run(file) == 0
    assert capsys.readouterr().out == '{"created": 0, "existing": 3, "coveredFrom": 1001}\n'
    assert await watched(pool) == expected


async def test_a_dash_reads_standard_input(
    run: Import, file: Path, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file.open("rb") as source:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
        assert await run("-", "--no-callbacks") == 0
    assert [silent for *_, silent in await watched(pool)] == [False, True, False]


async def test_one_bad_line_refuses_all_and_is_named(
    run: Import, file: Path, pool: asyncpg.Pool
) -> None:
    with file.open("a") as more:
        more.write("0x12,user\n" + address(4) + ",ref,soon\n")
    with pytest.raises(Refused, match=r"line 5: '0x12' is not an address.*\(and 1 more\)"):
        await run(file)
    assert await watched(pool) == []


async def test_nothing_shows_before_all_of_it_does(
    run: Import, file: Path, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "REGISTERED_AT_ONCE", 1)
    register, seen = coverage.register_addresses, []

    async def looking(*args: Any, **options: Any) -> coverage.Registered:
        seen.append(len(await watched(pool)))
        return await register(*args, **options)

    monkeypatch.setattr(bulk, "register_addresses", looking)
    await run(file)
    assert seen == [0, 0, 0]
    assert len(await watched(pool)) == 3


async def test_an_empty_file_is_no_mistake(run: Import, tmp_path: Path, capsys: Any) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_bytes(b"")
    assert await run(empty) == 0
    assert capsys.readouterr().out == '{"created": 0, "existing": 0, "coveredFrom": null}\n'


async def test_what_is_not_there_is_refused(run: Import, file: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no network 'other' is configured; there are: sim, idle"):
        await run(file, network="other")
    with pytest.raises(Refused, match="there is no account 'nobody'"):
        await run(file, account="nobody")
    with pytest.raises(Refused, match=r"gone\.csv can't be read: No such file"):
        await run(tmp_path / "gone.csv")
    with pytest.raises(Refused, match="can't be read: Is a directory"):
        await run(tmp_path)
    with pytest.raises(Unavailable, match="idle has not started yet"):
        await run(file, network="idle")
