"""The file of a recording: damage is refused, what was interrupted goes on, it has no secret."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest
from aiohttp import web

from indexer.config import EvmNetwork, Network
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.model import Refused
from indexer.record import Recorder, open_taped
from indexer.recording import About, Draft, End, Kept, Recording, pack, part_of
from indexer.recording.chain import RecordedChain
from indexer.watchset import WatchSet
from tests.harness.past import Past, past
from tests.harness.terminal import COMMAND, SECRETS, Node

IDENTITY: Final = "evm:1:0x00"
ASKED: Final[dict[str, int | str]] = {"family": "evm", "chain_id": 1, "native": "traces"}
ABOUT: Final = About(IDENTITY, ASKED, first=5, last=14)
REFUSED: Final = r"is damaged or cut off|is no recording|a newer depositd wrote"
PLACES: Final = 40  # in a file, to be damaged


def block(height: int) -> Kept:
    return Kept(bytes([height]) * 32, bytes([height - 1]) * 32, [])


def fill(draft: Draft, last: int = ABOUT.last) -> None:
    while draft.height <= last:
        kept = block(draft.height)
        draft.append(kept, pack(kept))


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A recording's file."""
    draft = Draft(tmp_path / "whole.rec", ABOUT)
    fill(draft)
    assert draft.finish(End(9)) == draft.path.stat().st_size
    draft.close()
    return draft.path


def test_a_recording_gives_back_what_was_kept(whole: Path) -> None:
    recording = Recording(whole)
    assert (recording.about, recording.end) == (ABOUT, End(9))
    assert [recording.read(height) for height in (14, 5, 9)] == [block(14), block(5), block(9)]
    assert not part_of(whole).exists()
    recording.close()


def places(size: int) -> list[int]:
    return sorted({size * n // PLACES for n in range(PLACES)} | {size - 1, size - 33})


def test_a_byte_that_changed_anywhere_is_found_out(whole: Path) -> None:
    good = whole.read_bytes()
    for place in places(len(good)):
        bad = bytearray(good)
        bad[place] ^= 0x40
        whole.write_bytes(bad)
        with pytest.raises(Refused, match=REFUSED):
            Recording(whole)


def test_a_file_that_was_cut_off_anywhere_is_found_out(whole: Path) -> None:
    good = whole.read_bytes()
    for place in places(len(good)):
        whole.write_bytes(good[:place])
        with pytest.raises(Refused, match=REFUSED):
            Recording(whole)
    whole.write_bytes(good + b"\0")
    with pytest.raises(Refused, match=REFUSED):
        Recording(whole)


def test_a_newer_format_is_refused_whatever_follows(whole: Path) -> None:
    whole.write_bytes(b"depositd recording 2\nwhat nobody knows yet")
    with pytest.raises(Refused, match="has format 2, which a newer depositd wrote; this one reads"):
        Recording(whole)


@pytest.mark.parametrize(
    ("identity", "asked", "first", "last", "sentence"),
    [
        ("evm:1:0x01", ASKED, 5, 14, "is of evm:1:0x00; this database follows evm:1:0x01"),
        (None, {**ASKED, "chain_id": 2}, 5, 14, "was recorded with chain_id = 1, not 2"),
        (IDENTITY, {**ASKED, "native": "off"}, 5, 14, 'with native = "traces", not "off"'),
        (IDENTITY, {"family": "tron"}, 5, 14, 'with family = "evm", not "tron"'),
        (IDENTITY, ASKED, 4, 14, "holds the blocks 5 to 14, not 4 to 14"),
        (IDENTITY, ASKED, 5, 15, "holds the blocks 5 to 14, not 5 to 15"),
    ],
)
def test_a_recording_of_something_else_is_refused(
    whole: Path,
    identity: str | None,
    asked: dict[str, int | str],
    first: int,
    last: int,
    sentence: str,
) -> None:
    recording = Recording(whole)
    recording.refuse_unless(None, ASKED, 6, 7)
    with pytest.raises(Refused) as refused:
        recording.refuse_unless(identity, asked, first, last)
    assert sentence in str(refused.value)
    recording.close()


def test_what_was_interrupted_anywhere_goes_on_to_the_same_file(
    whole: Path, tmp_path: Path
) -> None:
    good = whole.read_bytes()
    for place in places(len(good)):
        path = tmp_path / "again.rec"
        part_of(path).write_bytes(good[:place])
        draft = Draft(path, ABOUT)
        fill(draft)
        draft.finish(End(9))
        draft.close()
        assert path.read_bytes() == good
        path.unlink()


def test_a_block_that_is_given_up_leaves_no_trace(whole: Path, tmp_path: Path) -> None:
    draft = Draft(tmp_path / "again.rec", ABOUT)
    for height in range(5, 13):
        other = Kept(bytes([100 + height]) * 32, bytes(32), [])
        draft.append(other, pack(other))
    while draft.newest is not None:
        draft.drop()
    fill(draft)
    draft.finish(End(9))
    draft.close()
    assert draft.path.read_bytes() == whole.read_bytes()


def test_files_of_others_are_left_alone(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="exists already; nothing was recorded"):
        Draft(whole, ABOUT)
    draft = Draft(tmp_path / "new.rec", ABOUT)
    fill(draft, 7)
    with pytest.raises(Refused, match="is being written by another process"):
        Draft(tmp_path / "new.rec", ABOUT)
    draft.close()
    with pytest.raises(Refused, match="holds part of another recording"):
        Draft(tmp_path / "new.rec", About(IDENTITY, ASKED, first=5, last=15))
    with pytest.raises(Refused, match=r"nowhere/new\.rec\.part can't be written: No such file"):
        Draft(tmp_path / "nowhere" / "new.rec", ABOUT)


# ---------------------------------------------------------------------------- of a node


def network(url: str, chain: SimulatedChain) -> Network:
    table = {"id": "evm", "family": "evm", "chain_id": chain.chain_id, "endpoints": [url]}
    return EvmNetwork.model_validate(
        EvmNetwork.filled({**table, "coin": "sim", "decimals": 18, "confirmations": 3})
    )


async def recorded(
    settings: Network, path: Path, last: int, progress: Callable[[int], None] = lambda _: None
) -> list[bytes]:
    """Hashes of the blocks that a recording replays."""
    chain, tape, identity = await open_taped(settings)
    try:
        watch = WatchSet(settings.id, settings.reorg_window)
        about = About(identity, settings.asked, 1, last)
        await Recorder(chain, tape, watch).record(path, about, progress)
    finally:
        await chain.close()
    replayed = RecordedChain(Recording(path), settings)
    try:
        return [block.header.hash async for block in replayed.blocks(1, last)]
    finally:
        await replayed.close()


@pytest.fixture
def chain() -> SimulatedChain:
    made = SimulatedChain(3)
    traffic = EvmTraffic(made, [made.wallet("watched").address], Random(3))
    for _ in range(30):
        traffic.step()
    return made


async def test_a_chain_that_is_reorganised_meanwhile_is_recorded_as_one_branch(
    chain: SimulatedChain, tmp_path: Path
) -> None:
    """Once in the middle, deep below what is kept, and once when only the end is left to say."""
    last = chain.head.number - 2
    kept, depths = 0, {last // 2: last - 5, last: 8}

    def progress(blocks: int) -> None:
        nonlocal kept
        kept += blocks
        if depth := depths.pop(kept, 0):
            chain.reorg(depth, longer=1)

    async with EvmNode(chain) as node:
        hashes = await recorded(network(node.url, chain), tmp_path / "x.rec", last, progress)
    assert not depths
    assert hashes == [block.hash for block in chain.branch()[1 : last + 1]]
    assert kept == last


async def test_beyond_the_newest_block_there_is_nothing_to_record(
    chain: SimulatedChain, tmp_path: Path
) -> None:
    last = chain.head.number + 1
    async with EvmNode(chain) as node:
        with pytest.raises(Refused, match=f"newest block is {last - 1}: --to {last} is beyond it"):
            await recorded(network(node.url, chain), tmp_path / "x.rec", last)
    assert not part_of(tmp_path / "x.rec").exists()


@pytest.fixture
async def evm(dsn: str, tmp_path: Path) -> AsyncIterator[Past]:
    async with past("evm", dsn, tmp_path / "evm", 8) as made:
        yield made


async def test_what_is_recorded_holds_no_secret(evm: Past) -> None:
    async with Node(evm.simulation.traffic.chain) as node:
        environ = evm.terminal.environ
        environ["DEPOSITD_NETWORKS__EVM__ENDPOINTS"] = f'["{node.address}"]'
        said = await evm.terminal.run("record", *evm.range, "-o", "past.rec")
        assert said.out.startswith(f"wrote past.rec: blocks 1 to {evm.head} of evm, ")
        said = await evm.terminal.run("record", *evm.range, "-o", "past.rec", code=2)
        assert said.line == "past.rec exists already; nothing was recorded"
    recording = Recording(evm.terminal.folder / "past.rec")
    text = str(recording.about) + "".join(str(recording.read(h)) for h in range(1, evm.head + 1))
    assert not [secret for secret in SECRETS if secret in text]
    assert "eth_getBlockReceipts" in text
    recording.close()
    source = str(evm.terminal.folder / "past.rec")
    said = await evm.command("replay", *evm.range, "--source", source, "--json")
    assert said.json["same"] == len(await evm.standing())


class Tired(Node):
    """Answers so many requests, and rests until it is woken."""

    left = 60

    async def _serve(self, request: web.Request) -> web.Response:
        self.left -= 1
        if self.left == 0:
            self.answering.clear()
        return await super()._serve(request)


async def test_an_interrupted_recording_is_gone_on_with(evm: Past) -> None:
    arguments = ("record", *evm.range, "-o", "past.rec")
    part = evm.terminal.folder / "past.rec.part"
    async with Tired(evm.simulation.traffic.chain) as node:
        evm.terminal.environ["DEPOSITD_NETWORKS__EVM__ENDPOINTS"] = f'["{node.address}"]'
        async with evm.terminal.running(*arguments) as process:
            await asyncio.wait_for(node.asked.wait(), 30)
            process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(process.wait(), 20) == 130
        node.answering.set()
        assert evm.terminal.log.read_text() == (
            "interrupted; what was recorded is in past.rec.part: "
            "the same command goes on from there\n"
        )
        size = part.stat().st_size
        said = await evm.terminal.run(*arguments)
    assert said.out.startswith("wrote past.rec: blocks 1 to ")
    assert (evm.terminal.folder / "past.rec").stat().st_size > size > 0
    assert not part.exists()


async def test_a_full_disk_is_said_and_what_is_kept_stays(evm: Past) -> None:
    limited = ("sh", "-c", 'ulimit -f 24; exec "$@"', "sh", *COMMAND)
    arguments = ("record", *evm.range, "-o", "past.rec")
    said = await evm.terminal.call(limited, arguments, 1)
    assert said.line.startswith("past.rec.part can't be written: File too large; what was recorded")
    assert (await evm.terminal.run(*arguments)).out.startswith("wrote past.rec")
