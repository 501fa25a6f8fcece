"""The README's page on receiving callbacks does what it says: the statement, three receivers."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import asyncpg
import pytest

from callbacks.signing import decode_secret, new_secret, sign
from tests.harness.libraries import NODE, Signed, run_node
from tests.readme import blocks

PAGE: Final = "Receiving callbacks"
SECRET: Final = new_secret()
GO_MODULE: Final = "github.com/standard-webhooks/standard-webhooks/libraries"
# What the Go library declares of what the page uses (its webhook.go, version 0.0.1).
GO_LIBRARY: Final = """\
package standardwebhooks

import "net/http"

type Webhook struct{ key []byte }

func NewWebhook(secret string) (*Webhook, error) { return &Webhook{}, nil }

func (wh *Webhook) Verify(payload []byte, headers http.Header) error { return nil }
"""
HISTORY: Final = ("detected", "confirmed", "orphaned", "detected", "confirmed")


def event(kind: str, **data: object) -> bytes:
    return json.dumps({"type": kind, "data": data}).encode()


def request(webhook_id: str, body: bytes, secret: str = SECRET) -> Signed:
    now = int(time.time())
    headers = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign([decode_secret(secret)], webhook_id, now, body),
    }
    return Signed(headers, body)


CONFIRMED: Final = event("deposit.confirmed", id="dep_1", sequence=2)


def requests() -> list[tuple[Signed, int, bool]]:
    """What comes, just signed, and what a receiver answers and whether it stores it."""
    return [
        (request("evt_1", CONFIRMED), 204, True),
        (request("evt_1", CONFIRMED), 204, True),  # the statement minds repetitions
        (request("evt_2", CONFIRMED, new_secret()), 401, False),
        (Signed(request("evt_3", CONFIRMED).headers, CONFIRMED + b" "), 401, False),
        (Signed({}, CONFIRMED), 401, False),
        (request("evt_4", event("endpoint.test")), 204, False),
    ]


ANSWERS: Final = [status for _, status, _ in requests()]
STORED: Final = [json.loads(signed.body)["data"] for signed, _, stored in requests() if stored]


# ---------------------------------------------------------------------------- the statement


@pytest.mark.case(35)
@pytest.mark.parametrize("seed", range(5))
async def test_the_statement_ends_at_the_truth_in_whatever_order_callbacks_come(
    pool: asyncpg.Pool, seed: int
) -> None:
    create, store, balance = blocks("sql", PAGE)
    rng = Random(seed)
    sent = []
    for number in range(20):
        steps = rng.randint(1, len(HISTORY))
        for sequence, status in enumerate(HISTORY[:steps], 1):
            sent.append((f"dep_{number}", sequence, status, "user-1", "eth", number * 10**60))
    await pool.execute(create)
    for each in rng.sample(sent + sent, 2 * len(sent)):
        await pool.execute(store, *each)
    last = {each[0]: each for each in sent}
    rows = await pool.fetch("select * from deposits")
    assert {tuple(row) for row in rows} == set(last.values())
    credited = sum(units for _, _, status, _, _, units in last.values() if status == "confirmed")
    assert dict(await pool.fetch(balance, "user-1")) == ({"eth": credited} if credited else {})


# ---------------------------------------------------------------------------- the receivers


def python_receiver(
    monkeypatch: pytest.MonkeyPatch, store: Callable[[Any], None]
) -> Callable[[Any, bytes], int]:
    monkeypatch.setenv("CALLBACK_SECRET", SECRET)
    (snippet,) = blocks("python", PAGE)
    names: dict[str, Any] = {"store": store}
    exec(compile(snippet, "README.md", "exec"), names)
    receive: Callable[[Any, bytes], int] = names["receive"]
    return receive


@pytest.mark.case(25)
def test_the_python_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[Any] = []
    receive = python_receiver(monkeypatch, stored.append)
    assert [receive(dict(signed.headers), signed.body) for signed, _, _ in requests()] == ANSWERS
    assert stored == STORED


def test_a_python_receiver_that_can_not_store_does_not_say_that_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Any) -> None:
        raise OSError("the disk is full")

    receive = python_receiver(monkeypatch, fail)
    signed, _, _ = requests()[0]
    with pytest.raises(OSError, match="disk"):
        receive(dict(signed.headers), signed.body)


RUN_JAVASCRIPT: Final = """\
import { text } from "node:stream/consumers";

const stored = [];
globalThis.store = async (data) => stored.push(data);
const { receive } = await import("./receive.mjs");
const answers = [];
for (const { headers, body } of JSON.parse(await text(process.stdin))) {
  answers.push(await receive(headers, Buffer.from(body, "base64")));
}
process.stdout.write(JSON.stringify({ answers, stored }));
"""


@pytest.mark.node
@pytest.mark.case(25)
async def test_the_javascript_receiver(tmp_path: Path) -> None:
    (snippet,) = blocks("js", PAGE)
    (tmp_path / "receive.mjs").write_text(snippet, encoding="utf-8")
    (tmp_path / "run.mjs").write_text(RUN_JAVASCRIPT, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    given = [
        {"headers": dict(signed.headers), "body": base64.b64encode(signed.body).decode()}
        for signed, _, _ in requests()
    ]
    out = await run_node(tmp_path / "run.mjs", json.dumps(given), CALLBACK_SECRET=SECRET)
    assert json.loads(out) == {"answers": ANSWERS, "stored": STORED}


def test_the_go_receiver_uses_what_the_library_declares() -> None:
    (snippet,) = blocks("go", PAGE)
    assert f'standardwebhooks "{GO_MODULE}/go"' in snippet
    for name in re.findall(r"\bstandardwebhooks\.(\w+)", snippet):
        assert re.search(rf"^(type|func) {name}\b", GO_LIBRARY, re.MULTILINE), name
    for name in re.findall(r"\bwebhook\.(\w+)\(", snippet):
        assert re.search(rf"^func \(wh \*Webhook\) {name}\(", GO_LIBRARY, re.MULTILINE), name


def test_the_go_receiver_compiles(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go on the PATH")
    (snippet,) = blocks("go", PAGE)
    library = tmp_path / "libraries"
    (library / "go").mkdir(parents=True)
    (library / "go" / "webhook.go").write_text(GO_LIBRARY, encoding="utf-8")
    (library / "go.mod").write_text(f"module {GO_MODULE}\n\ngo 1.19\n", encoding="utf-8")
    (tmp_path / "receive.go").write_text(snippet, encoding="utf-8")
    (tmp_path / "go.mod").write_text(
        f"module callbacks\n\ngo 1.19\n\nrequire {GO_MODULE} v0.0.1\n\n"
        f"replace {GO_MODULE} => ./libraries\n",
        encoding="utf-8",
    )
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": str(tmp_path / "cache")}
    built = subprocess.run(
        [go, "vet", "."],
        cwd=tmp_path,
        env={**os.environ, **offline, "HOME": str(tmp_path), "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
