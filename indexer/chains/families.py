"""The families of networks: a line each. A network of a known family is configuration alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from indexer.chains import Chain, Codec
from indexer.chains.evm import EvmChain
from indexer.chains.evm_codec import EvmCodec
from indexer.chains.provers import Provers
from indexer.chains.rpc import Transport
from indexer.chains.tron import TronChain
from indexer.chains.tron_codec import TronCodec
from indexer.chains.utxo import UtxoChain
from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_network import NETWORKS


class _Family(NamedTuple):
    # From the family's own settings.
    chain: Callable[[Any, Transport | None, Provers | None], Chain]
    codec: Callable[[Any], Codec]


_FAMILIES: Final[Mapping[str, _Family]] = {
    "evm": _Family(EvmChain, lambda _: EvmCodec()),
    "tron": _Family(
        lambda settings, transport, _: TronChain(settings, transport), lambda _: TronCodec()
    ),
    "utxo": _Family(
        lambda settings, transport, _: UtxoChain(settings, transport),
        lambda s: UtxoCodec(NETWORKS[s.coin, s.chain]),
    ),
}


class Settings(Protocol):
    """A network's settings, of whatever family."""

    @property
    def family(self) -> str: ...


def open_chain(
    network: str,
    settings: Settings,
    transport: Transport | None = None,
    provers: Provers | None = None,
) -> Chain:
    """The adapter of a configured network, not connected yet.

    `transport`: how nodes are asked. `provers`: their owner's processes, for blocks far from the
    tip; None: every block is proved in this one.
    """
    return _FAMILIES[settings.family].chain(settings, transport, provers)


def codec(settings: Settings) -> Codec:
    """How a configured network writes addresses and hashes, without any connection."""
    return _FAMILIES[settings.family].codec(settings)
