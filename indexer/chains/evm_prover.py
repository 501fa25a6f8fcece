"""A block read and proved in another process: the asking side, and that process.

`python -m indexer.chains.evm_prover` answers on the socket that is its standard input until the
other end is closed, so also when whoever holds that end is killed.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from contextlib import suppress
from time import perf_counter
from typing import Final, NamedTuple

import msgspec

from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evm_body import DECODER_DEPTH, Body, read
from indexer.chains.evm_decode import Content
from indexer.chains.evm_proof import Execution
from indexer.chains.evm_trace import Payment
from indexer.chains.provers import LENGTH_BYTES, READY, Provers, framed

NICENESS: Final = 5  # added: whoever follows a tip goes first, on the same cores
BUFFER_BYTES: Final = 2**20


class Question(msgspec.Struct, frozen=True, array_like=True):
    body: Body
    verify: str


class Proved(NamedTuple):
    content: Content
    seconds: float  # that it took


class Told(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The same as it goes over the socket, where no number has more than 64 bits."""

    executions: list[Execution]
    payments: list[list[tuple[bytes, bytes, bytes]]]  # sender, recipient, units
    rebuilt: bool
    seconds: float

    @classmethod
    def of(cls, content: Content, seconds: float) -> Told:
        payments = [
            [(paid.sender, paid.recipient, _bytes(paid.units)) for paid in of_execution]
            for of_execution in content.payments
        ]
        return cls(list(content.executions), payments, content.rebuilt, seconds)

    def proved(self) -> Proved:
        payments = [
            tuple([Payment(sender, to, int.from_bytes(units, "big")) for sender, to, units in each])
            for each in self.payments
        ]
        return Proved(Content(self.executions, payments, self.rebuilt), self.seconds)


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    kind: str  # the error's class
    sentence: str


# What a node's answer may cause. Anything else ends the process: the asking one meets it itself.
_CAUSED: Final = (Malformed, Missing, NotProved, msgspec.DecodeError)
_KINDS: Final = {kind.__name__: kind for kind in _CAUSED}

_encoder: Final = msgspec.msgpack.Encoder()
_questions: Final = msgspec.msgpack.Decoder(Question)
_answers: Final = msgspec.msgpack.Decoder(Told | Failed)


async def read_elsewhere(provers: Provers, body: Body, verify: str) -> Proved | None:
    """As `evm_body.read` does, with its errors; None where no process can do it now."""
    async with provers.room:
        answer = await provers.ask(_encoder.encode(Question(body, verify)))
    if answer is None:
        return None
    said: Told | Failed = _answers.decode(answer)
    if isinstance(said, Failed):
        raise _KINDS[said.kind](said.sentence)
    return said.proved()


def answer(question: bytes) -> bytes:
    asked = _questions.decode(question)
    started = perf_counter()
    said: Told | Failed
    try:
        content = read(asked.body, asked.verify)
        said = Told.of(content, perf_counter() - started)
    except _CAUSED as error:
        kind = next(kind for kind in _CAUSED if isinstance(error, kind))
        said = Failed(kind.__name__, str(error))
    except RecursionError as error:
        said = Failed(msgspec.DecodeError.__name__, str(error))
    return _encoder.encode(said)


def serve(peer: socket.socket) -> None:
    """Answer questions in their order until the other end is closed."""
    with suppress(ConnectionError), peer.makefile("rb", BUFFER_BYTES) as stream:
        peer.sendall(READY)
        while len(length := stream.read(LENGTH_BYTES)) == LENGTH_BYTES:
            size = int.from_bytes(length, "big")
            if len(question := stream.read(size)) < size:
                break
            peer.sendall(framed(answer(question)))


def _bytes(units: int) -> bytes:
    return units.to_bytes((units.bit_length() + 7) // 8, "big")


def main() -> None:
    os.nice(NICENESS)
    sys.setrecursionlimit(DECODER_DEPTH)
    gc.freeze()
    gc.disable()  # answers and contents are trees
    with socket.socket(fileno=sys.stdin.fileno()) as peer:
        serve(peer)


if __name__ == "__main__":
    main()
