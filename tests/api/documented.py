"""Holds answers against the OpenAPI document of the server that gave them."""

from __future__ import annotations

import re
from typing import Any

import jsonschema_rs


class Documented:
    """Every answer that `check` lets pass stands in the document."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self._operations = [
            (re.compile(re.sub(r"{\w+}", "[^/]+", path)), method.upper(), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self._validators: dict[tuple[str, str], Any] = {}

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """`body`: the answer's JSON; None where it has none."""
        found = self._find(method, path.partition("?")[0])
        if found is None:
            assert status in (401, 403, 404, 405, 400, 429), f"{method} {path} is in no document"
            return
        responses, name = found["responses"], found["operationId"]
        assert str(status) in responses, f"{name} answers {status}, which its document lacks"
        content = responses[str(status)].get("content")
        if content is None:
            assert body is None, f"{name} {status} has a body"
            return
        schema = content["application/json"]["schema"]
        for error in self._validator(name, str(status), schema).iter_errors(body):
            raise AssertionError(f"{name} {status}: {error.message} at {error.instance_path}")

    def _find(self, method: str, path: str) -> Any:
        for pattern, verb, operation in self._operations:
            if verb == method and pattern.fullmatch(path):
                return operation
        return None

    def _validator(self, name: str, status: str, schema: Any) -> Any:
        key = (name, status)
        if key not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[key]
