"""What `depositd check` tries: each endpoint alone, as the follower would use it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from indexer import config
from indexer.chains import Chain
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.families import open_chain
from indexer.chains.jsonrpc import NodeError
from indexer.chains.rpc import NotServed, Overloaded, TooLarge, TooSlow
from indexer.model import Refused, Unavailable

PROVED_BLOCKS: Final = 3  # the newest blocks that must prove
HINT_SECONDS: Final = 5.0  # in which an endpoint must take us as one that it tells of blocks
NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

# By the part of an endpoint that failed, what to do about it.
ADVICE: Final[Mapping[str, str]] = {
    "connection": "is the node running and synced, and may this machine reach it at that address?",
    "capacity": "give the node more room, or name another endpoint beside it",
    "service": "turn the call on at the node, or ask for less: `native`, `verify`, `finality`",
    "blocks": "wait until the node is synced; a pruned one may keep too little",
    "proof": "ask another node; if all say so, this chain may need another `verify` (see README)",
}


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """One endpoint's answer."""

    network: str
    endpoint: str
    ok: bool
    identity: str | None
    head: int | None
    finalized: int | None
    proved: int
    hints: bool | None  # whether it tells of blocks by its `ws`; None where it has none
    problem: str | None
    failed: str | None  # which part of it: a key of ADVICE, or `settings`
    advice: str | None

    def row(self) -> dict[str, Any]:
        return asdict(self)


async def endpoints(
    settings: config.Settings, known: Mapping[str, str] = NOTHING
) -> list[EndpointCheck]:
    """Every configured endpoint, tried by itself, all at once.

    `known`: by network, the identity that the database follows.
    """
    return await asyncio.gather(
        *(
            _endpoint(network, endpoint, known.get(network.id))
            for network in settings.networks.values()
            for endpoint in network.endpoints
        )
    )


async def identities(pool: asyncpg.Pool) -> dict[str, str]:
    """By network, the chain that this database follows since its first connect."""
    rows = await pool.fetch("select id, identity from network where identity is not null")
    return {row["id"]: row["identity"] for row in rows}


def enough(settings: config.Settings, checks: list[EndpointCheck]) -> bool:
    """Whether every network has as many good endpoints as its quorum asks."""
    good = {network: 0 for network in settings.networks}
    for check in checks:
        good[check.network] += check.ok
    return all(good[n] >= settings.networks[n].quorum for n in good)


async def _endpoint(
    network: config.Network, endpoint: config.Endpoint, known: str | None
) -> EndpointCheck:
    chain = open_chain(network.id, network.alone(endpoint))
    identity = head = finalized = hints = None
    proved = 0
    failure: Unavailable | Refused | None = None
    try:
        identity = await chain.connect()
        if known not in (None, identity):
            raise Refused(f"this database follows {known}")
        head = (await chain.tip()).height
        final = await chain.finalized() if network.finality == "network" else None
        finalized = None if final is None else final.height
        async for _ in chain.blocks(max(0, head - PROVED_BLOCKS + 1), head):
            proved += 1
        if isinstance(endpoint, config.EvmEndpoint) and endpoint.ws is not None:
            hints = await _hinted(chain)
    except (Unavailable, Refused) as problem:
        failure = problem
    finally:
        await chain.close()
    part = None if failure is None else part_of(failure)
    return EndpointCheck(
        *(network.id, endpoint.name, failure is None, identity, head, finalized, proved, hints),
        problem=None if failure is None else str(failure),
        failed=part,
        advice=None if part is None else ADVICE.get(part),
    )


def part_of(failure: Unavailable | Refused) -> str:
    """Which part of an endpoint failed."""
    match failure:
        case Refused():  # its sentence names the setting that it contradicts
            return "settings"
        case NotProved() | Malformed():
            return "proof"
        case NodeError() | NotServed():
            return "service"
        case Missing():
            return "blocks"
        case Overloaded() | TooSlow() | TooLarge():
            return "capacity"
        case _:
            return "connection"


async def _hinted(chain: Chain) -> bool:
    """Whether a node says that it will tell of blocks. Polls stand behind it: no problem if not."""
    heard = asyncio.Event()
    listening = asyncio.create_task(chain.listen(heard.set))
    try:
        async with asyncio.timeout(HINT_SECONDS):
            await heard.wait()
    except TimeoutError:
        return False
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return True
