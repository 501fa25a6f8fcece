"""Keeps a node's raw answers about a range of blocks, for `replay --source`.

One endpoint is asked, and about every block by itself, so that whoever replays one asks the same.
What is kept is one branch: a block that does not link to the one below it is no reason to keep
either, and both are asked for again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Final

import asyncpg
import structlog

from indexer import balances, config
from indexer.chains import Block, Chain
from indexer.chains.families import open_chain
from indexer.model import Refused, Unavailable
from indexer.recording import About, Answer, DiskFailed, Draft, End, Kept, pack
from indexer.recording.tape import Notes, Tape
from indexer.watchset import WatchSet

AT_ONCE: Final = 4  # blocks asked for
BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # after failures in a row; then it is given up

log = structlog.get_logger()


async def open_taped(settings: config.Network) -> tuple[Chain, Tape, str]:
    """The first endpoint that serves what the settings need, and its chain's identity.

    Where none does: Refused if asking again won't help, else Unavailable.
    """
    problems: list[Refused | Unavailable] = []
    for endpoint in settings.endpoints:
        tape = Tape()
        chain = open_chain(settings.id, settings.alone(endpoint), tape)
        try:
            return chain, tape, await chain.connect()
        except (Refused, Unavailable) as problem:
            problems.append(problem)
            await chain.close()
        except BaseException:
            await chain.close()
            raise
    hopeless = all(isinstance(problem, Refused) for problem in problems)
    raise (Refused if hopeless else Unavailable)("; ".join(map(str, problems)))


async def checked_watch(pool: asyncpg.Pool, settings: config.Network) -> WatchSet:
    """Whose balances are asked about: nobody's, where no coin wants that."""
    watch = WatchSet(settings.id, settings.reorg_window)
    async with pool.acquire() as connection:
        if await connection.fetchval(
            "select exists (select from coin where network = $1 and balance_check)", settings.id
        ):
            await watch.refresh(connection)
    return watch


class Recorder:
    """One node, asked for blocks through a tape."""

    def __init__(self, chain: Chain, tape: Tape, watch: WatchSet) -> None:
        self._chain = chain
        self._tape = tape
        self._watch = watch

    async def record(self, path: Path, about: About, progress: Callable[[int], None]) -> int:
        """Record a range, or what is left of it; returns the file's bytes.

        `progress` is told of blocks that were kept, less than none if they were given up again.
        Raises Refused where the node is not so far or the file is taken, and Unavailable where node
        or disk fail for good: what is kept by then stays in FILE.part for the next time.
        """
        head = (await self._chain.tip()).height
        if about.last > head:
            raise Refused(f"the node's newest block is {head}: --to {about.last} is beyond it")
        with closing(Draft(path, about)) as draft:
            progress(draft.height - about.first)
            failures = 0
            while True:
                before = draft.height
                try:
                    end = await self._go_on(draft, about, progress)
                except DiskFailed:
                    raise
                except Unavailable as problem:
                    failures = 0 if draft.height > before else failures + 1
                    if failures == len(BACKOFF_SECONDS):
                        raise
                    log.warning("unavailable", reason=str(problem))
                    await asyncio.sleep(BACKOFF_SECONDS[failures])
                    continue
                if end is not None:
                    return draft.finish(end)

    async def _go_on(
        self, draft: Draft, about: About, progress: Callable[[int], None]
    ) -> End | None:
        """Keep blocks up to the last one; None where one had to be given up again."""
        async with aclosing(self._taken(draft.height, about.last)) as taken:
            async for kept, packed in taken:
                if draft.newest is not None and draft.newest.hash != kept.parent:
                    draft.drop()
                    progress(-1)
                    return None
                draft.append(kept, packed)
                progress(1)
        final = await self._chain.finalized()
        top = await self._chain.header(about.last)
        if top is None:
            raise Unavailable(f"the node has no block {about.last} any more")
        if draft.newest is None or draft.newest.hash != top.hash:
            draft.drop()
            progress(-1)
            return None
        # Of our branch, because that has the node's block at the top.
        named = None if final is None else min(final.height, about.last)
        return End(None if named is None or named < about.first else named)

    async def _taken(self, first: int, last: int) -> AsyncGenerator[tuple[Kept, bytes], None]:
        """Blocks first..last in order, a few asked for at once; `pack`ed beside them."""
        ahead: deque[asyncio.Task[tuple[Kept, bytes]]] = deque()
        upcoming = first
        try:
            while ahead or upcoming <= last:
                while upcoming <= last and len(ahead) < AT_ONCE:
                    ahead.append(asyncio.create_task(self._take(upcoming)))
                    upcoming += 1
                yield await ahead[0]
                ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _take(self, height: int) -> tuple[Kept, bytes]:
        """One block with all that was asked about it."""
        with self._tape.noting() as notes:
            [block] = [block async for block in self._chain.blocks(height, height)]
            await balances.check(self._chain, [block], self._watch)
        kept = _kept(block, notes)
        return kept, await asyncio.to_thread(pack, kept)


def _kept(block: Block, notes: Notes) -> Kept:
    answers = [Answer(path, body, answer) for (path, body), answer in notes.items()]
    return Kept(block.header.hash, block.header.parent, answers)
