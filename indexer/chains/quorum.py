"""Whether enough endpoints say the same of a block before it counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final

from indexer.chains.failover import Disagreeing, Endpoints
from indexer.chains.rpc import Endpoint
from indexer.model import Unavailable


class Verdict(StrEnum):
    """What another endpoint has, as the end of a sentence that begins with its name."""

    SAME = "agrees"
    NOT_THERE = "doesn't have it"
    ANOTHER = "names another"
    OTHER_CONTENT = "says another thing of what happened in it"


CONTRADICTIONS: Final = (Verdict.ANOTHER, Verdict.OTHER_CONTENT)


async def agree(
    endpoints: Endpoints,
    source: Endpoint,
    quorum: int,
    block: str,
    judge: Callable[[Endpoint], Awaitable[Verdict]],
) -> None:
    """Raise Unavailable unless `quorum` endpoints, `source` among them, say the same of `block`.

    `judge` asks one of the others, and raises Unavailable where it gives no answer. Who contradicts
    so many is named and has it counted against him. Where there are too few, that counts against
    the source: should it stand alone, another is followed.
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
    against = [each for each, outcome in outcomes if outcome in CONTRADICTIONS]
    if agreed >= quorum:
        for endpoint in against:
            others = f"{agreed} others" if agreed > 1 else source.name
            endpoints.blame(endpoint, Disagreeing(f"{endpoint.name} contradicts {others}"))
        return
    error = Disagreeing(
        f"{agreed} of the {quorum} endpoints needed name {block} as {source.name} does: "
        f"{'; '.join(dissent)}"
    )
    if against:
        endpoints.blame(source, error)
    raise error
