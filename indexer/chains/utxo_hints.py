"""A bitcoind's own word of a new block: `hashblock` over ZeroMQ, as a hint and nothing more.

Whoever answers at an address can say anything, so that no hash is read: the follower asks the node.
libzmq connects again to a publisher that went away, but not to one that broke its protocol, nor
does it notice one behind a dead connection: silence is ended by a new socket.

Source: Bitcoin Core's `doc/zmq.md`: topic, hash and sequence number, in three parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import zmq
import zmq.asyncio

TOPIC: Final = b"hashblock"
PART_BYTES: Final = [len(TOPIC), 32, 4]
READ_SECONDS: Final = 0.1  # between two messages: a flood waits at its publisher
WAITING_MESSAGES: Final = 8  # that we hold unread
LARGEST_BYTES: Final = 64  # of a part: with a larger one the connection ends
SILENCE_SECONDS: Final = 120.0  # before another connection is tried
RECONNECT_MS: Final = (100, 5_000)  # from the first attempt to those after many
RETRY_SECONDS: Final = 10.0  # after a socket was not to be had

log = structlog.get_logger()


async def listen(publishers: Sequence[str], hint: Callable[[], None]) -> None:
    """Call `hint` at each `hashblock` of any of these ZeroMQ addresses, until cancelled."""
    context = zmq.asyncio.Context()
    try:
        async with asyncio.TaskGroup() as tasks:
            for publisher in publishers:
                tasks.create_task(_listen(context, publisher, hint))
    finally:
        context.destroy(linger=0)


async def _listen(context: zmq.asyncio.Context, publisher: str, hint: Callable[[], None]) -> None:
    while True:
        try:
            with context.socket(zmq.SUB) as socket:
                _connect(socket, publisher)
                while True:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        parts = await socket.recv_multipart()
                    if [len(part) for part in parts] == PART_BYTES and parts[0] == TOPIC:
                        hint()
                    await asyncio.sleep(READ_SECONDS)
        except TimeoutError:
            continue
        except zmq.ZMQError as error:
            log.warning("no_hints", publisher=publisher, reason=error.strerror)
            await asyncio.sleep(RETRY_SECONDS)


def _connect(socket: zmq.asyncio.Socket, publisher: str) -> None:
    socket.linger = 0
    socket.rcvhwm = WAITING_MESSAGES
    socket.maxmsgsize = LARGEST_BYTES
    socket.reconnect_ivl, socket.reconnect_ivl_max = RECONNECT_MS
    socket.ipv6 = "[" in publisher  # with it, a name's IPv6 address is all that is tried
    socket.subscribe(TOPIC)
    socket.connect(publisher)
