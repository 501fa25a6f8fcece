"""A node's answers about a chain, serialised once: a file of bytes, mapped by who serves it."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_json import text
from tests.bench.blocks import native_deposits, token_deposits

ANSWERS: Final = "answers"
INDEX: Final = "index.json"

_TRANSFER: Final = text(TRANSFER_TOPIC)


class Slice(msgspec.Struct, frozen=True, array_like=True):
    """Where an answer is in the file, in bytes."""

    start: int
    end: int


class Entry(msgspec.Struct, frozen=True):
    """One block's answers. Logs are a JSON array without its brackets, so that ranges join."""

    hash: str
    full: Slice
    header: Slice
    receipts: Slice
    logs: Slice
    transfers: Slice  # logs whose first topic is Transfer
    native_deposits: int
    token_deposits: int


def record(directory: Path, chain: Iterable[Block], watched: Sequence[bytes]) -> None:
    """Write every answer about a chain that begins at height 0, and what it pays `watched`."""
    entries: list[Entry] = []
    keys = frozenset(watched)
    with (directory / ANSWERS).open("wb") as file:

        def put(data: bytes) -> Slice:
            start = file.tell()
            file.write(data)
            return Slice(start, start + len(data))

        for block in chain:
            logs = [log for receipt in block.receipts for log in receipt["logs"]]
            hashes = [text(each.transaction.hash) for each in block.executed]
            entries.append(
                Entry(
                    hash=text(block.hash),
                    full=put(orjson.dumps(block.json)),
                    header=put(orjson.dumps(block.json | {"transactions": hashes})),
                    receipts=put(orjson.dumps(block.receipts)),
                    logs=put(_joined(logs)),
                    transfers=put(_joined([log for log in logs if log["topics"][0] == _TRANSFER])),
                    native_deposits=native_deposits(block, keys),
                    token_deposits=token_deposits(block, keys),
                )
            )
    (directory / INDEX).write_bytes(msgspec.json.encode(entries))


class Recording:
    """What `record` wrote, open for reading."""

    def __init__(self, directory: Path) -> None:
        self.entries = msgspec.json.decode((directory / INDEX).read_bytes(), type=list[Entry])
        self.heights = {entry.hash: height for height, entry in enumerate(self.entries)}
        with (directory / ANSWERS).open("rb") as file:
            self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @property
    def tip(self) -> int:
        return len(self.entries) - 1

    def deposits(self, *, native: bool) -> int:
        """How many an engine must find."""
        return sum(e.token_deposits + native * e.native_deposits for e in self.entries)

    def read(self, where: Slice) -> memoryview:
        return self._bytes[where.start : where.end]


def _joined(logs: list[dict[str, Any]]) -> bytes:
    return orjson.dumps(logs)[1:-1]
