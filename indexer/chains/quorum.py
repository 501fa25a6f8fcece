"""Whether enough endpoints say the same of a block before it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum

from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.model import Unavailable


class Verdict(StrEnum):
    """What another endpoint has, as the end of a sentence that begins with its name."""

    SAME = "agrees"
    NOT_THERE = "doesn't have it"
    ANOTHER = "names another"
    OTHER_CONTENT = "says another thing of what happened in it"


async def agree(
    endpoints: Endpoints,
    source: Endpoint,
    quorum: int,
    block: str,
    judge: Callable[[Endpoint], Awaitable[Verdict]],
) -> None:
    """Raise Unavailable unless `quorum` endpoints, `source` among them, say the same of `block`.

    `judge` asks one of the others, and raises Unavailable where it gives no answer. If one of them
    contradicts, the failure counts against the source: should it stand alone, another is followed.
    """
    if quorum == 1:
        return
    outcomes = await endpoints.at_others(source, judge)
    dissent = [
        str(outcome) if isinstance(outcome, Unavailable) else f"{endpoint.name} {outcome}"
        for endpoint, outcome in outcomes
        if outcome is not Verdict.SAME
    ]
    agreed = 1 + len(outcomes) - len(dissent)
    if agreed >= quorum:
        return
    error = Unavailable(
        f"{agreed} of the {quorum} endpoints needed name {block} as {source.name} does: "
        f"{'; '.join(dissent)}"
    )
    if any(outcome in (Verdict.ANOTHER, Verdict.OTHER_CONTENT) for _, outcome in outcomes):
        endpoints.blame(source, error)
    raise error
