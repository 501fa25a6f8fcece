"""An EVM chain in memory: wallets, a mempool, blocks on demand, and reorganisations.

Deterministic: the same seed, clock and calls give the same hashes. Synchronous: between two calls
nobody sees half a reorganisation. Anything wrongly asked of it is a ValueError.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random
from typing import Final

from indexer.chains import NATIVE
from indexer.chains.evm_trie import keccak
from indexer.devnet.evm_block import GAS_LIMIT, Block, Draft, Executed, Withdrawal, seal
from indexer.devnet.evm_contracts import Token
from indexer.devnet.evm_machine import TRANSACTION_GAS, Contract, Machine, Revert
from indexer.devnet.evm_state import BALANCE, NONCE, Key, State
from indexer.devnet.evm_wallet import DYNAMIC_FEE, LEGACY, Transaction, Wallet

CHAIN_ID: Final = 420_042  # of nobody's chain
CALL_GAS_LIMIT: Final = 400_000  # gas limit of a transaction that calls a contract
FIRST_BASE_FEE: Final = 10**9  # wei
MAX_PRICE: Final = 100 * 10**9  # wei
TIP: Final = 10**8  # wei
WEALTH: Final = 10**24  # wei that a wallet starts with
WITHDRAWALS: Final = 2  # a block


def unix_clock() -> int:
    return int(time.time())


class SimulatedChain:
    """A chain that mines when told to.

    `finality`: how many blocks behind its head the finalized one is; None: it can't say.
    """

    def __init__(
        self,
        seed: int,
        chain_id: int = CHAIN_ID,
        clock: Callable[[], int] = unix_clock,
        *,
        finality: int | None = 8,
    ) -> None:
        self.chain_id = chain_id
        self.finality = finality
        self.state = State()
        self.contracts: dict[bytes, Contract] = {}
        self._seed = seed
        self._rng = Random(seed)
        self._clock = clock
        self._wallets: dict[bytes, Wallet] = {}
        self._mempool: list[Transaction] = []
        self._blocks: dict[bytes, Block] = {}  # every block there ever was
        self._branch: list[Block] = []  # the chain as it stands, by number
        self._positions: dict[bytes, tuple[Block, int]] = {}
        self._miner = self._secret("miner")[-20:]
        self._append([])

    # ---------------------------------------------------------------- who and what exists

    def wallet(self, name: str) -> Wallet:
        """The key of that name, with wei to spend."""
        wallet = Wallet(self._secret(f"wallet {name}"))
        if wallet.address not in self._wallets:
            self._wallets[wallet.address] = wallet
            self.endow(NATIVE, wallet.address, WEALTH)
        return wallet

    def deploy(self, name: str, contract: Contract) -> bytes:
        """Put a contract there as if genesis had it; returns its address."""
        address = self._secret(f"contract {name}")[-20:]
        if address in self.contracts:
            raise ValueError(f"there is a contract {name!r} already")
        self.contracts[address] = contract
        return address

    def endow(self, asset: bytes, owner: bytes, units: int) -> None:
        """Give wei or token units as if genesis had given them."""
        self.state.endow(_balance_key(asset, owner), units)

    def balance(self, asset: bytes, owner: bytes, block: Block) -> int:
        """After a block of the chain as it stands."""
        return self.state.at(block.state_mark).get(_balance_key(asset, owner))

    def code(self, address: bytes) -> bytes:
        """Not the real program (contracts are Python here), but that there is one."""
        return b"\xfe" + address if address in self.contracts else b""

    # ---------------------------------------------------------------- transactions

    def send(
        self, wallet: Wallet, to: bytes, value: int = 0, data: bytes = b"", kind: int | None = None
    ) -> Transaction:
        """Sign with the wallet's next nonce, into the mempool; `kind` 0 or 2, else either."""
        pending = sum(tx.sender == wallet.address for tx in self._mempool)
        nonce = self.state.get((NONCE, wallet.address)) + pending
        kind = self._rng.choice((LEGACY, DYNAMIC_FEE)) if kind is None else kind
        tx = self._sign(wallet, kind, nonce, to, value, data)
        self._mempool.append(tx)
        return tx

    def call(self, to: bytes, data: bytes, block: Block, sender: bytes = bytes(20)) -> bytes:
        """`eth_call` on the state after a block of the chain as it stands; Revert if it does."""
        state = self.state.at(block.state_mark)
        frame = Machine(state, self.contracts, 0).run(sender, to, 0, data, fail=False)
        if frame.error is not None:
            raise Revert(frame.error)
        return frame.output

    # ---------------------------------------------------------------- blocks

    @property
    def head(self) -> Block:
        return self._branch[-1]

    @property
    def finalized(self) -> Block | None:
        if self.finality is None:
            return None
        return self._branch[max(0, self.head.number - self.finality)]

    def block_at(self, number: int) -> Block | None:
        return self._branch[number] if 0 <= number < len(self._branch) else None

    def block(self, block_hash: bytes) -> Block | None:
        """Any block there ever was: nodes keep side branches."""
        return self._blocks.get(block_hash)

    def is_canonical(self, block: Block) -> bool:
        return self.block_at(block.number) is block

    def position(self, tx_hash: bytes) -> tuple[Block, int] | None:
        """Where on the chain as it stands a transaction was mined."""
        return self._positions.get(tx_hash)

    def branch(self, first: int = 0, last: int | None = None) -> Sequence[Block]:
        """The blocks of the chain as it stands, from one number to another."""
        return self._branch[first : None if last is None else last + 1]

    def mine(self, pick: Collection[bytes] | None = None, fail: Collection[bytes] = ()) -> Block:
        """The next block, with every transaction whose turn it is, or only those in `pick`.

        Those in `fail` are mined and run out of gas. Both are hashes.
        """
        base_fee = self.head.next_base_fee()
        executed: list[Executed] = []
        left: list[Transaction] = []
        randomness, room = self._rng.randbytes(32), GAS_LIMIT
        for tx in self._mempool:
            nonce = self.state.get((NONCE, tx.sender))
            if tx.nonce == nonce and tx.gas <= room and (pick is None or tx.hash in pick):
                room -= tx.gas
                executed.append(self._execute(tx, base_fee, randomness, tx.hash in fail))
            elif tx.nonce >= nonce:
                left.append(tx)
        self._mempool = left
        return self._append(executed, base_fee, randomness)

    def rewind(self, depth: int) -> list[Transaction]:
        """Take the last `depth` blocks away; their transactions wait in the mempool again."""
        if not 0 < depth <= self.head.number:
            raise ValueError(f"can't take {depth} blocks from a chain of {self.head.number}")
        removed = self._branch[-depth:]
        del self._branch[-depth:]
        self.state.rollback(self.head.state_mark)
        transactions = [each.transaction for block in removed for each in block.executed]
        for tx in transactions:
            del self._positions[tx.hash]
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
        those, their senders spend the nonce otherwise, for good. `hold`: not these, they wait in
        the mempool, and so do later ones of the same senders. `fail`: mined, but failing. All are
        hashes.
        """
        again = self.rewind(depth)
        replaced = [self._cancel(tx) if tx.hash in cancel else tx for tx in again]
        waiting = self._mempool[len(again) :]
        shuffled = self._shuffle(tx for tx in replaced if tx.hash not in hold)
        held = [tx for tx in replaced if tx.hash in hold]
        self._mempool = shuffled + held + waiting
        cuts = sorted(self._rng.randint(0, len(shuffled)) for _ in range(depth - 1))
        bounds = [0, *cuts, len(shuffled)]
        for first, last in itertools.pairwise(bounds):
            self.mine(pick={tx.hash for tx in shuffled[first:last]}, fail=fail)
        for _ in range(longer):
            self.mine(pick=())
        return self._branch[-depth - longer :]

    # ---------------------------------------------------------------- inside

    def _secret(self, purpose: str) -> bytes:
        return keccak(f"depositd devnet {self._seed} {purpose}".encode())

    def _sign(
        self, wallet: Wallet, kind: int, nonce: int, to: bytes, value: int, data: bytes
    ) -> Transaction:
        gas = CALL_GAS_LIMIT if data or to in self.contracts else TRANSACTION_GAS
        return wallet.sign(
            kind, self.chain_id, nonce, to, value, data, gas=gas, max_price=MAX_PRICE, tip=TIP
        )

    def _cancel(self, tx: Transaction) -> Transaction:
        wallet = self._wallets[tx.sender]
        return self._sign(wallet, DYNAMIC_FEE, tx.nonce, tx.sender, 0, b"")

    def _shuffle(self, transactions: Iterator[Transaction]) -> list[Transaction]:
        """Another order, in which each sender's own is kept."""
        queues: dict[bytes, list[Transaction]] = {}
        for tx in transactions:
            queues.setdefault(tx.sender, []).append(tx)
        turns = [sender for sender, queue in queues.items() for _ in queue]
        self._rng.shuffle(turns)
        return [queues[sender].pop(0) for sender in turns]

    def _execute(self, tx: Transaction, base_fee: int, randomness: bytes, fail: bool) -> Executed:
        machine = Machine(self.state, self.contracts, int.from_bytes(randomness, "big"))
        self.state.add((NONCE, tx.sender), 1)
        frame = machine.run(tx.sender, tx.to, tx.value, tx.data, fail=fail)
        gas = tx.gas if fail else machine.gas
        self.state.add((BALANCE, tx.sender), -gas * tx.price(base_fee))
        self.state.add((BALANCE, self._miner), gas * (tx.price(base_fee) - base_fee))
        status = frame.error is None
        return Executed(tx, status, gas, machine.logs, frame, machine.movements)

    def _append(
        self,
        executed: Sequence[Executed],
        base_fee: int = FIRST_BASE_FEE,
        randomness: bytes = bytes(32),
    ) -> Block:
        parent = self._branch[-1] if self._branch else None
        number = 0 if parent is None else parent.number + 1
        withdrawals = [self._withdraw(number, each) for each in range(WITHDRAWALS)]
        now = self._clock()
        draft = Draft(
            number=number,
            parent=bytes(32) if parent is None else parent.hash,
            time=now if parent is None else max(now, parent.time + 1),
            miner=self._miner,
            randomness=randomness,
            beacon_root=self._rng.randbytes(32),
            base_fee=base_fee,
            state_root=self._state_root(parent),
            executed=executed,
            withdrawals=withdrawals,
        )
        block = seal(draft, self.state.mark())
        self._branch.append(block)
        self._blocks[block.hash] = block
        for index, each in enumerate(executed):
            self._positions[each.transaction.hash] = (block, index)
        return block

    def _withdraw(self, number: int, place: int) -> Withdrawal:
        validator = self._rng.randrange(64)
        address = self._secret(f"validator {validator}")[-20:]
        gwei = self._rng.randrange(10**7, 2 * 10**7)
        self.state.add((BALANCE, address), gwei * 10**9)
        return Withdrawal(number * WITHDRAWALS + place, validator, address, gwei)

    def _state_root(self, parent: Block | None) -> bytes:
        """Commits to every change of state, though not as a trie: no answer of the node is proved
        against it, and a real one would cost more than the rest of the block."""
        before = bytes(32) if parent is None else parent.state_root
        changes = self.state.changes(0 if parent is None else parent.state_mark)
        return keccak(before + repr(changes).encode())


def _balance_key(asset: bytes, owner: bytes) -> Key:
    return (BALANCE, owner) if asset == NATIVE else Token.balance(asset, owner)
