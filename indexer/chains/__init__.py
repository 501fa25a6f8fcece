"""The chain port: what the rest of the engine may know of a network, no wire format among it.

No library's type, exception or unit crosses it. Heights are ints, amounts are ints in base units,
hashes are 32 raw bytes in display order, an address key is bytes (EVM, TRON: the 20 bytes; UTXO:
the scriptPubKey), an asset is bytes (`NATIVE` for the native coin, else the contract's 20 bytes or
the TRC-10 id's ASCII digits).

Failures cross it as the two kinds of `indexer.model`: `Unavailable` (the node may answer later) and
`Refused` (asking again won't help: wrong network, no proof, bad input).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from indexer.chains.evidence import Proof

NATIVE: Final = b""


class Header(msgspec.Struct, frozen=True, gc=False):
    """A block's place in its chain, as one endpoint named it."""

    height: int
    hash: bytes
    parent: bytes
    time: int  # Unix seconds by the block's own clock; never used for order (P117)
    source: str  # the endpoint's name, which holds no secret (`rpc.Endpoint.name`)
    work: int | None = None  # hashes that it took on average, proved; None: length decides here


class Block(msgspec.Struct, frozen=True):
    """A proved block. `payload` is the adapter's own; only `Chain.transfers` reads it."""

    header: Header
    payload: Any
    size: int  # bytes on the wire, for the bound on bytes in flight


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """A movement of one registered asset to one address in a successful transaction.

    `ordinal` counts from 0, in execution order, the transaction's movements of this asset to this
    recipient, also those that make no deposit.
    """

    tx: bytes
    asset: bytes
    recipient: bytes
    ordinal: int
    units: int  # base units; 0 only where `odd`
    sender: bytes | None  # log's from, call frame's from, transaction's signer
    odd: bool = False  # shaped unlike its standard: held as `unknown_shape`, never credited by rule
    maturity: int = 0  # confirmations before the network lets anyone spend it (coinbases)
    # UTXO: every address that the inputs reveal, and the outputs (transaction, index) that the
    # others spend. Elsewhere `sender` says it all.
    senders: tuple[bytes, ...] = ()
    unrevealed: tuple[tuple[bytes, int], ...] = ()
    concealed: bool = False  # spending it will reveal no address


class Holding(NamedTuple):
    """What an address has of a token, before and after a block."""

    block: Block
    asset: bytes
    holder: bytes


class Sighting(msgspec.Struct, frozen=True):
    """Where a node has a transaction, by its own word. In no block: it waits to be mined."""

    source: str
    height: int | None = None
    block: bytes | None = None  # its hash; not always of the node's chain any more
    executed: bool | None = None  # whether it succeeded there; None where the node doesn't say
    trouble: str | None = None  # why it failed, or why it can never be mined
    assets: frozenset[bytes] = frozenset()  # that it may have moved: what to decode its block for
    unseen: str | None = None  # what it may have moved that nobody sees here, and why


class Token(msgspec.Struct, frozen=True):
    """What a contract says of itself. Display only: never a key (P6)."""

    name: str
    symbol: str
    decimals: int


class Watch(Protocol):
    """What a decoder asks while it walks a block. False positives are settled in the database."""

    @property
    def assets(self) -> Collection[bytes]: ...

    def contains(self, keys: Sequence[bytes]) -> Sequence[bool]:
        """For each address key, whether it may be watched."""
        ...


class Codec(Protocol):
    """A network's text forms. No I/O, made from settings alone. Every parser raises Refused."""

    family: str
    # Extended public keys that wallets of this network have: see `extended_key`.
    wallet_forms: Mapping[str, Callable[[bytes], bytes]]

    def parse_address(self, text: str) -> bytes: ...
    def format_address(self, key: bytes) -> str: ...
    def parse_hash(self, text: str) -> bytes: ...
    def format_hash(self, value: bytes) -> str: ...
    def parse_asset(self, text: str) -> bytes:
        """A token's contract or id; `native` is not one."""
        ...

    def format_asset(self, asset: bytes) -> str:
        """Text of a token's contract or id; `native` for NATIVE. Part of a deposit's identity."""
        ...


class Chain(Protocol):
    """One followed network over its endpoints."""

    codec: Codec
    unproved_blocks: int  # counted since it was made: taken though their proof is incomplete (P80)

    async def connect(self) -> str:
        """Check every endpoint's network and what it can serve; return the chain's identity.

        The identity (chain id and genesis hash as text) is recorded at first connect and compared
        ever after. Endpoints that fail are left out with a reason; none left raises Unavailable if
        one may recover, else Refused.
        """
        ...

    async def close(self) -> None: ...

    @property
    def disagreement(self) -> str | None:
        """Which endpoints name other blocks than the others, lately: a sentence for operators."""
        ...

    async def listen(self, hint: Callable[[], None]) -> None:
        """Call `hint` when a node says by itself that it has a new block, until cancelled.

        Returns where no endpoint is set to do so. What is said may be late, lost, false or a flood:
        it decides nothing, and is a reason to ask.
        """
        ...

    async def tip(self) -> Header:
        """The head of the followed endpoint."""
        ...

    async def finalized(self) -> Header | None:
        """The newest block the node calls irreversible, None if it can't say yet."""
        ...

    async def header(self, height: int) -> Header | None:
        """The block that the followed endpoint has at a height; None where it has none."""
        ...

    async def headers(self, heights: Sequence[int]) -> list[Header | None]:
        """The same for many heights, in their order, in as few calls as may be."""
        ...

    def blocks(self, first: int, last: int) -> AsyncGenerator[Block, None]:
        """Proved blocks first..last in order, fetched ahead within the bytes-in-flight limit.

        Consecutive blocks link by parent hash or Unavailable is raised. `quorum` is met for all.
        """
        ...

    def transfers(self, block: Block, watch: Watch) -> list[Transfer]:
        """Movements of `watch.assets` to recipients that `watch` may contain. Pure."""
        ...

    async def balances_agree(self, holdings: Sequence[Holding]) -> list[bool | None]:
        """Whether each changed in its block by just what the block's transfers say.

        None where no node can say. Refused where balances can't be asked at a block.
        """
        ...

    async def proof(self, height: int, block: bytes, transfer: Transfer) -> Proof:
        """Evidence that a transfer is in a block, for others to check.

        Refused where no node gives that block any more, or it can't be proved.
        """
        ...

    async def transaction(self, tx: bytes) -> Sighting | None:
        """Where the nodes have a transaction; None where those that answer don't know it.

        What they say is not proved. Refused where they can't find every transaction.
        """
        ...

    async def token(self, asset: bytes) -> Token:
        """A token's metadata read from its contract; Refused if it is none."""
        ...
