"""One simulated network at work: a chain that is paid over, its node, and the events due by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from indexer.chains import Codec
from indexer.devnet.forecast import Forecast, History
from indexer.devnet.loopback import Loopback
from indexer.devnet.traffic import Step, Traffic


@dataclass
class Simulation:
    """A network as the engine is told of it, and as it truly is."""

    id: str
    rules: Mapping[str, object]  # the keys of `[networks.ID]`, but its endpoints
    traffic: Traffic[Any, Any]
    node: Loopback
    codec: Codec
    forecast: Forecast
    finality: int  # blocks that the finalized one is behind the head
    reorgs: int = 0
    first: int = field(init=False)  # height before the first block with traffic

    def __post_init__(self) -> None:
        self.first = self.head

    @property
    def head(self) -> int:
        """Branches here always end longer, so that the height alone tells who has seen them."""
        height: int = self.traffic.chain.head.number
        return height

    def step(self) -> Step[Any]:
        """A block with traffic, or a reorganisation."""
        step = self.traffic.step()
        self.reorgs += step.depth > 0
        return step

    def observe(self) -> None:
        """The engine has seen the chain as it stands."""
        self.forecast.observe(self.traffic.due(), self.head, self.head - self.finality)

    def texts(self, keys: Sequence[bytes]) -> list[str]:
        """Addresses as this network writes them."""
        return [self.codec.format_address(key) for key in keys]

    def history(self, watched: Sequence[bytes], own: Sequence[bytes]) -> History:
        """What an account must have been told by now."""
        codec, lives = self.codec, self.forecast.steps(watched, own)
        return {
            (
                self.id,
                codec.format_hash(tx),
                codec.format_address(address),
                codec.format_asset(asset),
                ordinal,
            ): steps
            for (tx, address, asset, ordinal), steps in lives.items()
        }
