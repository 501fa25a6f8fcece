"""A bitcoind's ZeroMQ side: what it publishes, and what somebody else might at its address."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import zmq


class Publisher:
    """Publishes at `address` on loopback while it is entered. Port 0: any that is free."""

    def __init__(self, port: int = 0) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self.port = port or self._socket.bind_to_random_port("tcp://127.0.0.1")
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._sequence = 0

    def say(self, *parts: bytes) -> None:
        """Any message at all."""
        self._socket.send_multipart(parts)

    def block(self, block: bytes = bytes(32)) -> None:
        """A new block, as bitcoind says it."""
        self._sequence += 1
        self.say(b"hashblock", block, self._sequence.to_bytes(4, "little"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._context.destroy(linger=0)
