"""A recording: what a node answered about a range of blocks, in a file that needs no node.

The file is a line that names the format and its version; then parts, each its length (4 bytes,
big-endian) and so many bytes of zlib; then the SHA-256 of all of that. The first part is `About`,
one a block follow (`Kept`), the last is `End`: all MessagePack. zlib, since whatever runs this
program can read it, and it takes a fraction of the time that proving a block takes.

Until it is whole it is `FILE.part`: who records the same range to the same file again goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import zlib
from array import array
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeVar

import msgspec

from indexer.model import Refused, Unavailable

FORMAT: Final = 1  # raised where an older program could not read it
PART_BYTES: Final = 2**30  # of one block's answers, packed and unpacked
PIECE_BYTES: Final = 2**20  # read at a time for the checksum
LEVEL: Final = 6  # zlib's own choice: 1 packs JSON twice as fast, and half as well again
LENGTH_BYTES: Final = 4
FIRST_LINE: Final = re.compile(rb"depositd recording (\d{1,9})\n")
FIRST_LINE_BYTES: Final = 64

T = TypeVar("T")


class DiskFailed(Unavailable):
    """The disk takes no more."""


class About(msgspec.Struct, frozen=True):
    """What is recorded."""

    identity: str  # of the chain, as `Chain.connect` says it
    asked: dict[str, int | str]  # the settings that decide what a node is asked
    first: int
    last: int


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """A request's path and body, and what came back. Neither URL nor headers: they hold secrets."""

    path: str
    body: bytes | None  # None: a GET
    answer: bytes


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A block, and all that was answered while it was read."""

    hash: bytes
    parent: bytes
    answers: list[Answer]


class End(msgspec.Struct, frozen=True, array_like=True):
    """`finalized`: height of the newest recorded block that the node called irreversible."""

    finalized: int | None


class Draft:
    """A recording while it is made; whatever stood in its file before is gone on with.

    Refused where FILE is there already, or FILE.part holds something else or is being written;
    DiskFailed where it can't be written any more.
    """

    def __init__(self, path: Path, about: About) -> None:
        self.path = path
        self.part = part_of(path)
        self._about = about
        self._starts = array("Q")  # where each block's part begins: 8 bytes a block
        self.newest: Kept | None = None
        if path.exists():
            raise Refused(f"{path} exists already; nothing was recorded")
        self._file = _open(self.part, "a+b")
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    @property
    def height(self) -> int:
        """Of the block that comes next."""
        return self._about.first + len(self._starts)

    def append(self, kept: Kept, packed: bytes) -> None:
        """`packed`: the same by `pack`."""
        self._starts.append(self._write(packed))
        self.newest = kept

    def drop(self) -> None:
        """The newest block is none of the chain any more."""
        self._file.truncate(self._starts.pop())
        self.newest = None
        if self._starts:
            self._file.seek(self._starts[-1])
            self.newest = _decoded(_part(self._file), Kept)

    def finish(self, end: End) -> int:
        """Give the recording its name; returns its bytes."""
        self._write(pack(end))
        digest = _digest(self._file, self._file.seek(0, os.SEEK_END))
        size = self._write(digest) + len(digest)
        try:
            os.fsync(self._file.fileno())
            self.part.rename(self.path)
        except OSError as problem:
            raise DiskFailed(f"{self.path} can't be written: {problem.strerror}") from None
        return size

    def close(self) -> None:
        with suppress(OSError):  # of what could not be written before
            self._file.close()

    def _resume(self) -> None:
        """Find what is whole of it, and cut off the rest."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"{self.part} is being written by another process") from None
        head = b"depositd recording %d\n" % FORMAT + pack(self._about)
        self._file.seek(0)
        found = self._file.read(len(head))
        if not head.startswith(found):
            raise Refused(
                f"{self.part} holds part of another recording: remove it, or choose another file"
            )
        if found != head:
            self._file.truncate(0)
            self._write(head)
        end = len(head)
        self._file.seek(end)
        while (kept := _decoded(_part(self._file), Kept)) is not None:
            self._starts.append(end)
            self.newest, end = kept, self._file.tell()
        self._file.truncate(end)

    def _write(self, data: bytes) -> int:
        """Add bytes; returns where they begin."""
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as problem:
            raise DiskFailed(f"{self.part} can't be written: {problem.strerror}") from None
        return start


class Recording:
    """A whole recording, read a block at a time.

    Refused where it is none, was made by a newer program, or is damaged: what it holds is looked
    through once before any of it is believed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("Q")  # where each block's part begins: 8 bytes a block
        self._file = _open(path, "rb")
        try:
            self._check_format()
            self.about, self.end = self._check_parts()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, height: int) -> Kept:
        """A block of the recorded range."""
        self._file.seek(self._starts[height - self.about.first])
        return self._sound(Kept)

    def refuse_unless(
        self, identity: str | None, asked: Mapping[str, int | str], first: int, last: int
    ) -> None:
        """Refused unless it has these blocks, of that chain, read under such settings.

        `identity`: None where no chain was followed yet.
        """
        here = self.about
        for key, value in asked.items():
            if here.asked.get(key) != value:
                was = _shown(here.asked.get(key))
                raise Refused(f"{self.path} was recorded with {key} = {was}, not {_shown(value)}")
        if identity not in (None, here.identity):
            raise Refused(f"{self.path} is of {here.identity}; this database follows {identity}")
        if first < here.first or last > here.last:
            raise Refused(
                f"{self.path} holds the blocks {here.first} to {here.last}, not {first} to {last}"
            )

    def _check_format(self) -> None:
        line = FIRST_LINE.match(self._file.readline(FIRST_LINE_BYTES))
        if line is None:
            raise Refused(f"{self.path} is no recording of depositd")
        if int(line[1]) > FORMAT:
            raise Refused(
                f"{self.path} has format {int(line[1])}, which a newer depositd wrote; "
                f"this one reads {FORMAT}"
            )
        self._file.seek(line.end())

    def _check_parts(self) -> tuple[About, End]:
        start = self._file.tell()
        end = self._file.seek(0, os.SEEK_END) - hashlib.sha256().digest_size
        if end < start or _digest(self._file, end) != self._file.read():
            raise self._damaged()
        self._file.seek(start)
        about, begin = self._sound(About), self._file.tell()
        while begin < end:
            self._starts.append(begin)
            self._file.seek(begin)
            begin += LENGTH_BYTES + int.from_bytes(self._file.read(LENGTH_BYTES), "big")
        if len(self._starts) != about.last - about.first + 2:
            raise self._damaged()
        self._file.seek(self._starts.pop())
        return about, self._sound(End)

    def _sound(self, kind: type[T]) -> T:
        found = _decoded(_part(self._file), kind)
        if found is None:
            raise self._damaged()
        return found

    def _damaged(self) -> Refused:
        return Refused(f"{self.path} is damaged or cut off: it does not match its checksum")


def part_of(path: Path) -> Path:
    """Where a recording is until it is whole."""
    return path.with_name(f"{path.name}.part")


def pack(content: About | Kept | End) -> bytes:
    """A part of the file."""
    packed = zlib.compress(msgspec.msgpack.encode(content), LEVEL)
    return len(packed).to_bytes(LENGTH_BYTES, "big") + packed


def _part(file: BinaryIO) -> bytes | None:
    """The part that begins here, unpacked; None where there is no whole one."""
    size = int.from_bytes(file.read(LENGTH_BYTES), "big")
    packed = file.read(min(size, PART_BYTES))
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(packed, PART_BYTES)
    except zlib.error:
        return None
    return content if unpacking.eof and len(packed) == size else None


def _decoded(part: bytes | None, kind: type[T]) -> T | None:
    """A part's content; None where it is something else."""
    if part is None:
        return None
    try:
        return msgspec.msgpack.decode(part, type=kind)
    except msgspec.DecodeError:
        return None


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first bytes of a file, which is left standing behind them."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (piece := file.read(min(size, PIECE_BYTES))):
        digest.update(piece)
        size -= len(piece)
    return digest.digest()


def _open(path: Path, mode: Literal["rb", "a+b"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as problem:
        doing = "read" if mode == "rb" else "written"
        raise Refused(f"{path} can't be {doing}: {problem.strerror}") from None


def _shown(value: int | str | None) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
