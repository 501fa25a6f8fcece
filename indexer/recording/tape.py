"""What nodes are asked and answer, noted where it passes, and answered again from such notes.

Whatever a family speaks: a note is a request's path and body with the bytes that came back. Calls
are noted one by one, never as batches, which another reader of the same block may put together
otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from indexer.chains.rpc import Endpoint, EndpointFailed, NotServed, Transport
from indexer.recording import Answer

# To a batch this says that none are taken, to a call that it is unknown.
NOT_HERE: Final = b'{"id":1,"error":{"code":-32601,"message":"not in this recording"}}'

Notes = dict[tuple[str, bytes | None], bytes]
_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


class Tape(Transport):
    """Asks nodes as ever; who is `noting` keeps what was answered to it and the tasks it made."""

    @contextmanager
    def noting(self) -> Iterator[Notes]:
        """By path and body; of a request that was sent twice, the last answer."""
        notes: Notes = {}
        token = _notes.set(notes)
        try:
            yield notes
        finally:
            _notes.reset(token)

    async def _ask(self, endpoint: Endpoint, method: str, path: str, body: bytes | None) -> bytes:
        if _is_batch(body):
            return NOT_HERE
        answer = await super()._ask(endpoint, method, path, body)
        if (notes := _notes.get()) is not None:
            notes[path, body] = answer
        return answer


class Playback(Transport):
    """Answers what was noted of one block, and asks nobody."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        super().__init__(sleep=lambda _: asyncio.sleep(0))
        self._answers = {(each.path, each.body): each.answer for each in answers}

    async def _ask(self, endpoint: Endpoint, method: str, path: str, body: bytes | None) -> bytes:
        answer = self._answers.get((path, body))
        if answer is not None:
            return answer
        if body is None:
            raise NotServed(f"{endpoint.name} has nothing at {path}")
        if path:
            raise EndpointFailed(f"{endpoint.name} has no answer of {path}")
        return NOT_HERE


def _is_batch(body: bytes | None) -> bool:
    return body is not None and body[:1] == b"["
