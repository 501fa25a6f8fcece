"""What reaches the log: one line an event, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from indexer import log


@pytest.fixture(autouse=True)
def configuration_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_fields() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    structlog.get_logger().info("extended", network="ethereum", height=7, hash=b"\x01\xff")
    [event] = events(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "extended", "level": "info", "network": "ethereum", "height": 7, "hash": "01ff",
    }  # fmt: skip


def test_a_person_gets_a_line_without_braces() -> None:
    stream = Terminal()
    log.configure(stream=stream)
    structlog.get_logger().info("extended", network="ethereum")
    [line] = stream.getvalue().splitlines()
    assert "extended" in line
    assert "ethereum" in line
    assert "{" not in line


def test_a_person_sees_no_secret_in_a_traceback_either() -> None:
    stream = Terminal()
    log.configure(stream=stream)
    try:
        raise ValueError("at postgresql://me:hunter2@host/db")
    except ValueError:
        structlog.get_logger().exception("fault")
        logging.getLogger("asyncio").exception("fault")
    assert stream.getvalue().count("\nValueError: ") == 2
    assert "hunter2" not in stream.getvalue()


def test_quiet_lets_only_errors_through() -> None:
    stream = io.StringIO()
    log.configure(quiet=True, stream=stream)
    logger = structlog.get_logger()
    logger.info("a")
    logger.warning("b")
    logger.error("c")
    logging.getLogger("aiohttp").warning("d")
    logging.getLogger("aiohttp").error("e")
    assert [event["event"] for event in events(stream)] == ["c", "e"]


def test_an_exception_is_part_of_the_line() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    try:
        raise ValueError("at postgresql://me:hunter2@host/db")
    except ValueError:
        structlog.get_logger().exception("fault")
        logging.getLogger("asyncio").exception("fault")
    for event in events(stream):
        assert "ValueError" in event["exception"]
        assert "hunter2" not in event["exception"]
    assert len(events(stream)) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"secret_key": "hunter2"},
        {"password": "hunter2"},
        {"X-Api-Key": "hunter2"},
        {"headers": {"Authorization": "hunter2"}},
        {"body": {"items": [{"secret": "hunter2"}]}},
        {"url": "http://me:hunter2@node:8545/"},
        {"url": "http://hunter2@node:8545/"},
        {"reason": "http://node:8545/v1?key=hunter2 failed"},
        {"reasons": ["see wss://a:hunter2@node"]},
    ],
)
def test_no_secret_reaches_the_log(fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    structlog.get_logger().info("called", **fields)
    logging.getLogger("library").warning("called %s", fields.get("url", ""))
    assert "hunter2" not in stream.getvalue()
    assert log.HIDDEN in stream.getvalue()


def test_what_is_no_secret_stays() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    fields = {"key_id": "key_1", "url": "http://node:8545", "secret": None, "transactionHash": "0x"}
    structlog.get_logger().info("called", **fields)
    [event] = events(stream)
    assert event.items() >= fields.items()
