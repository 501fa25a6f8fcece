"""A chain that is a list of blocks: the port's other side for tests of follower and ledger.

It proves nothing and speaks no wire format; the adapters have tests of their own, against real
nodes. What it does have is what a follower must survive: branches, lag, a head that shrinks, a
finalized block, an endpoint that changes its mind.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from indexer.chains import (
    NATIVE,
    Block,
    Codec,
    Header,
    Holding,
    Sighting,
    Token,
    Transfer,
    Watch,
)
from indexer.chains.evidence import Proof
from indexer.model import Refused, Unavailable

ADDRESSES = [bytes([n]) * 20 for n in range(1, 9)]
STRANGER = b"\xee" * 20
TOKEN = b"\xaa" * 20


class HexCodec:
    """Everything is hex."""

    family = "scripted"
    wallet_forms: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType({})

    def parse_address(self, text: str) -> bytes:
        return bytes.fromhex(text)

    def format_address(self, key: bytes) -> str:
        return key.hex()

    def parse_hash(self, text: str) -> bytes:
        return bytes.fromhex(text)

    def format_hash(self, value: bytes) -> str:
        return value.hex()

    def parse_asset(self, text: str) -> bytes:
        return bytes.fromhex(text)

    def format_asset(self, asset: bytes) -> str:
        return asset.hex() or "native"


@dataclass(frozen=True)
class Payment:
    """One transaction with one movement for each (recipient, units) of one asset."""

    tx: bytes
    outputs: tuple[tuple[bytes, int], ...]
    asset: bytes = NATIVE
    sender: bytes = STRANGER

    def transfers(self) -> list[Transfer]:
        seen: dict[bytes, int] = {}
        result = []
        for recipient, units in self.outputs:
            ordinal = seen.get(recipient, 0)
            seen[recipient] = ordinal + 1
            result.append(Transfer(self.tx, self.asset, recipient, ordinal, units, self.sender))
        return result


def payment(number: int, *outputs: tuple[bytes, int], asset: bytes = NATIVE) -> Payment:
    return Payment(hashlib.sha256(b"tx%d" % number).digest(), outputs, asset)


@dataclass
class ScriptedChain:
    """One node's view: `view` is its canonical branch, height 0 first."""

    source: str = "node-a"
    view: list[tuple[Header, tuple[Payment, ...]]] = field(default_factory=list)
    hidden: int = 0  # blocks at the top that the node does not show yet
    final_depth: int | None = None  # finalized = tip - this
    salt: int = 0
    fetched: list[int] = field(default_factory=list)
    codec: Codec = field(default_factory=HexCodec)
    unproved_blocks: int = 0
    disagreement: str | None = None
    hint: Callable[[], None] = lambda: None  # the script's, once somebody listens
    agrees: Callable[[Holding], bool | None] = lambda _: True  # whether a balance does
    balances: list[Holding] = field(default_factory=list)  # that were asked for
    sightings: dict[bytes, Sighting] = field(default_factory=dict)  # said instead of the truth

    def __post_init__(self) -> None:
        if not self.view:
            self.mine()

    # ------------------------------------------------------------ the script's side

    def mine(self, *payments: Payment) -> Header:
        parent = self.view[-1][0].hash if self.view else bytes(32)
        height = len(self.view)
        self.salt += 1
        seed = parent + b"%d %d" % (height, self.salt) + repr(payments).encode()
        header = Header(
            height, hashlib.sha256(seed).digest(), parent, 1_700_000_000 + height, self.source
        )
        self.view.append((header, payments))
        return header

    def cut(self, depth: int) -> list[tuple[Payment, ...]]:
        """Take the last `depth` blocks off; returns what they paid."""
        depth = min(depth, len(self.view) - 1)
        gone = [payments for _, payments in self.view[len(self.view) - depth :]]
        del self.view[len(self.view) - depth :]
        return gone

    @property
    def shown(self) -> list[tuple[Header, tuple[Payment, ...]]]:
        return self.view[: max(1, len(self.view) - self.hidden)]

    # ------------------------------------------------------------ the port

    async def connect(self) -> str:
        return f"scripted:{self.source}"

    async def close(self) -> None:
        return None

    async def listen(self, hint: Callable[[], None]) -> None:
        self.hint = hint

    async def tip(self) -> Header:
        return self.shown[-1][0]

    async def finalized(self) -> Header | None:
        if self.final_depth is None:
            return None
        height = len(self.shown) - 1 - self.final_depth
        return self.shown[height][0] if height >= 0 else None

    async def header(self, height: int) -> Header | None:
        return self.shown[height][0] if 0 <= height < len(self.shown) else None

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        return [await self.header(height) for height in heights]

    async def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        previous: Header | None = None
        for height in range(first, last + 1):
            if height >= len(self.shown):
                raise Unavailable(f"no block {height} yet")
            header, payments = self.shown[height]
            if previous is not None and header.parent != previous.hash:
                raise Unavailable("changed between two calls")
            previous = header
            self.fetched.append(height)
            yield Block(header, payments, 100)

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        every = [t for p in block.payload for t in p.transfers() if t.asset in watch.assets]
        hits = watch.contains([t.recipient for t in every])
        return [t for t, hit in zip(every, hits, strict=True) if hit]

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        self.balances += holdings
        return [self.agrees(holding) for holding in holdings]

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        raise Refused("nothing is proved here")

    async def transaction(self, tx: bytes) -> Sighting | None:
        if (said := self.sightings.get(tx)) is not None:
            return said
        for header, payments in self.shown:
            for each in payments:
                if each.tx == tx:
                    assets = frozenset([NATIVE, each.asset])
                    return Sighting(self.source, header.height, header.hash, True, assets=assets)
        return None

    async def token(self, asset: bytes) -> Token:
        raise Refused(f"{asset.hex()} is no token")
