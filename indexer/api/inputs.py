"""Reading what callers send: JSON bodies and query strings, into models that refuse by name.

A number in a body keeps its decimal text (P41, P42): none ever becomes a float.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, TypeVar

from aiohttp import hdrs, web
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from indexer.api.errors import Problem, shown
from indexer.model import Refused

MAX_BODY: Final = 8 * 1024 * 1024  # bytes; 10,000 addresses with long references need about 5 MiB
JSON: Final = ("application/json",)
PLAIN: Final = "identity"  # the Content-Encoding of what is not packed
MAX_NUMBER_DIGITS: Final = 200  # characters of a JSON number; 2^256 has 78
MAX_EXPONENT: Final = 200  # powers of ten that a JSON number may be written with
BODY_SECONDS: Final = 30.0  # in which a body must arrive
MAX_DEPTH: Final = 16  # of arrays and objects in one another; no body of ours needs more than 4
MAX_TEXT: Final = 256  # characters of a name, a reference, a description
MAX_HEIGHT: Final = 2**53  # blocks; far above any chain, and exact in every JSON reader
MAX_QUERY_TEXT: Final = 512  # characters of a filter

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS: Final = re.compile(rb"[][{}]")

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """A request body: camelCase, nothing unknown, nothing converted."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=False
    )


def _clean(text: str) -> str:
    """No control characters, no half surrogate: PostgreSQL and logs take neither."""
    if not text.isprintable():
        bad = next(letter for letter in text if not letter.isprintable())
        raise ValueError(f"has the character U+{ord(bad):04X}, which is not text")
    return text


def _amount_text(value: object) -> object:
    """The decimal text of a JSON number; `parse_amount` judges it with the coin's decimals."""
    if type(value) is int:
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return value


def _instant(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time like 2026-01-31T12:00:00Z") from None


def _range(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError("must be an address range like 203.0.113.0/24") from None


def _binary(value: object) -> object:
    """Of what is no money: a float is good enough."""
    return float(value) if isinstance(value, int | Decimal) and type(value) is not bool else value


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_clean)]
FilterText = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_QUERY_TEXT), AfterValidator(_clean)
]
AmountText = Annotated[
    str,
    BeforeValidator(_amount_text),
    StringConstraints(max_length=320),
    WithJsonSchema({"type": ["string", "number"], "maxLength": 320}),
]
Instant = Annotated[datetime, BeforeValidator(_instant)]
IpRange = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(_range), WithJsonSchema({"type": "string"})
]
Rate = Annotated[float, BeforeValidator(_binary)]  # a second


class Query(BaseModel):
    """A query string: the same, but its values are text and are converted.

    `account`: the one that an admin acts for.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False
    )

    account: FilterText | None = None


async def read_body(request: web.Request, model: type[M]) -> M:
    """The body as `model`; a Problem (400, 413, 415) that names everything wrong with it."""
    check_kind(request, JSON)
    return _validate(model, parse_json(await read_raw(request)))


def check_kind(request: web.Request, kinds: Sequence[str]) -> None:
    """Problem (415) for a body that is of none of the `kinds`, or packed."""
    if request.content_type not in kinds:
        raise Problem(415, f"the body must be {' or '.join(kinds)}: say so in Content-Type")
    if request.headers.get(hdrs.CONTENT_ENCODING, PLAIN).lower() != PLAIN:
        raise Problem(415, "the body must come as it is, without Content-Encoding")


async def read_raw(request: web.Request) -> bytes:
    """The body's bytes, which can be read again.

    Problem (400, 413) if they don't arrive in time, or are too many.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise Problem(413, f"a body has {MAX_BODY} bytes at most")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Problem(400, f"the body did not arrive in {BODY_SECONDS:.0f} s") from None


def read_query(request: web.Request, model: type[M]) -> M:
    """The query string as `model`; a Problem (400) that names everything wrong with it."""
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name in values:
            raise Problem(400, f"{shown(name)!r} is given twice")
        values[name] = value
    return _validate(model, values)


def parse_json(raw: bytes) -> Any:
    """Values of a JSON text, whole numbers as int, others as Decimal; Refused if it is bad."""
    if _depth(raw) > MAX_DEPTH:
        raise Refused("the body is nested too deeply")
    try:
        return json.loads(
            raw.decode("utf-8"),
            parse_int=_whole,
            parse_float=_decimal,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError:
        raise Refused("the body is not UTF-8") from None
    except json.JSONDecodeError as trouble:
        raise Refused(
            f"the body is not JSON: {trouble.msg} at line {trouble.lineno} column {trouble.colno}"
        ) from None


def _depth(raw: bytes) -> int:
    """How deep a JSON text nests. Counted before it is read: parsers recurse, and a process that
    reads call traces lets them recurse far (see `chains.evm`)."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _whole(text: str) -> int | Decimal:
    if len(text) > MAX_NUMBER_DIGITS:
        raise Refused(f"the number {text[:20]}… has more than {MAX_NUMBER_DIGITS} digits")
    return Decimal(text) if text == "-0" else int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_DIGITS:
        raise Refused(f"the number {text[:20]}… has more than {MAX_NUMBER_DIGITS} digits")
    number = Decimal(text)
    if not -MAX_EXPONENT <= number.adjusted() <= MAX_EXPONENT:
        raise Refused(f"the number {text} is out of range")
    return number


def _no_number(text: str) -> None:
    raise Refused(f"{text} is not a JSON number")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Refused(f"the field {shown(name)!r} is given twice")
        found[name] = value
    return found


def _validate(model: type[M], values: Any) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as trouble:
        errors = trouble.errors(include_url=False, include_context=False, include_input=False)
        raise refusal(
            [bad_field(_place(error["loc"]), _sentence(error)) for error in errors]
        ) from None


def bad_field(field: str, error: str, value: str | None = None) -> dict[str, str]:
    """One entry of a refusal's `details`."""
    entry = {"field": shown(field), "error": error}
    return entry if value is None else {**entry, "value": shown(value)}


def refusal(details: Sequence[Mapping[str, str]]) -> Problem:
    """400 for one or many bad fields: a sentence on the first, all of them in `details`."""
    first = details[0]
    sentence = f"{first['field']}: {first['error']}" if first["field"] else first["error"]
    more = f" (and {len(details) - 1} more in details)" if len(details) > 1 else ""
    return Problem(400, sentence + more, details=details)


def _place(parts: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _sentence(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "is missing"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be an object"
        case "string_unicode":
            return "has a name or a value that is not Unicode text"
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case "too_short" | "too_long":
            said = str(error["msg"]).replace("List should", "must")
            return said.replace(" after validation", "")
        case _:
            return str(error["msg"]).replace("Input should be", "must be").replace("String", "text")
