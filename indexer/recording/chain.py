"""A recording as the chain that it was made of: the port over a file, proved like any node's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import groupby
from typing import Final

from indexer import config
from indexer.chains import Block, Chain, Codec, Header, Holding, Sighting, Token, Transfer, Watch
from indexer.chains.evidence import Proof
from indexer.chains.families import open_chain
from indexer.chains.rpc import RECORDED
from indexer.model import Refused, Unavailable
from indexer.recording import Recording
from indexer.recording.tape import Playback

ENDPOINT: Final = f"{RECORDED}://file"  # who answers


class RecordedChain:
    """`indexer.chains.Chain` over a recording's blocks; elsewhere it has none.

    Each block is read by an adapter of its own: what one block's answers taught it (that a node
    serves no REST, say) need not hold for the next one's, which another node may have given.
    """

    def __init__(self, recording: Recording, settings: config.Network) -> None:
        self._recording = recording
        self._about = recording.about
        self._settings = settings.alone(settings.endpoints[0].model_copy(update={"url": ENDPOINT}))
        self._decoder = open_chain(settings.id, self._settings)
        self.codec: Codec = self._decoder.codec
        self.unproved_blocks = 0
        self.disagreement: str | None = None  # there is one source

    async def connect(self) -> str:
        return self._about.identity

    async def close(self) -> None:
        self._recording.close()

    async def listen(self, hint: Callable[[], None]) -> None:
        """No block comes to a file."""

    async def tip(self) -> Header:
        return (await self._block(self._about.last)).header

    async def finalized(self) -> Header | None:
        height = self._recording.end.finalized
        return None if height is None else await self.header(height)

    async def header(self, height: int) -> Header | None:
        if not self._about.first <= height <= self._about.last:
            return None
        return (await self._block(height)).header

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        return [await self.header(height) for height in heights]

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        parent: bytes | None = None
        for height in range(first, last + 1):
            block = await self._block(height)
            if parent not in (None, block.header.parent):
                raise Unavailable(f"blocks {height - 1} and {height} of the recording don't link")
            parent = block.header.hash
            yield block

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        return self._decoder.transfers(block, watch)

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        """None of what was not watched yet when it was recorded."""
        agree: list[bool | None] = []
        for height, of_block in groupby(holdings, lambda holding: holding.block.header.height):
            chain = self._at(height)
            for holding in of_block:
                try:
                    agree += await chain.balances_agree([holding])
                except Unavailable:
                    agree.append(None)
        return agree

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        raise Refused("a recording gives no proofs: ask a node")

    async def transaction(self, tx: bytes) -> Sighting | None:
        raise Refused("a recording has blocks, and can't find a transaction: ask a node")

    async def token(self, asset: bytes) -> Token:
        raise Refused("a recording can't be asked about a token: ask a node")

    def _at(self, height: int) -> Chain:
        """Who reads one block."""
        answers = self._recording.read(height).answers
        return open_chain(self._settings.id, self._settings, Playback(answers))

    async def _block(self, height: int) -> Block:
        chain = self._at(height)
        [block] = [block async for block in chain.blocks(height, height)]
        self.unproved_blocks += chain.unproved_blocks
        return block
