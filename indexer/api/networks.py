"""`GET /v1/networks`: where each network stands."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from indexer import status
from indexer.api.auth import require
from indexer.api.context import Context, context_of
from indexer.api.errors import reply

routes = web.RouteTableDef()


async def standing(context: Context) -> list[dict[str, Any]]:
    """Every network that the database or the settings know, by id."""
    known = {network["network"]: network for network in await status.networks(context.pool)}
    for network, settings in context.settings.networks.items():
        known.setdefault(network, _not_begun(network, settings.family))
    return [known[network] for network in sorted(known)]


def _not_begun(network: str, family: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("cursor", "head", "lag", "finalized", "reason"))
    return {"network": network, "family": family, "state": "starting", **nothing}


@routes.get("/v1/networks")
@require("read")
async def list_networks(request: web.Request) -> web.Response:
    return reply({"items": await standing(context_of(request)), "nextCursor": None})
