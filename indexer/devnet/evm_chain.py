"""An EVM chain in memory: nonces, a base fee, withdrawals, and a finalized block."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from indexer.chains.evm_trie import keccak
from indexer.devnet.chain import unix_clock
from indexer.devnet.contract_chain import ContractChain
from indexer.devnet.evm_block import GAS_LIMIT, Block, Draft, Executed, Withdrawal, seal
from indexer.devnet.evm_machine import TRANSACTION_GAS, Machine
from indexer.devnet.evm_state import BALANCE, NONCE
from indexer.devnet.evm_wallet import DYNAMIC_FEE, LEGACY, Transaction, Wallet

CHAIN_ID: Final = 420_042  # of nobody's chain
CALL_GAS_LIMIT: Final = 400_000  # gas limit of a transaction that calls a contract
FIRST_BASE_FEE: Final = 10**9  # wei
MAX_PRICE: Final = 100 * 10**9  # wei
TIP: Final = 10**8  # wei
WEALTH: Final = 10**24  # wei that a wallet starts with
WITHDRAWALS: Final = 2  # a block


class SimulatedChain(ContractChain[Block, Transaction, Wallet]):
    """`finality`: how many blocks behind its head the finalized one is; None: it can't say."""

    def __init__(
        self,
        seed: int,
        chain_id: int = CHAIN_ID,
        clock: Callable[[], int] = unix_clock,
        *,
        finality: int | None = 8,
    ) -> None:
        super().__init__(seed, clock, "depositd devnet", Wallet, WEALTH)
        self.chain_id = chain_id
        self.finality = finality
        self.listeners: set[Callable[[Block], None]] = set()  # each is told of each new block
        self._positions: dict[bytes, tuple[Block, int]] = {}
        self._miner = self._secret("miner")[-20:]
        self._append([])

    def code(self, address: bytes) -> bytes:
        """Not the real program (contracts are Python here), but that there is one."""
        return b"\xfe" + address if address in self.contracts else b""

    def nonce(self, sender: bytes) -> int:
        """Of the sender's next transaction on the chain as it stands."""
        return self.state.get((NONCE, sender))

    # ---------------------------------------------------------------- transactions

    def send(
        self, wallet: Wallet, to: bytes, value: int = 0, data: bytes = b"", kind: int | None = None
    ) -> Transaction:
        """Sign with the wallet's next nonce, into the mempool; `kind` 0 or 2, else either."""
        pending = sum(tx.sender == wallet.address for tx in self._mempool)
        nonce = self.nonce(wallet.address) + pending
        kind = self._rng.choice((LEGACY, DYNAMIC_FEE)) if kind is None else kind
        tx = self._sign(wallet, kind, nonce, to, value, data)
        self._mempool.append(tx)
        return tx

    # ---------------------------------------------------------------- blocks

    @property
    def finalized(self) -> Block | None:
        if self.finality is None:
            return None
        return self._branch[max(0, self.head.number - self.finality)]

    def position(self, tx_hash: bytes) -> tuple[Block, int] | None:
        """Where on the chain as it stands a transaction was mined."""
        return self._positions.get(tx_hash)

    def mine(self, pick: Collection[bytes] | None = None) -> Block:
        base_fee = self.head.next_base_fee()
        executed: list[Executed] = []
        left: list[Transaction] = []
        randomness, room = self._rng.randbytes(32), GAS_LIMIT
        for tx in self._mempool:
            nonce = self.nonce(tx.sender)
            if tx.nonce == nonce and tx.gas <= room and (pick is None or tx.hash in pick):
                room -= tx.gas
                executed.append(self._execute(tx, base_fee, randomness))
            elif tx.nonce >= nonce:
                left.append(tx)
        self._mempool = left
        return self._append(executed, base_fee, randomness)

    def rewind(self, depth: int) -> list[Transaction]:
        again = super().rewind(depth)
        for tx in again:
            del self._positions[tx.hash]
        return again

    # ---------------------------------------------------------------- inside

    def _sign(
        self, wallet: Wallet, kind: int, nonce: int, to: bytes, value: int, data: bytes
    ) -> Transaction:
        gas = CALL_GAS_LIMIT if data or to in self.contracts else TRANSACTION_GAS
        return wallet.sign(
            kind, self.chain_id, nonce, to, value, data, gas=gas, max_price=MAX_PRICE, tip=TIP
        )

    def _instead(self, tx: Transaction) -> Transaction:
        """The sender spends the nonce otherwise."""
        wallet = self._wallets[tx.sender]
        return self._sign(wallet, DYNAMIC_FEE, tx.nonce, tx.sender, 0, b"")

    def _shuffle(self, transactions: list[Transaction]) -> list[Transaction]:
        """Each sender's own order is kept, and so those wait that follow one held back."""
        queues: dict[bytes, list[Transaction]] = {}
        for tx in transactions:
            queues.setdefault(tx.sender, []).append(tx)
        turns = [tx.sender for tx in transactions]
        self._rng.shuffle(turns)
        return [queues[sender].pop(0) for sender in turns]

    def _execute(self, tx: Transaction, base_fee: int, randomness: bytes) -> Executed:
        fail = tx.hash in self.failing
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
        for tell in self.listeners:
            tell(block)
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
