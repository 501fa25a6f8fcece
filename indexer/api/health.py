"""`/healthz`: this process lives. `/readyz`: its own roles can work. No key is asked."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from typing_extensions import TypedDict

from indexer.api import networks
from indexer.api.context import Context
from indexer.api.errors import Problem
from indexer.api.operation import Call, Routes
from indexer.database import unavailable_database
from indexer.model import Unavailable
from indexer.status import NetworkState

DATABASE_SECONDS: Final = 2.0  # in which the database must answer a probe

routes = Routes("Health")


class StateOfNetwork(TypedDict):
    network: str
    state: NetworkState


class Health(TypedDict):
    status: Literal["ok"]
    database: Literal["ok", "unreachable"]
    networks: list[StateOfNetwork]
    late: list[str]  # what the watchdog is loud about


class Readiness(TypedDict):
    status: Literal["ready"]
    roles: list[str]


@routes.operation("GET", "/healthz", needs=None, answer=Health)
async def healthz(call: Call) -> Health:
    """Say that this process lives; networks' reasons need a key."""
    late = list(call.context.late())
    try:
        with unavailable_database():
            async with asyncio.timeout(DATABASE_SECONDS):
                standing = await networks.standing(call.context)
    except Unavailable:
        return {"status": "ok", "database": "unreachable", "networks": [], "late": late}
    shown: list[StateOfNetwork] = [{"network": n["network"], "state": n["state"]} for n in standing]
    return {"status": "ok", "database": "ok", "networks": shown, "late": late}


@routes.operation("GET", "/readyz", needs=None, answer=Readiness)
async def readyz(call: Call) -> Readiness:
    """Say whether this process's own roles can work."""
    context = call.context
    reasons = [*await _database(context), *await context.ready()]
    if reasons:
        raise Problem(503, f"not ready: {reasons[0]}", code="NOT_READY", details=reasons)
    return {"status": "ready", "roles": list(context.roles)}


async def _database(context: Context) -> list[str]:
    try:
        with unavailable_database():
            async with asyncio.timeout(DATABASE_SECONDS):
                await context.pool.fetchval("select 1")
    except Unavailable:
        return ["the database does not answer"]
    return []
