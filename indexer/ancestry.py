"""Where a node's branch leaves the stored one, and what its own blocks weigh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexer.chains import Chain
from indexer.model import Unavailable


async def common_ancestor(chain: Chain, top: int, stored: Mapping[int, bytes]) -> int | None:
    """The highest height below `top` at which the node names the stored hash, if there is one.

    Galloping down, then exact: a short reorg costs few headers, a deep one not all of them. Raises
    Unavailable where the node misses blocks below its own tip.
    """
    lowest, probes, step = min(stored), [], 1
    while top - step > lowest:
        probes.append(top - step)
        step *= 2
    probes.append(lowest)
    above = top
    for height, same in zip(probes, await _same(chain, probes, stored), strict=True):
        if same:
            between = list(range(above - 1, height, -1))
            agreed = await _same(chain, between, stored)
            return next((h for h, s in zip(between, agreed, strict=True) if s), height)
        above = height
    return None


async def work_above(chain: Chain, ancestor: int, tip: int) -> int:
    """The proved work (hashes, on average) of the node's blocks above `ancestor`, up to `tip`."""
    branch = await chain.headers(range(ancestor + 1, tip + 1))
    return sum(header.work or 0 for header in branch if header is not None)


async def _same(chain: Chain, heights: Sequence[int], stored: Mapping[int, bytes]) -> list[bool]:
    """Whether the node names the stored block at each height."""
    if not heights:
        return []
    theirs = await chain.headers(heights)
    if any(header is None for header in theirs):
        raise Unavailable("the node misses blocks below its own tip")
    return [h is not None and stored[n] == h.hash for n, h in zip(heights, theirs, strict=True)]
