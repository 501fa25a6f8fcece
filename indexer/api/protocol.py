"""Connections of the API: what is no HTTP is refused in the contract's form like all else."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from indexer.api.errors import (
    ENVELOPED,
    REQUEST_ID_HEADER,
    Problem,
    framework_problem,
    new_request_id,
)

KEEP_ALIVE_SECONDS: Final = 75.0  # that a connection may be silent, before its first request too
LINGER_SECONDS: Final = 2.0  # in which the rest of a body is dropped, so that its answer arrives
# Of a request's first line: six filters of MAX_QUERY_TEXT characters, each of four bytes in %XX.
MAX_LINE: Final = 64 * 1024
LIMITS: Final[Mapping[str, Any]] = {
    "keepalive_timeout": KEEP_ALIVE_SECONDS,
    "lingering_time": LINGER_SECONDS,
    "max_line_size": MAX_LINE,
    "auto_decompress": False,  # what is packed is refused: it may unpack to anything
    "access_log": None,  # `errors` writes a line a request
}

log = structlog.get_logger(__name__)


class Protocol(web.RequestHandler):
    """One connection."""

    def __init__(self, manager: web.Server) -> None:
        super().__init__(manager, loop=get_running_loop(), **LIMITS)

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Not of a body that breaks off or is not what its head says: its sender's fault."""
        if not isinstance(more.get("exc_info"), RequestPayloadError | HttpProcessingError):
            super().log_exception(*args, **more)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """What the framework refuses before a handler is found is refused in our form."""
        if isinstance(resp, web.HTTPException):
            resp = _answer(request, framework_problem(request, resp), new_request_id())
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The last answer of the connection. `status` 400: the parser could not read a request.

        That is its sender's fault and is not logged: what it quotes may be a key.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        number = new_request_id()
        problem = Problem(400, "this is not a request of HTTP/1.1, or its head is too large")
        if status >= 500:
            log.error("api_fault", request_id=number, exc_info=exc)
            problem = Problem(500, f"a fault of ours, which the log names as {number}")
        answer = _answer(request, problem, number)
        answer.force_close()
        return answer


def _answer(request: web.BaseRequest, problem: Problem, number: str) -> web.Response:
    answer = problem.answer(enveloped=request.path.startswith(ENVELOPED))
    answer.headers[REQUEST_ID_HEADER] = number
    return answer
