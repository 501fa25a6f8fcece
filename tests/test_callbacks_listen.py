"""`depositd listen`: what it shows of each callback, how it misbehaves, how it begins and ends."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any

import aiohttp
import pytest

from callbacks.listen import Listener, Manners, read_secrets, seconds
from callbacks.signing import decode_secret, new_secret, sign
from indexer import cli
from indexer.model import Refused, Unavailable
from tests.harness.terminal import Terminal, until

SECRET = new_secret()
OLD_SECRET = new_secret()
NOW = 1_790_000_000
POLITE = Manners()
START_SECONDS = 20.0  # that a command may take to listen


def deposit_event(sequence: int, kind: str = "confirmed", **more: object) -> bytes:
    data = {
        "id": "dep_1",
        "sequence": sequence,
        "coin": "usdt_trc20",
        "amount": "1000.000000",
        "reference": "user-42",
        **more,
    }
    return json.dumps({"type": f"deposit.{kind}", "data": data}).encode()


@dataclass
class Desk:
    """A listener and somebody who sends to it."""

    session: aiohttp.ClientSession
    url: str = ""
    records: list[Mapping[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    reader_left: bool = False

    def show(self, record: Mapping[str, Any], line: str) -> None:
        if self.reader_left:
            raise Unavailable("the result can't be printed")
        self.records.append(record)
        self.lines.append(line)

    async def send(
        self, webhook_id: str, body: bytes, *, at: int = NOW, secret: str = SECRET, attempt: int = 1
    ) -> int | None:
        """The status of the answer; None where there was none."""
        headers = {
            "webhook-id": webhook_id,
            "webhook-timestamp": str(at),
            "webhook-signature": sign([decode_secret(secret)], webhook_id, at, body),
            "webhook-attempt": str(attempt),
        }
        try:
            async with self.session.post(f"{self.url}any/path", data=body, headers=headers) as got:
                return got.status
        except aiohttp.ServerDisconnectedError:
            return None


@asynccontextmanager
async def listening(
    manners: Manners = POLITE, secrets: tuple[str, ...] = (SECRET,)
) -> AsyncIterator[Desk]:
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as session:
        desk = Desk(session)
        listener = Listener(manners, desk.show, stop, now=lambda: float(NOW), rng=Random(1))
        running = asyncio.create_task(listener.run([decode_secret(s) for s in secrets], 0))
        async with asyncio.timeout(START_SECONDS):
            while not desk.records and not running.done():
                await asyncio.sleep(0.01)
        desk.url = desk.records[0]["url"]
        try:
            yield desk
        finally:
            stop.set()
            await running


async def test_each_callback_is_one_line_with_what_matters() -> None:
    async with listening() as desk:
        assert await desk.send("evt_1", deposit_event(1, "detected"), attempt=3) == 204
    time_of_day = datetime.fromtimestamp(NOW).astimezone().strftime("%H:%M:%S")
    assert desk.lines[1].split() == (
        f"{time_of_day} 204 attempt 3 deposit.detected 1000.000000 usdt_trc20 user-42 #1".split()
    )
    assert desk.records[1] == {
        "time": "2026-09-21T14:13:20.000000Z",
        "id": "evt_1",
        "attempt": "3",
        "verified": True,
        "problem": None,
        "secret": 1,
        "repeated": False,
        "changed": False,
        "newestSequence": None,
        "answer": 204,
        "event": json.loads(deposit_event(1, "detected")),
    }
    assert desk.lines[2] == "1 callbacks, 0 repeated, 0 unverified"


async def test_repetitions_and_a_broken_order_are_marked() -> None:
    async with listening() as desk:
        await desk.send("evt_2", deposit_event(2))
        await desk.send("evt_2", deposit_event(2))
        await desk.send("evt_1", deposit_event(1))
        await desk.send("evt_9", deposit_event(1, id="dep_2"))
        await desk.send("evt_2", deposit_event(3))
        await desk.send("evt_t", b'{"type":"endpoint.test","data":{}}')
    _, first, again, earlier, other, changed, test, _ = desk.lines
    assert first.endswith("#2")
    assert again.endswith("#2  repeated evt_2")
    assert earlier.endswith("#1  out of order: #2 came before")
    assert other.endswith("#1")
    assert changed.endswith("#3  repeated evt_2 with ANOTHER BODY")
    assert test.endswith("endpoint.test")
    assert desk.records[-1] == {"callbacks": 6, "repeated": 2, "unverified": 0}


@pytest.mark.case(26)
async def test_either_of_two_secrets_is_taken_and_the_second_is_named() -> None:
    async with listening(secrets=(SECRET, OLD_SECRET)) as desk:
        assert await desk.send("evt_1", deposit_event(1)) == 204
        assert await desk.send("evt_2", deposit_event(2), secret=OLD_SECRET) == 204
    assert desk.lines[1].endswith("#1")
    assert desk.lines[2].endswith("#2  signed with secret 2")


async def test_what_does_not_verify_is_refused_with_the_reason() -> None:
    async with listening() as desk:
        assert await desk.send("evt_1", deposit_event(1), at=NOW - 400) == 401
        assert await desk.send("evt_2", deposit_event(1), secret=OLD_SECRET) == 401
        assert await desk.send("evt_3", b"no JSON") == 401
        assert await desk.send("evt_4", b"[]") == 401
        async with desk.session.post(desk.url) as answer:
            assert answer.status == 401
    problems = [record["problem"] for record in desk.records[1:-1]]
    for problem, line in zip(problems, desk.lines[1:-1], strict=True):
        assert line.endswith(problem)
    late, other, text, array, bare = problems
    assert late == "webhook-timestamp is 400 s old; 300 s are tolerated"
    assert other.startswith("the signature was made with another secret")
    assert text.startswith("it verifies, but its body is no JSON: ")
    assert array == "it verifies, but its body is no JSON object"
    assert bare == "header missing: webhook-id, webhook-timestamp, webhook-signature"
    assert desk.records[-1] == {"callbacks": 5, "repeated": 0, "unverified": 5}


async def test_what_came_can_not_command_the_terminal() -> None:
    async with listening() as desk:
        await desk.send("evt_1", deposit_event(1, reference="\x1b[31mü\n" + "x" * 500))
    assert "\\x1b[31mü\\nxxx" in desk.lines[1]
    assert desk.lines[1].isprintable()
    assert len(desk.lines[1]) < 300


@pytest.mark.parametrize(
    ("manners", "status"), [(Manners(fail=1.0), 500), (Manners(fail=1.0, drop=1.0), None)]
)
async def test_it_fails_and_hangs_up_when_told_to(manners: Manners, status: int | None) -> None:
    async with listening(manners) as desk:
        assert await desk.send("evt_1", deposit_event(1)) == status
        assert await desk.send("evt_2", deposit_event(1), secret=OLD_SECRET) == 401
    assert desk.records[1]["answer"] == status


async def test_chances_are_chances() -> None:
    async with listening(Manners(fail=0.5, drop=0.3)) as desk:
        answers = [await desk.send(f"evt_{n}", deposit_event(n)) for n in range(60)]
    assert {answers.count(each) > 5 for each in (204, 500, None)} == {True}


async def test_it_delays_every_answer() -> None:
    async with listening(Manners(delay=0.2)) as desk:
        start = monotonic()
        await desk.send("evt_1", deposit_event(1))
        assert monotonic() - start >= 0.2


async def test_it_ends_when_nobody_reads_on() -> None:
    async def lose_the_reader() -> None:
        async with listening() as desk:
            desk.reader_left = True
            assert await desk.send("evt_1", deposit_event(1)) == 204

    with pytest.raises(Unavailable, match="can't be printed"):
        await lose_the_reader()


@pytest.mark.parametrize(
    ("text", "value"), [("2s", 2.0), ("500ms", 0.5), ("1m", 60.0), ("0", 0.0), ("1.5", 1.5)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


def test_secrets_come_from_options_and_from_the_environment() -> None:
    unpadded = OLD_SECRET.rstrip("=")
    keys = [decode_secret(SECRET), decode_secret(OLD_SECRET)]
    assert read_secrets([SECRET, unpadded], {}) == keys
    assert read_secrets([], {"CALLBACK_SECRET": f" {SECRET}\n{unpadded} "}) == keys
    assert read_secrets([SECRET], {"CALLBACK_SECRET": OLD_SECRET}) == keys
    with pytest.raises(Refused, match="secret 2 of 2: the secret is not base64") as refused:
        read_secrets([SECRET, "whsec_§§§"], {})
    assert "§" not in str(refused.value)


# ---------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "no secret: say --secret"),
        (["--secret", "whsec_abc"], "secret 1 of 1: the secret has 2 bytes"),
        (["--secret", SECRET, "--fail", "1.5"], "--fail must be from 0 (never) to 1 (always)"),
        (["--secret", SECRET, "--fail", "nan"], "--fail must be from 0"),
        (["--secret", SECRET, "--drop", "-1"], "--drop must be from 0"),
        (["--secret", SECRET, "--delay", "2 weeks"], "'2 weeks' is no duration"),
        (["--secret", SECRET, "--delay", "61m"], "longer than an hour"),
        (["--secret", SECRET, "--port", "65536"], "a port is a number from 0 to 65535"),
        (["--secret", SECRET, "--port", "high"], "--port"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.command(["listen", *options], {}) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert reason in said.err
    assert SECRET not in said.err


async def test_the_command_prints_objects_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.environ["CALLBACK_SECRET"] = SECRET
    async with terminal.running("listen", "--port", "0", "--json") as process:

        async def listens() -> bool:
            return bool(terminal.log.read_text())

        await until(listens, START_SECONDS)
        async with aiohttp.ClientSession() as session:
            url = json.loads(terminal.log.read_text())["url"]
            assert await Desk(session, url).send("evt_1", deposit_event(1), at=int(time())) == 204
        taken = await terminal.run("listen", "--port", url.split(":")[-1].strip("/"), code=2)
        assert "Address already in use" in taken.line
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    _, callback, sums = map(json.loads, io.StringIO(terminal.log.read_text()))
    assert (callback["id"], callback["verified"]) == ("evt_1", True)
    assert sums == {"callbacks": 1, "repeated": 0, "unverified": 0}
