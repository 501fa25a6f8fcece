"""Blocks' answers read and proved: here, a block at a time, or in other processes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Final

from indexer.chains.evm_body import Body, read
from indexer.chains.evm_decode import Content
from indexer.chains.evm_prover import Proved, read_elsewhere
from indexer.chains.jsonrpc import shaped
from indexer.chains.metrics import PROVE_SECONDS
from indexer.chains.provers import Provers
from indexer.chains.rpc import Endpoint
from indexer.chains.turn import give_way

# Of answers in one stretch, from which on processes are worth their start, which takes each of them
# 0.4 s of a core: 100 busy mainnet blocks.
FAR_BYTES: Final = 96 * 2**20


class Reader:
    """`provers`: None to read all of it here."""

    def __init__(self, verify: str, provers: Provers | None) -> None:
        self._verify = verify
        self._provers = provers

    async def contents(
        self, endpoint: Endpoint, bodies: Sequence[Body], stretch: int
    ) -> list[Content]:
        """What each holds, by an endpoint that said all of it; raises what `evm_body.read` does.

        `stretch`: how many blocks are read in one go, these among them. A few, as at the tip, are
        read here, where nothing has to be waited for.
        """
        far = stretch * sum(body.size for body in bodies) >= FAR_BYTES * len(bodies)
        begun: list[asyncio.Task[Proved]] = []
        try:
            with shaped(endpoint):
                for body in bodies:
                    begun.append(asyncio.create_task(self._read(body, far)))
                    await give_way()  # proofs keep a core busy
                proved = [await task for task in begun]
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)
        for each in proved:
            PROVE_SECONDS.labels(endpoint.network).observe(each.seconds)
        return [each.content for each in proved]

    async def _read(self, body: Body, far: bool) -> Proved:
        if far and self._provers is not None:
            proved = await read_elsewhere(self._provers, body, self._verify)
            if proved is not None:
                return proved
        started = perf_counter()
        content = read(body, self._verify)
        return Proved(content, perf_counter() - started)
