"""JSON answers, the refusals among them, and the middleware that turns every failure into one.

Source of the error's form: the contract's "HTTP API".
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg
import orjson
import structlog
from aiohttp import HttpVersion10, HttpVersion11, http_exceptions, web

from indexer.database import PASSING, unavailable_database
from indexer.model import Refused, Unavailable

RETRY_AFTER_SECONDS: Final = 1  # what a 503 asks its caller to wait
ENVELOPED: Final = "/api/spot/"  # what stands below answers in the exchanges' envelope
MAX_SHOWN: Final = 200  # characters of a caller's text that an error repeats

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CODES: Final = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    410: "GONE",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "UNPROCESSABLE",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}

REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID: Final = web.RequestKey("request_id", str)
ANSWER_HEADERS: Final = web.RequestKey("answer_headers", dict[str, str])  # for whatever answer
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

log = structlog.get_logger(__name__)


class Conflict(Refused):
    """What is asked for exists already: 409."""


class Absent(Refused):
    """What is named is not there: 404."""


class Problem(Exception):
    """A refusal as the caller will read it: one sentence, a machine word, what it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[Any] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or CODES[status]
        self.details = details
        self.headers = headers

    def answer(self, *, enveloped: bool) -> web.Response:
        """`enveloped`: in the form of the exchange-style routes."""
        body: dict[str, Any] = {"error": self.message, "code": self.code}
        if enveloped:
            number = str(self.status)
            body = {"code": number, "msg": self.message, "data": None, "success": False}
        elif self.details:
            body["details"] = self.details
        return reply(body, self.status, self.headers)


_STATUS: Final[Mapping[type[Refused], int]] = {Conflict: 409, Absent: 404}


def dump(data: Any) -> bytes:
    """JSON. `data` holds amounts and times as text already: no float is ever rendered from one."""
    return orjson.dumps(data)


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return reply_dumped(dump(data), status, headers)


def reply_dumped(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=body,
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def shown(text: str) -> str:
    """A caller's text as an error may repeat it: not long, and nothing but what can be seen."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:MAX_SHOWN])


def missing(what: str, name: str) -> Absent:
    """For a row that is not there, or that is not the caller's to know of."""
    return Absent(f"there is no {what} {shown(name)!r}")


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: whatever happens inside, the caller gets the contract's JSON."""
    start = time.monotonic()
    request[REQUEST_ID] = _request_id(request)
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        response = await _answer(request, handler)
        if not response.prepared:
            response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]
            response.headers.update(request.get(ANSWER_HEADERS, {}))
        write = log.debug if request.method == "GET" and response.status < 500 else log.info
        write(
            "api_request",
            method=request.method,
            path=request.path,
            status=response.status,
            ms=round((time.monotonic() - start) * 1000, 1),
        )
    return response


def _request_id(request: web.Request) -> str:
    """The caller's own, if it is one, so that both sides' logs can be laid side by side."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    return secrets.token_hex(8)


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if request.version not in (HttpVersion10, HttpVersion11):
            raise Problem(400, "this server speaks HTTP/1.1")
        if not request.path.isprintable():
            raise Problem(400, "the path has characters that are not text")
        with unavailable_database():
            return await handler(request)
    except Problem as problem:
        refused = problem
    except Refused as refusal:
        refused = Problem(_STATUS.get(type(refusal), 400), str(refusal))
    except Unavailable as trouble:
        refused = _unavailable(request, trouble)
    except web.HTTPException as response:
        refused = framework_problem(request, response)
    except (http_exceptions.HttpProcessingError, web.RequestPayloadError):
        refused = Problem(400, "the request's body does not arrive as its headers say")
    except Exception:
        # The caller must get JSON and the process must go on: the log has the traceback.
        log.exception("api_fault", method=request.method, path=request.path)
        refused = Problem(500, f"a fault of ours, which the log names as {request[REQUEST_ID]}")
    return refused.answer(enveloped=request.path.startswith(ENVELOPED))


def _unavailable(request: web.Request, trouble: Unavailable) -> Problem:
    """503. What the database's client said is the operator's: it stays in the log."""
    log.warning("api_unavailable", path=request.path, reason=str(trouble))
    database = isinstance(trouble.__cause__, (*PASSING, asyncpg.InterfaceError))
    message = "the database does not answer; try again" if database else str(trouble)
    return Problem(503, message, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def framework_problem(request: web.BaseRequest, response: web.HTTPException) -> Problem:
    """The framework's own refusals: no route, another method, a body beyond the limit."""
    if response.status not in CODES:
        return Problem(400, f"the request is not acceptable: {response.reason}")
    match response:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(response.allowed_methods))
            message = f"{request.method} is not for {request.path}; allowed: {allowed}"
            return Problem(405, message, headers={"Allow": allowed})
        case web.HTTPNotFound():
            message = f"there is nothing at {shown(request.path)}"
        case web.HTTPRequestEntityTooLarge():
            message = "the body is larger than this server takes"
        case _:
            message = response.reason
    return Problem(response.status, message)
