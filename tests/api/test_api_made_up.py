"""Calls made up from the OpenAPI document: none is answered with a fault, or outside of it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from callbacks.api import checks
from indexer.model import Refused
from tests.api.world import World, address

EXAMPLES: Final = 100 if os.environ.get("DEPOSITD_SOAK") else 5  # of each operation and kind
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# A stream switches protocols: what it answers is no HTTP.
LEFT_OUT: Final = {"/v1/stream"}


@pytest.fixture(autouse=True)
def no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise Refused("this test asks no DNS")

    monkeypatch.setattr(checks, "check_answers", refuse)


async def test_no_made_up_call_is_answered_outside_the_document(world: World) -> None:
    await world.alice.register("ethereum", address(1))
    await world.activate("ethereum")
    await world.pay(1, address(1), 10**18)
    schema = schemathesis.openapi.from_dict(world.documented.document)
    schema.config.update(base_url=world.alice.base)
    statuses: Counter[int] = Counter()
    for headers in (world.alice.headers, world.admin.headers):
        await asyncio.to_thread(_try_all, schema, headers, statuses)
    # It went through: calls were carried out, calls were refused for what they were.
    assert {200, 201, 400, 403, 404} <= set(statuses)
    assert statuses.total() > 100


def _try_all(schema: Any, headers: dict[str, str], statuses: Counter[int]) -> None:
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in LEFT_OUT:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _try(operation, mode, headers, statuses)


def _try(
    operation: Any, mode: GenerationMode, headers: dict[str, str], statuses: Counter[int]
) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def tried(case: Any) -> None:
        answer = case.call_and_validate(headers=headers, checks=CHECKS, timeout=20)
        statuses[answer.status_code] += 1

    tried()
