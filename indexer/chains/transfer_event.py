"""The `Transfer` event of ERC-20 and TRC-20 tokens, as a log has it.

Exactly three topics and one word of data is the standard's shape; four topics are an NFT; any other
shape is `odd`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

WORD: Final = 32  # bytes
ADDRESS: Final = 20
PADDING: Final = bytes(WORD - ADDRESS)
TRANSFER_TOPIC: Final = bytes.fromhex(
    "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
)


class TokenTransfer(NamedTuple):
    """One way to read a Transfer."""

    sender: bytes
    recipient: bytes
    units: int
    odd: bool


def read_transfer(
    topics: Sequence[bytes], data: bytes, paddings: Collection[bytes] = (PADDING,)
) -> Iterator[TokenTransfer]:
    """Each way to read a Transfer whose first topic was recognised.

    An event that indexes fewer parameters than the standard's has them in its data, in order
    (P10). With one indexed it may be either address, so both readings are held. `paddings`: what
    may stand before an address in its word.
    """
    indexed = topics[1:]
    words = [data[at : at + WORD] for at in range(0, len(data), WORD)]
    match len(indexed):
        case 2:
            clean = all(topic[:-ADDRESS] in paddings for topic in indexed)
            standard = len(words) == 1 and len(words[0]) == WORD and clean
            yield _reading(indexed[0], indexed[1], _number(words, 0), odd=not standard)
        case 1 if words and len(words[0]) == WORD:
            units = _number(words, 1)
            yield _reading(indexed[0], words[0], units)
            if indexed[0][-ADDRESS:] != words[0][-ADDRESS:]:
                yield _reading(words[0], indexed[0], units)
        case 0 if len(words) >= 2 and len(words[1]) == WORD:
            yield _reading(words[0], words[1], _number(words, 2))


def recipients(topics: Sequence[bytes], data: bytes) -> Iterator[bytes]:
    """Those of each way to read it: what is asked first, of every event."""
    if len(topics) == 3:
        yield topics[2][-ADDRESS:]
    else:
        yield from (reading.recipient for reading in read_transfer(topics, data))


def _reading(sender: bytes, recipient: bytes, units: int, *, odd: bool = True) -> TokenTransfer:
    return TokenTransfer(sender[-ADDRESS:], recipient[-ADDRESS:], units, odd)


def _number(words: Sequence[bytes], at: int) -> int:
    """The amount, as well as it can be read: 0 where its word is missing or short."""
    if at >= len(words) or len(words[at]) != WORD:
        return 0
    return int.from_bytes(words[at], "big")
