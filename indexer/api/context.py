"""What the API's handlers work with, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg
from aiohttp import web

from indexer.api.errors import missing, shown
from indexer.chains import Codec, Token, Transfer
from indexer.chains.evidence import Proof
from indexer.explain.nodes import Reach
from indexer.model import Refused

if TYPE_CHECKING:
    from indexer.config import Settings
    from indexer.secret import Vault


@dataclass(frozen=True)
class Context:
    """`codecs` has the keys of `settings.networks`: the configured networks."""

    pool: asyncpg.Pool
    settings: Settings
    vault: Vault
    codecs: Mapping[str, Codec]
    tokens: Callable[[str, bytes], Awaitable[Token]]  # (network, asset); Refused, Unavailable
    # (network, height, block's hash, transfer); Refused, Unavailable
    proofs: Callable[[str, int, bytes, Transfer], Awaitable[Proof]]
    reach: Reach  # a network's adapter, for one caller at a time
    roles: Sequence[str]  # what this process does: api, follower, dispatcher, scanner
    ready: Callable[[], Awaitable[Sequence[str]]]  # why a role of this process can't work now
    late: Callable[[], Sequence[str]] = tuple  # what the watchdog is loud about

    def codec(self, network: str) -> Codec:
        """Of a network that a body or a filter names; Refused where it is not configured."""
        codec = self.codecs.get(network)
        if codec is None:
            known = ", ".join(self.codecs) or "none"
            raise Refused(f"there is no network {shown(network)!r}; configured: {known}")
        return codec

    def path_codec(self, network: str) -> Codec:
        """The same for a network that stands in the path: 404."""
        codec = self.codecs.get(network)
        if codec is None:
            raise missing("network", network)
        return codec


CONTEXT: Final = web.AppKey("context", Context)


def context_of(request: web.Request) -> Context:
    return request.config_dict[CONTEXT]
