"""Mainnet-size EVM blocks, made from a seed, that prove like real ones.

Counts and sizes are those of a busy mainnet block of 2025: 250 transactions, 700 logs, 390 of them
ERC-20 `Transfer`s, about 1 MB of JSON with its receipts. Every transaction is really signed, every
root, bloom and hash is real, and each block names the one below it as its parent.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from indexer.chains.evm_proof import Log
from indexer.devnet.evm_block import Block, Draft, Executed, seal
from indexer.devnet.evm_contracts import TRANSFER
from indexer.devnet.evm_machine import Frame
from indexer.devnet.evm_wallet import DYNAMIC_FEE, LEGACY, Transaction, Wallet

CHAIN_ID: Final = 424_242  # of no known chain
GENESIS_TIME: Final = 1_700_000_000  # Unix seconds
BLOCK_SECONDS: Final = 12
BASE_FEE: Final = 8 * 10**9  # wei
MAX_PRICE: Final = 30 * 10**9  # wei per gas
TIP: Final = 10**9  # wei per gas

SENDERS: Final = 64  # wallets that sign
POPULAR: Final = 200  # addresses that are in every block: routers, pools, exchanges
LISTED: Final = 8  # tokens that are registered coins
UNLISTED: Final = 100  # contracts with events of the same shape
LISTED_SHARE: Final = 0.7  # of Transfers
WORD: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """What is in every block."""

    payments: int = 80  # plain native payments
    failed: int = 5
    calls: int = 165  # transactions with logs
    transfers: int = 390  # ERC-20
    collectibles: int = 15  # Transfers with four topics
    others: int = 295  # logs of other events

    @property
    def transactions(self) -> int:
        return self.payments + self.failed + self.calls

    @property
    def logs(self) -> int:
        return self.transfers + self.collectibles + self.others


MAINNET: Final = Shape()


def watched_addresses(count: int) -> list[bytes]:
    return [hashlib.sha256(b"watched %d" % n).digest()[:20] for n in range(count)]


def listed_tokens() -> list[bytes]:
    return [hashlib.sha256(b"listed %d" % n).digest()[:20] for n in range(LISTED)]


def make_chain(
    count: int, *, watched: int, matching: float, seed: int, shape: Shape = MAINNET
) -> Iterator[Block]:
    """An empty block 0 and `count` blocks above it.

    `matching`: the share of transfers that pay one of the first `watched` watched addresses.
    """
    maker = _Maker(random.Random(seed), shape, watched_addresses(watched), matching)
    parent = bytes(32)
    for height in range(count + 1):
        block = maker.block(height, parent)
        parent = block.hash
        yield block


def native_deposits(block: Block, watched: Collection[bytes]) -> int:
    """How many of a block's transactions pay a watched address."""
    return sum(
        each.status and each.transaction.value > 0 and each.transaction.to in watched
        for each in block.executed
    )


def token_deposits(block: Block, watched: Collection[bytes]) -> int:
    """How many of a block's ERC-20 Transfers of listed tokens pay a watched address."""
    tokens = frozenset(listed_tokens())
    return sum(
        log.address in tokens and len(log.topics) == 3 and log.topics[2][-20:] in watched
        for each in block.executed
        for log in each.logs
        if log.topics[0] == TRANSFER
    )


@dataclass(slots=True)
class _Maker:
    random: random.Random
    shape: Shape
    watched: list[bytes]
    matching: float
    listed: list[bytes] = field(default_factory=listed_tokens)
    wallets: list[Wallet] = field(init=False)
    popular: list[bytes] = field(init=False)
    unlisted: list[bytes] = field(init=False)
    nonces: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        octets = self.random.randbytes
        self.wallets = [Wallet(octets(WORD)) for _ in range(SENDERS)]
        self.popular = [octets(20) for _ in range(POPULAR)]
        self.unlisted = [octets(20) for _ in range(UNLISTED)]

    def block(self, height: int, parent: bytes) -> Block:
        octets = self.random.randbytes
        draft = Draft(
            number=height,
            parent=parent,
            time=GENESIS_TIME + BLOCK_SECONDS * height,
            miner=self.popular[0],
            randomness=octets(32),
            beacon_root=octets(32),
            base_fee=BASE_FEE,
            state_root=octets(32),
            executed=self._executed() if height else [],
            withdrawals=[],
        )
        return seal(draft, state_mark=0)

    def _executed(self) -> list[Executed]:
        shape = self.shape
        executed = [self._payment() for _ in range(shape.payments)]
        executed += [self._call([], status=False) for _ in range(shape.failed)]
        executed += [self._call(logs) for logs in self._spread(self._logs())]
        self.random.shuffle(executed)
        return executed

    def _spread(self, logs: list[Log]) -> list[list[Log]]:
        """The logs over the calls: at least one each, and some with many."""
        calls = self.shape.calls
        weights = [self.random.expovariate(1) for _ in range(calls)]
        owners = [*range(calls), *self.random.choices(range(calls), weights, k=len(logs) - calls)]
        by_call: list[list[Log]] = [[] for _ in range(calls)]
        for owner, log in zip(owners, logs, strict=True):
            by_call[owner].append(log)
        return by_call

    # ---------------------------------------------------------------- transactions

    def _payment(self) -> Executed:
        payee = self._watched() if self._matches() else self._stranger()
        return self._run(payee, self.random.randrange(1, 10**19), b"", [], gas=21_000)

    def _call(self, logs: list[Log], *, status: bool = True) -> Executed:
        """Of a contract: a selector and some words, now and then with value."""
        data = self.random.randbytes(4 + WORD * self.random.randrange(2, 24))
        value = 0 if self.random.random() < 0.9 else self.random.randrange(1, 10**18)
        to = self.random.choice(self.popular)
        return self._run(to, value, data, logs, gas=60_000 + 30_000 * len(logs), status=status)

    def _run(
        self, to: bytes, value: int, data: bytes, logs: list[Log], *, gas: int, status: bool = True
    ) -> Executed:
        kind = LEGACY if self.random.random() < 0.15 else DYNAMIC_FEE
        wallet = self.random.choice(self.wallets)
        transaction: Transaction = wallet.sign(
            kind,
            CHAIN_ID,
            next(self.nonces),
            to,
            value,
            data,
            gas=gas * 3 // 2,
            max_price=MAX_PRICE,
            tip=TIP,
        )
        frame = Frame("CALL", transaction.sender, to, value, data)
        return Executed(transaction, status, gas, logs, frame, [])

    # ---------------------------------------------------------------- logs

    def _logs(self) -> list[Log]:
        shape = self.shape
        logs = [self._transfer() for _ in range(shape.transfers)]
        logs += [self._collectible() for _ in range(shape.collectibles)]
        logs += [self._other() for _ in range(shape.others)]
        self.random.shuffle(logs)
        return logs

    def _transfer(self) -> Log:
        matches = self._matches()
        payee = self._watched() if matches else self._stranger()
        listed = matches or self.random.random() < LISTED_SHARE
        # As on a real chain a few tokens have most of the traffic.
        at = min(int(self.random.expovariate(0.5)), LISTED - 1)
        token = self.listed[at] if listed else self.random.choice(self.unlisted)
        units = self.random.randrange(1, 10**12)
        return Log(token, (TRANSFER, _word(self._stranger()), _word(payee)), _number(units))

    def _collectible(self) -> Log:
        topics = (
            TRANSFER,
            _word(self._stranger()),
            _word(self._stranger()),
            self.random.randbytes(WORD),
        )
        return Log(self.random.choice(self.unlisted), topics, b"")

    def _other(self) -> Log:
        event = self.popular[self.random.randrange(20)]  # twenty kinds of event
        indexed = [
            _word(self._stranger()) for _ in range(self.random.choice((0, 0, 1, 1, 2, 2, 2)))
        ]
        data = self.random.randbytes(WORD * self.random.randrange(1, 5))
        return Log(self.random.choice(self.unlisted), (_word(event), *indexed), data)

    # ---------------------------------------------------------------- addresses

    def _matches(self) -> bool:
        return self.random.random() < self.matching

    def _watched(self) -> bytes:
        return self.random.choice(self.watched)

    def _stranger(self) -> bytes:
        if self.random.random() < 0.5:
            return self.random.choice(self.popular)
        return self.random.randbytes(20)


def _word(address: bytes) -> bytes:
    return address.rjust(WORD, b"\0")


def _number(units: int) -> bytes:
    return units.to_bytes(WORD, "big")
