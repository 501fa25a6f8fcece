"""One line an event on stderr: aligned for a person at a terminal, JSON for everything else."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor

HIDDEN: Final = "[hidden]"
EVENT_CHARS: Final = 24  # width of the column of event names, for a person
# Fields that hold a secret by their name, whoever logs them: the last net, not the first.
SECRET_FIELD: Final = re.compile(
    r"(.*_)?(secret|secrets|password|token|signature|authorization|cookie|headers?|key|dsn)"
)
USER_IN_URL: Final = re.compile(r"(?<=://)[^/\s@]*@")
QUERY_OF_URL: Final = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]+")


def configure(*, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Set up structlog and the logging of libraries; `quiet` lets only errors through."""
    stream = sys.stderr if stream is None else stream
    person = stream.isatty()
    level = logging.ERROR if quiet else logging.INFO
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("%H:%M:%S" if person else "iso", utc=not person),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            pad_event_to=EVENT_CHARS, exception_formatter=structlog.dev.plain_traceback
        )
        if person
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def hide_secrets(logger: object, method: str, event: EventDict) -> EventDict:
    """Hide what fields named like secrets hold, and users and queries of every URL."""
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: Any) -> Any:
    if value is not None and SECRET_FIELD.fullmatch(name.lower().replace("-", "_")):
        return HIDDEN
    if isinstance(value, str):
        return QUERY_OF_URL.sub(rf"\1{HIDDEN}", USER_IN_URL.sub(f"{HIDDEN}@", value))
    if isinstance(value, Mapping):
        return {str(key): _shown(str(key), below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_shown("", below) for below in value]
    return value


def _json(event: EventDict, **_: object) -> str:
    return orjson.dumps(event, default=_plain).decode()


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
