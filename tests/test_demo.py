"""`depositd demo` from the outside: everything comes and verifies, or it says what did not."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import pytest

from callbacks import receiver
from indexer import demo
from indexer.model import Refused

SECONDS = 100  # for a whole demo
NETWORKS = ("evm", "tron", "utxo")
SUMMARY = re.compile(r"(\d+) deposits, (\d+) callbacks verified, (\d+) reorgs")


async def start(folder: Path, *arguments: str) -> Process:
    """The command in a process of its own, with `folder` for its temporary files."""
    command = (sys.executable, "-m", "indexer", "demo", *arguments)
    return await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=PIPE, env={"TMPDIR": str(folder)}, cwd=Path.cwd()
    )


async def ended(process: Process) -> tuple[list[str], str]:
    """Its lines of output, and what it wrote to stderr."""
    try:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    except TimeoutError:
        process.kill()
        raise
    return out.decode().splitlines(), err.decode()


def counts(line: str) -> list[int]:
    """Deposits, callbacks and reorgs of a line of the summary."""
    found = SUMMARY.search(line)
    assert found is not None, line
    return [int(number) for number in found.groups()]


def left_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


async def test_a_demo_of_some_blocks_ends_by_itself_with_every_callback_verified(
    tmp_path: Path,
) -> None:
    process = await start(tmp_path, "--blocks", "20")
    lines, err = await ended(process)
    assert (process.returncode, err) == (0, "")
    assert SUMMARY.fullmatch(lines[-1])
    *each, total = map(counts, lines[-4:])
    assert total == [sum(column) for column in zip(*each, strict=True)]
    for network, (deposits, verified, reorgs) in zip(NETWORKS, each, strict=True):
        assert deposits > 20
        assert verified >= 2 * deposits
        assert reorgs >= 1
        shown = Counter(line[16:24].strip() for line in lines if line[10:14].strip() == network)
        assert shown["callback"] == verified
        assert shown["reorg"] == reorgs
        assert shown["deposit"] > verified  # one endpoint doesn't ask for `finalized`
        assert shown["block"] >= 20
    assert any("50.00000000" in line and "confirmed" in line for line in lines)  # a coinbase
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
async def test_a_demo_without_end_stops_cleanly_on_a_signal(
    tmp_path: Path, name: signal.Signals
) -> None:
    process = await start(tmp_path)
    assert process.stdout is not None
    while b"callback" not in await asyncio.wait_for(process.stdout.readline(), SECONDS):
        continue
    process.send_signal(name)
    lines, err = await ended(process)
    assert (process.returncode, err) == (0, "")
    assert SUMMARY.fullmatch(lines[-1])
    assert left_in(tmp_path) == []


async def test_a_demo_whose_callbacks_do_not_verify_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise Refused("the signature is another's")

    monkeypatch.setattr(receiver, "verify", refuse)
    monkeypatch.setattr(demo, "SETTLE_SECONDS", 1.0)
    monkeypatch.setattr(demo, "DIFFERENCES", 1000)
    out = io.StringIO()
    assert await demo.run_demo(3, out) == 1
    text = out.getvalue()
    assert "does not verify: the signature is another's" in text
    assert "got nothing" in text
    assert " 0 callbacks verified, " in text.splitlines()[-1]
