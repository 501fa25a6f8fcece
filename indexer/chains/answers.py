"""What may be wrong with a node's answer, whatever its network speaks; and an answer's size."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from indexer.chains.rpc import EndpointFailed
from indexer.model import Unavailable

T = TypeVar("T")


class Malformed(Unavailable):
    """An answer that isn't shaped as the node's interface promises."""


class NotProved(Unavailable):
    """What a node said contradicts itself or its block's hash; another node may say the truth."""


class Missing(EndpointFailed):
    """The node doesn't have, or doesn't have yet, what another part of its answers speaks of."""


class Sized(NamedTuple, Generic[T]):
    """An answer and its bytes on the wire."""

    value: T
    size: int
