"""A TRON chain in memory: wallets, TRC-10 tokens, blocks on demand, and forks at the head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from indexer.chains.tron_codec import PREFIX
from indexer.devnet.chain import unix_clock
from indexer.devnet.contract_chain import ContractChain, balance_key
from indexer.devnet.evm_machine import Machine, Movement
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


class SimulatedTron(ContractChain[Block, Transaction, Wallet]):
    """`finality`: how many blocks behind its head the solidified one is.

    `stalled` stops that one where it stands.
    """

    def __init__(
        self, seed: int, clock: Callable[[], int] = unix_clock, *, finality: int = 8
    ) -> None:
        super().__init__(seed, clock, "depositd devnet tron", Wallet, WEALTH)
        self.finality = finality
        self.stalled = False
        self.trc10: dict[bytes, tuple[str, int]] = {}  # by id: name, and decimals
        self._witnesses = [Wallet(self._secret(f"witness {n}")) for n in range(WITNESSES)]
        self._made = 0  # transactions, so that no two are the same
        self._solid = 0
        self._append([])

    def issue(self, name: str, decimals: int, owners: Collection[bytes]) -> bytes:
        """A TRC-10 token, which may have any name, in its owners' hands; returns its id."""
        number = str(FIRST_TRC10 + len(self.trc10)).encode()
        self.trc10[number] = name, decimals
        for owner in owners:
            self.endow(number, owner, TRC10_WEALTH)
        return number

    # ---------------------------------------------------------------- transactions

    def send(self, wallet: Wallet, to: bytes, value: int, data: bytes = b"") -> Transaction:
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

    # ---------------------------------------------------------------- blocks

    @property
    def finalized(self) -> Block:
        return self._branch[self._solid]

    def mine(self, pick: Collection[bytes] | None = None) -> Block:
        chosen = [tx for tx in self._mempool if pick is None or tx.hash in pick]
        self._mempool = [tx for tx in self._mempool if pick is not None and tx.hash not in pick]
        randomness = self._rng.getrandbits(256)
        return self._append([self._execute(tx, randomness) for tx in chosen])

    # ---------------------------------------------------------------- inside

    def _stays(self) -> int:
        return self._solid

    def _queue(self, wallet: Wallet, kind: str, values: Mapping[str, Value]) -> Transaction:
        named = self._branch[max(0, self.head.number - REFERENCE_DEPTH)]
        self._made += 1
        reference = Reference(named.number, named.hash, self.head.time * 1000 + self._made)
        tx = wallet.sign(kind, values, reference)
        self._mempool.append(tx)
        return tx

    def _execute(self, tx: Transaction, randomness: int) -> Executed:
        if tx.kind == TRIGGER:
            return self._run(tx, randomness, tx.hash in self.failing)
        movements = []
        if tx.kind != DELEGATE:
            asset, units = tx.octets("asset_name"), tx.number("amount")
            self.state.add(balance_key(asset, tx.sender), -units)
            self.state.add(balance_key(asset, tx.to), units)
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
