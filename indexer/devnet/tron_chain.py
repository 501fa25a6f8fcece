"""A TRON chain in memory: wallets, a mempool, blocks on demand, and forks at the head.

Deterministic: the same seed, clock and calls give the same ids. Synchronous: between two calls
nobody sees half a fork. Contracts are those of the simulated EVM, which TRON's machine is one of.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

from indexer.chains import NATIVE
from indexer.chains.evm_trie import keccak
from indexer.chains.tron_codec import PREFIX
from indexer.devnet.evm_chain import unix_clock
from indexer.devnet.evm_contracts import Token
from indexer.devnet.evm_machine import Contract, Machine, Movement, Revert
from indexer.devnet.evm_state import BALANCE, Key, State
from indexer.devnet.tron_block import SUCCESS, Block, Draft, Executed, seal
from indexer.devnet.tron_wallet import (
    DELEGATE,
    ENERGY,
    TRANSFER,
    TRANSFER_ASSET,
    TRIGGER,
    Reference,
    Transaction,
    Value,
    Wallet,
)

WITNESSES: Final = 27
REFERENCE_DEPTH: Final = 20  # blocks below the head that a transaction names
FIRST_TRC10: Final = 1_000_001
WEALTH: Final = 10**17  # sun that a wallet starts with
TRC10_WEALTH: Final = 10**18  # base units of each TRC-10 token


class SimulatedTron:
    """A chain that mines when told to.

    `finality`: how many blocks behind its head the solidified one is. `stalled` stops that one
    where it stands.
    """

    def __init__(
        self, seed: int, clock: Callable[[], int] = unix_clock, *, finality: int = 8
    ) -> None:
        self.finality = finality
        self.stalled = False
        self.state = State()
        self.contracts: dict[bytes, Contract] = {}
        self.trc10: dict[bytes, tuple[str, int]] = {}  # by id: name, and decimals
        self._seed = seed
        self._rng = Random(seed)
        self._clock = clock
        self._wallets: dict[str, Wallet] = {}
        self._witnesses = [Wallet(self._secret(f"witness {n}")) for n in range(WITNESSES)]
        self._mempool: list[Transaction] = []
        self._made = 0  # transactions, so that no two are the same
        self._blocks: dict[bytes, Block] = {}  # every block there ever was
        self._branch: list[Block] = []  # the chain as it stands, by number
        self._solid = 0
        self._append([])

    # ---------------------------------------------------------------- who and what exists

    def wallet(self, name: str) -> Wallet:
        """The key of that name, with TRX to spend."""
        if name not in self._wallets:
            wallet = self._wallets[name] = Wallet(self._secret(f"wallet {name}"))
            self.endow(NATIVE, wallet.address, WEALTH)
        return self._wallets[name]

    def deploy(self, name: str, contract: Contract) -> bytes:
        """Put a contract there as if genesis had it; returns its address."""
        address = self._secret(f"contract {name}")[-20:]
        if address in self.contracts:
            raise ValueError(f"there is a contract {name!r} already")
        self.contracts[address] = contract
        return address

    def issue(self, name: str, decimals: int, owners: Collection[bytes]) -> bytes:
        """A TRC-10 token, which may have any name, in its owners' hands; returns its id."""
        number = str(FIRST_TRC10 + len(self.trc10)).encode()
        self.trc10[number] = name, decimals
        for owner in owners:
            self.endow(number, owner, TRC10_WEALTH)
        return number

    def endow(self, asset: bytes, owner: bytes, units: int) -> None:
        """Give sun or token units as if genesis had given them."""
        self.state.endow(_balance_key(asset, owner), units)

    def balance(self, asset: bytes, owner: bytes) -> int:
        return self.state.get(_balance_key(asset, owner))

    # ---------------------------------------------------------------- transactions

    def send(self, wallet: Wallet, to: bytes, value: int, data: bytes = b"") -> Transaction:
        """A contract is called, anybody else is paid; into the mempool."""
        if to in self.contracts:
            values: dict[str, Value] = {"contract_address": PREFIX + to, "call_value": value}
            return self._queue(wallet, TRIGGER, values | {"data": data})
        return self._queue(wallet, TRANSFER, {"to_address": PREFIX + to, "amount": value})

    def send_trc10(self, wallet: Wallet, to: bytes, asset: bytes, units: int) -> Transaction:
        values: dict[str, Value] = {"asset_name": asset, "to_address": PREFIX + to}
        return self._queue(wallet, TRANSFER_ASSET, values | {"amount": units})

    def delegate(self, wallet: Wallet, to: bytes, sun: int) -> Transaction:
        """Energy for somebody: it names TRX, but moves none."""
        values: dict[str, Value] = {"resource": ENERGY, "balance": sun}
        return self._queue(wallet, DELEGATE, values | {"receiver_address": PREFIX + to})

    @property
    def waiting(self) -> Sequence[Transaction]:
        """The mempool."""
        return self._mempool

    def call(self, to: bytes, data: bytes, sender: bytes = bytes(20)) -> bytes:
        """A constant call on the state of the head; Revert if it does."""
        state = self.state.at(self.head.state_mark)
        frame = Machine(state, self.contracts, 0).run(sender, to, 0, data, fail=False)
        if frame.error is not None:
            raise Revert(frame.error)
        return frame.output

    # ---------------------------------------------------------------- blocks

    @property
    def head(self) -> Block:
        return self._branch[-1]

    @property
    def finalized(self) -> Block:
        return self._branch[self._solid]

    def block_at(self, number: int) -> Block | None:
        return self._branch[number] if 0 <= number < len(self._branch) else None

    def branch(self, first: int = 0, last: int | None = None) -> Sequence[Block]:
        """The blocks of the chain as it stands, from one number to another."""
        return self._branch[first : None if last is None else last + 1]

    def mine(self, pick: Collection[bytes] | None = None, fail: Collection[bytes] = ()) -> Block:
        """The next block, with every waiting transaction, or only those in `pick`.

        Calls in `fail` run out of energy. Both are ids.
        """
        chosen = [tx for tx in self._mempool if pick is None or tx.hash in pick]
        self._mempool = [tx for tx in self._mempool if pick is not None and tx.hash not in pick]
        randomness = self._rng.getrandbits(256)
        return self._append([self._execute(tx, randomness, tx.hash in fail) for tx in chosen])

    def rewind(self, depth: int) -> list[Transaction]:
        """Take the last `depth` blocks away; their transactions wait in the mempool again."""
        if not 0 < depth <= self.head.number - self._solid:
            raise ValueError(f"can't take {depth} blocks: {self._solid} is solidified")
        removed = self._branch[-depth:]
        del self._branch[-depth:]
        self.state.rollback(self.head.state_mark)
        transactions = [each.transaction for block in removed for each in block.executed]
        self._mempool = transactions + self._mempool
        return transactions

    def reorg(
        self,
        depth: int,
        *,
        longer: int = 0,
        cancel: Collection[bytes] = (),
        hold: Collection[bytes] = (),
        fail: Collection[bytes] = (),
    ) -> list[Block]:
        """Replace the last `depth` blocks by `depth + longer` others; returns those.

        Their transactions are mined again at random places among the first `depth`. `cancel`: not
        those, for good. `hold`: not these, they wait in the mempool. `fail`: mined, but failing.
        All are ids.
        """
        again = [tx for tx in self.rewind(depth) if tx.hash not in cancel]
        self._mempool = [tx for tx in self._mempool if tx.hash not in cancel]
        shuffled = [tx for tx in again if tx.hash not in hold]
        self._rng.shuffle(shuffled)
        cuts = sorted(self._rng.randint(0, len(shuffled)) for _ in range(depth - 1))
        for first, last in itertools.pairwise([0, *cuts, len(shuffled)]):
            self.mine(pick={tx.hash for tx in shuffled[first:last]}, fail=fail)
        for _ in range(longer):
            self.mine(pick=())
        return self._branch[-depth - longer :]

    # ---------------------------------------------------------------- inside

    def _secret(self, purpose: str) -> bytes:
        return keccak(f"depositd devnet tron {self._seed} {purpose}".encode())

    def _queue(self, wallet: Wallet, kind: str, values: Mapping[str, Value]) -> Transaction:
        named = self._branch[max(0, self.head.number - REFERENCE_DEPTH)]
        self._made += 1
        reference = Reference(named.number, named.hash, self.head.time * 1000 + self._made)
        tx = wallet.sign(kind, values, reference)
        self._mempool.append(tx)
        return tx

    def _execute(self, tx: Transaction, randomness: int, fail: bool) -> Executed:
        if tx.kind == TRIGGER:
            return self._run(tx, randomness, fail)
        movements = []
        if tx.kind != DELEGATE:
            asset, units = tx.octets("asset_name"), tx.number("amount")
            self.state.add(_balance_key(asset, tx.sender), -units)
            self.state.add(_balance_key(asset, tx.to), units)
            movements.append(Movement(asset, tx.sender, tx.to, units))
        return Executed(tx, SUCCESS, 0, [], None, movements)

    def _run(self, tx: Transaction, randomness: int, fail: bool) -> Executed:
        machine = Machine(self.state, self.contracts, randomness)
        data, value = tx.octets("data"), tx.number("call_value")
        frame = machine.run(tx.sender, tx.to, value, data, fail=fail)
        failure = "OUT_OF_ENERGY" if fail else "REVERT"
        result = SUCCESS if frame.error is None else failure
        return Executed(tx, result, machine.gas, machine.logs, frame, machine.movements)

    def _append(self, executed: Sequence[Executed]) -> Block:
        parent = self._branch[-1] if self._branch else None
        now = self._clock()
        block: Block | None = None
        while block is None or block.hash in self._blocks:  # siblings differ in their witness
            draft = Draft(
                number=0 if parent is None else parent.number + 1,
                parent=bytes(32) if parent is None else parent.hash,
                time=now if parent is None else max(now, parent.time + 1),
                witness=self._rng.choice(self._witnesses),
                executed=executed,
            )
            block = seal(draft, self.state.mark())
        self._branch.append(block)
        self._blocks[block.hash] = block
        if not self.stalled:
            self._solid = max(self._solid, block.number - self.finality)
        return block


def _balance_key(asset: bytes, owner: bytes) -> Key:
    return (BALANCE, owner) if asset == NATIVE else Token.balance(asset, owner)
