"""The OpenAPI 3.1 document, made from the operations themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any, Final, Literal, NotRequired

from aiohttp import hdrs
from pydantic import BaseModel, TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import TypedDict

from indexer.api.auth import KEY_HEADER, Scope
from indexer.api.errors import ENVELOPED, REQUEST_ID_HEADER
from indexer.api.idempotency import HEADER as IDEMPOTENCY_HEADER
from indexer.api.operation import SWITCHED, Operation

REF: Final = "#/components/schemas/{model}"
KEY_SCHEME: Final = "key"
_VARIABLE: Final = re.compile(r"{(\w+)}")

DESCRIPTION: Final = (
    "Deposits of watched addresses. Amounts are decimal text with exactly as many fraction digits "
    "as the coin has decimals; times are UTC; errors are a sentence with a machine word."
)
REFUSALS: Final = {
    400: "The request is not understood, or what it asks for can't be",
    401: "No key, or none that is known here",
    403: "The key may not do this",
    404: "There is no such thing, or it is not the caller's",
    409: "It clashes with what is there",
    410: "What is asked for is no longer kept",
    413: "The body is too large",
    415: "The body is of a kind that is not taken",
    422: "The Idempotency-Key came with another body before",
    429: "Too many requests",
    500: "A fault of ours, which the log names",
    503: "Something that this needs does not answer now",
}


class Error(TypedDict):
    """A refusal: one sentence, and a machine word."""

    error: str
    code: str
    details: NotRequired[list[Any]]


class EnvelopedError(TypedDict):
    """The same in the envelope of the exchange-style routes."""

    code: str
    msg: str
    data: None
    success: Literal[False]


def document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """All `operations` as OpenAPI 3.1 (JSON Schema 2020-12)."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        ("error", "serialization", TypeAdapter(Error)),
        ("enveloped", "serialization", TypeAdapter(EnvelopedError)),
    ]
    for operation in operations:
        if operation.takes is not None and operation.has_body:
            adapters.append((_body_key(operation), "validation", TypeAdapter(operation.takes)))
        if operation.answer is not NoneType:
            adapters.append((_key(operation), "serialization", TypeAdapter(operation.answer)))
    placed, definitions = TypeAdapter.json_schemas(adapters, ref_template=REF)
    schemas = {key: schema for (key, _), schema in placed.items()}
    components: dict[str, Any] = dict(definitions.get("$defs", {}))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    _tidy(paths)
    _tidy(components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "depositd", "version": version, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {KEY_SCHEME: {"type": "apiKey", "in": "header", "name": KEY_HEADER}},
        },
    }


def _operation(
    operation: Operation, schemas: dict[str, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(operation.run) or "").partition("\n")
    described: dict[str, Any] = {
        "operationId": to_camel(operation.run.__name__),
        "summary": summary.rstrip("."),
        "tags": [operation.tag],
        "parameters": [*_parameters(operation, components)],
        "responses": _responses(operation, schemas),
        "security": _security(operation.needs),
    }
    if more.strip():
        described["description"] = more.strip()
    if operation.has_body:
        content = {"application/json": {"schema": schemas[_body_key(operation)]}}
        described["requestBody"] = {"required": operation.needs_body, "content": content}
    if operation.streams:
        streamed = {kind: {"schema": {"type": "string"}} for kind in operation.streams}
        described["requestBody"] = {"required": True, "content": streamed}
    return described


def _security(needs: Scope | None) -> list[dict[str, list[str]]]:
    """The key, with the scope that it must have (a role, in the words of OpenAPI 3.1)."""
    if needs is None:
        return []
    return [{KEY_SCHEME: [] if needs == "any" else [needs]}]


def _parameters(operation: Operation, components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name in _VARIABLE.findall(operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    if operation.needs is not None:
        yield from _query(operation.query, components)
    yield _header(REQUEST_ID_HEADER, r"^[A-Za-z0-9._-]{1,64}$")
    if operation.creates:
        yield _header(IDEMPOTENCY_HEADER, r"^[!-~]{1,255}$")


def _query(model: type[BaseModel], components: dict[str, Any]) -> Iterable[dict[str, Any]]:
    schema = model.model_json_schema(ref_template=REF)
    components.update(schema.get("$defs", {}))
    for name, described in schema["properties"].items():
        required = name in schema.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": _given(described)}


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a query's value: where there is none, the parameter is left out."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if schema.get("default", ...) is None:
        del schema["default"]
    return choices[0] if len(choices) == 1 else schema


def _header(name: str, pattern: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string", "pattern": pattern}}


def _responses(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    if operation.answer is NoneType:
        answers: dict[str, Any] = {"204": {"description": "Done"}}
    else:
        content = {"application/json": {"schema": schemas[_key(operation)]}}
        done = "Each message" if operation.status == SWITCHED else "Done"
        answers = {str(operation.status): {"description": done, "content": content}}
    if operation.method == hdrs.METH_GET and operation.status != SWITCHED:
        answers["304"] = {"description": "Unchanged since the answer with that ETag"}
    form = "enveloped" if operation.path.startswith(ENVELOPED) else "error"
    error = {"application/json": {"schema": schemas[form]}}
    for status in sorted(_refusals(operation)):
        answers[str(status)] = {"description": REFUSALS[status], "content": error}
    return answers


def _refusals(operation: Operation) -> set[int]:
    """Every status that this operation may refuse with."""
    found = {400, 500, 503, *operation.refuses}
    if operation.needs is not None:
        found |= {401, 403, 404, 429}  # 404: for an admin's ?account= too
    if operation.has_body or operation.streams:
        found |= {413, 415}
    if operation.creates:
        found |= {409, 422}
    return found


def _tidy(node: Any) -> None:
    """Leave out titles that repeat a name; close every object, so that an answer holds no more."""
    if isinstance(node, dict):
        if "properties" in node and node.get("type") == "object":
            node.setdefault("additionalProperties", False)
            node.pop("title", None)
        for name, inner in list(node.items()):
            if name == "title" and isinstance(inner, str) and {"type", "anyOf", "$ref"} & set(node):
                del node[name]
            else:
                _tidy(inner)
    elif isinstance(node, list):
        for inner in node:
            _tidy(inner)


def _key(operation: Operation) -> str:
    return f"{operation.method} {operation.path}"


def _body_key(operation: Operation) -> str:
    return f"{_key(operation)} body"
