"""`/healthz`: this process lives. `/readyz`: its own roles can work. No key is asked."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from indexer.api import networks
from indexer.api.context import Context, context_of
from indexer.api.errors import Problem, reply
from indexer.database import unavailable_database
from indexer.model import Unavailable

DATABASE_SECONDS: Final = 2.0  # in which the database must answer a probe

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """200 as long as there is somebody to say so; networks' reasons need a key."""
    try:
        with unavailable_database():
            async with asyncio.timeout(DATABASE_SECONDS):
                standing = await networks.standing(context_of(request))
    except Unavailable:
        return reply({"status": "ok", "database": "unreachable", "networks": []})
    shown = [{"network": n["network"], "state": n["state"]} for n in standing]
    return reply({"status": "ok", "database": "ok", "networks": shown})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    context = context_of(request)
    reasons = [*await _database(context), *await context.ready()]
    if reasons:
        raise Problem(503, f"not ready: {reasons[0]}", code="NOT_READY", details=reasons)
    return reply({"status": "ready", "roles": list(context.roles)})


async def _database(context: Context) -> list[str]:
    try:
        with unavailable_database():
            async with asyncio.timeout(DATABASE_SECONDS):
                await context.pool.fetchval("select 1")
    except Unavailable:
        return ["the database does not answer"]
    return []
