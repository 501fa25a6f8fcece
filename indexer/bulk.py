"""Addresses to register by the million: lines of CSV or of JSON, checked one by one.

A file may hold more than memory should: what is read is spooled to disk, and registered from there
in one transaction, so that all of it shows at once or nothing of it.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import asyncpg
import msgspec

from indexer.coverage import NewAddress, Registered, register_addresses
from indexer.model import Refused

REGISTERED_AT_ONCE: Final = 2_000  # addresses of one statement
MAX_LINE: Final = 4096  # bytes
MAX_BAD: Final = 100  # lines that are named; reading stops there
MAX_REFERENCE: Final = 256  # characters
MAX_HEIGHT: Final = 2**53  # blocks
ROLES: Final = ("deposit", "own")
_COLUMNS: Final = ("address", "reference", "fromBlock", "role")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that can't be taken; `number` counts from 1."""

    number: int
    error: str


class TooBad(Refused):
    """Lines of an import that are no addresses; nothing of it is registered."""

    def __init__(self, lines: Sequence[BadLine]) -> None:
        first = lines[0]
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        super().__init__(f"line {first.number}: {first.error}{more}")
        self.lines = lines


class Spool:
    """Checked addresses on their way to the database, in the order of their lines."""

    def __init__(self, file: IO[bytes], parse_line: Callable[[str], NewAddress | None]) -> None:
        """`file`: empty, closed by its owner. `parse_line`: None for a line that holds nothing,
        Refused for one that is wrong."""
        self._file = file
        self._checked = bytearray()  # and not written yet
        self._parse_line = parse_line
        self._rest = b""
        self._line = 0
        self.rows = 0
        self.bad: list[BadLine] = []

    def feed(self, data: bytes) -> None:
        """The next bytes of the file. Raises TooBad once MAX_BAD lines are wrong."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._take(line)
        if len(self._rest) > MAX_LINE:
            self._wrong(self._line + 1, f"has more than {MAX_LINE} bytes")
            raise TooBad(self.bad)

    def end(self) -> None:
        """All bytes are here. Raises TooBad if a line was wrong."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        if self.bad:
            raise TooBad(self.bad)

    @property
    def unwritten(self) -> int:
        """Bytes that wait for `write`."""
        return len(self._checked)

    def write(self) -> None:
        """Put them into the file; a disk may take its time."""
        self._file.write(self._checked)
        self._checked.clear()

    def chunks(self, size: int) -> Iterator[list[NewAddress]]:
        """What was written, `size` addresses at a time."""
        self._file.seek(0)
        chunk: list[NewAddress] = []
        for line in self._file:
            key, *rest = msgspec.json.decode(line)
            chunk.append(NewAddress(bytes.fromhex(key), *rest))
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _take(self, line: bytes) -> None:
        self._line += 1
        try:
            if len(line) > MAX_LINE:
                raise Refused(f"has more than {MAX_LINE} bytes")
            address = self._parse_line(line.decode("utf-8-sig" if self._line == 1 else "utf-8"))
        except UnicodeDecodeError:
            self._wrong(self._line, "is not UTF-8")
        except Refused as refusal:
            self._wrong(self._line, str(refusal))
        else:
            if address is not None:
                self.rows += 1
                row = (address.key.hex(), address.reference, address.from_block, address.role)
                self._checked += msgspec.json.encode(row) + b"\n"

    def _wrong(self, number: int, error: str) -> None:
        self.bad.append(BadLine(number, error))
        if len(self.bad) >= MAX_BAD:
            raise TooBad(self.bad)


async def register(
    connection: asyncpg.Connection, network: str, account: str, spool: Spool, *, silent: bool
) -> AsyncIterator[Registered]:
    """Watch what was read, in the caller's transaction; what came of it so far, after each part."""
    created = existing = covered_from = 0
    for chunk in spool.chunks(REGISTERED_AT_ONCE):
        done = await register_addresses(connection, network, account, chunk, silent=silent)
        created, existing = created + done.created, existing + done.existing
        covered_from = max(covered_from, done.covered_from)
        yield Registered(created, existing, covered_from)


class CsvLines:
    """`address[,reference[,fromBlock[,role]]]`; a first line that says so is skipped."""

    def __init__(self, parse_address: Callable[[str], bytes]) -> None:
        self._parse_address = parse_address
        self._first = True

    def __call__(self, line: str) -> NewAddress | None:
        first, self._first = self._first, False
        if not line.strip():
            return None
        try:
            [cells] = csv.reader([line.rstrip("\r")], strict=True)
        except (csv.Error, ValueError):
            raise Refused("is not CSV: a quote is not closed") from None
        cells = [cell.strip() for cell in cells]
        if first and cells[0].lower() == "address":
            return None
        if len(cells) > len(_COLUMNS):
            raise Refused(f"has {len(cells)} columns; there are {', '.join(_COLUMNS)}")
        given = {name: cell for name, cell in zip(_COLUMNS, cells, strict=False) if cell}
        if (height := given.get("fromBlock")) is not None:
            if not (height.isascii() and height.isdigit()):
                raise Refused(f"{height[:80]!r} is no block height")
            return _address({**given, "fromBlock": int(height[:40])}, self._parse_address)
        return _address(given, self._parse_address)


class JsonLines:
    """`"…"` or `{"address": "…", "reference"?, "fromBlock"?, "role"?}` a line."""

    def __init__(self, parse_address: Callable[[str], bytes]) -> None:
        self._parse_address = parse_address

    def __call__(self, line: str) -> NewAddress | None:
        if not line.strip():
            return None
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            raise Refused("is not JSON") from None
        if isinstance(value, str):
            value = {"address": value}
        if not isinstance(value, dict):
            raise Refused("is neither an address nor an object")
        if unknown := sorted(set(value) - set(_COLUMNS)):
            raise Refused(f"there is no such field: {unknown[0][:80]}")
        return _address(value, self._parse_address)


LINES: Final[Mapping[str, type[CsvLines | JsonLines]]] = {  # by media type
    "text/csv": CsvLines,
    "application/x-ndjson": JsonLines,
    "application/jsonl": JsonLines,
}


def _address(given: Mapping[str, Any], parse_address: Callable[[str], bytes]) -> NewAddress:
    text, reference = given.get("address"), given.get("reference")
    from_block, role = given.get("fromBlock"), given.get("role")
    if not isinstance(text, str) or not text:
        raise Refused("has no address")
    if reference is not None and (
        not isinstance(reference, str)
        or not 0 < len(reference) <= MAX_REFERENCE
        or not reference.isprintable()
    ):
        raise Refused(f"a reference is text of 1 to {MAX_REFERENCE} characters")
    if from_block is not None and (
        type(from_block) is not int or not 0 <= from_block <= MAX_HEIGHT
    ):
        raise Refused("fromBlock is a block height")
    if role is not None and role not in ROLES:
        raise Refused(f"a role is {' or '.join(ROLES)}")
    return NewAddress(parse_address(text), reference, from_block, role)
