"""What `depositd check` tries: each endpoint alone, as the follower would use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from indexer import config
from indexer.chains.families import open_chain
from indexer.model import Refused, Unavailable

PROVED_BLOCKS: Final = 3  # the newest blocks that must prove


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """One endpoint's answer."""

    network: str
    endpoint: str
    ok: bool
    identity: str | None
    head: int | None
    proved: int
    problem: str | None

    def row(self) -> dict[str, Any]:
        return asdict(self)


async def endpoints(settings: config.Settings) -> list[EndpointCheck]:
    """Every configured endpoint, tried by itself."""
    return [
        await _endpoint(network, one)
        for network in settings.networks.values()
        for one in network.endpoints
    ]


def enough(settings: config.Settings, checks: list[EndpointCheck]) -> bool:
    """Whether every network has as many good endpoints as its quorum asks."""
    good = {network: 0 for network in settings.networks}
    for check in checks:
        good[check.network] += check.ok
    return all(good[n] >= settings.networks[n].quorum for n in good)


async def _endpoint(network: config.Network, endpoint: config.Endpoint) -> EndpointCheck:
    chain = open_chain(
        network.id, network.model_copy(update={"endpoints": (endpoint,), "quorum": 1})
    )
    identity = head = problem = None
    proved = 0
    try:
        identity = await chain.connect()
        head = (await chain.tip()).height
        async for _ in chain.blocks(max(0, head - PROVED_BLOCKS + 1), head):
            proved += 1
    except (Unavailable, Refused) as failure:
        problem = str(failure)
    finally:
        await chain.close()
    return EndpointCheck(
        network.id, endpoint.name, problem is None, identity, head, proved, problem
    )
