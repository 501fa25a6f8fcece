"""`GET /v1/networks`: where each network stands."""

from __future__ import annotations

from indexer import status
from indexer.api.context import Context
from indexer.api.operation import Call, Routes
from indexer.api.pages import Page
from indexer.status import NetworkState, Standing

routes = Routes("Networks")


async def standing(context: Context) -> list[Standing]:
    """Every network that the database or the settings know, by id."""
    known = {network["network"]: network for network in await status.networks(context.pool)}
    for network, settings in context.settings.networks.items():
        known.setdefault(network, _not_begun(network, settings.family))
    return [known[network] for network in sorted(known)]


def _not_begun(network: str, family: str) -> Standing:
    return {
        "network": network,
        "family": family,
        "head": None,
        "cursor": None,
        "lag": None,
        "finalized": None,
        "state": NetworkState.STARTING,
        "reason": None,
    }


@routes.operation("GET", "/v1/networks", needs="read", answer=Page[Standing])
async def list_networks(call: Call) -> Page[Standing]:
    """List the networks and where each stands."""
    return {"items": await standing(call.context), "nextCursor": None}
