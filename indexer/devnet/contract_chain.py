"""What the simulated chains with contracts share (EVM, TRON): keys, a state, calls.

Contracts are Python objects at addresses (`evm_contracts`): TRON's machine is an EVM.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from indexer.chains import NATIVE
from indexer.chains.evm_trie import keccak
from indexer.devnet.chain import Block, MemoryChain, T
from indexer.devnet.evm_contracts import Token
from indexer.devnet.evm_machine import Contract, Machine, Movement, Revert
from indexer.devnet.evm_state import BALANCE, Key, State


class Executed(Protocol):
    """A transaction and what it moved in one block."""

    @property
    def transaction(self) -> Any: ...
    @property
    def movements(self) -> Sequence[Movement]: ...


class ExecutedBlock(Block, Protocol):
    @property
    def executed(self) -> Sequence[Executed]: ...
    @property
    def state_mark(self) -> int:
        """The state's journal right after it."""
        ...


class Wallet(Protocol):
    @property
    def address(self) -> bytes: ...


E = TypeVar("E", bound=ExecutedBlock)
W = TypeVar("W", bound=Wallet)


class ContractChain(MemoryChain[E, T], Generic[E, T, W]):
    """A chain whose transactions pay or call. Those in `failing` (hashes) are mined and fail."""

    def __init__(
        self,
        seed: int,
        clock: Callable[[], int],
        salt: str,
        open_wallet: Callable[[bytes], W],
        wealth: int,
    ) -> None:
        """`salt`: the same seed and name are another key in another family.

        `wealth`: base units of native coin that a wallet starts with.
        """
        super().__init__(seed, clock)
        self.state = State()
        self.contracts: dict[bytes, Contract] = {}
        self.failing: set[bytes] = set()
        self._salt = salt
        self._open_wallet = open_wallet
        self._wealth = wealth
        self._wallets: dict[bytes, W] = {}

    # ---------------------------------------------------------------- who and what exists

    def wallet(self, name: str) -> W:
        """The key of that name, with native coin to spend."""
        wallet = self._open_wallet(self._secret(f"wallet {name}"))
        if wallet.address not in self._wallets:
            self._wallets[wallet.address] = wallet
            self.endow(NATIVE, wallet.address, self._wealth)
        return wallet

    def deploy(self, name: str, contract: Contract) -> bytes:
        """Put a contract there as if genesis had it; returns its address."""
        address = self._secret(f"contract {name}")[-20:]
        if address in self.contracts:
            raise ValueError(f"there is a contract {name!r} already")
        self.contracts[address] = contract
        return address

    def endow(self, asset: bytes, owner: bytes, units: int) -> None:
        """Give base units as if genesis had given them."""
        self.state.endow(balance_key(asset, owner), units)

    def balance(self, asset: bytes, owner: bytes, block: E | None = None) -> int:
        """After a block of the chain as it stands, its head unless said."""
        return self._state_after(block).get(balance_key(asset, owner))

    # ---------------------------------------------------------------- transactions

    @abstractmethod
    def send(self, wallet: W, to: bytes, value: int, data: bytes = b"") -> T:
        """A contract is called, anybody else is paid; into the mempool."""

    def call(
        self, to: bytes, data: bytes, block: E | None = None, sender: bytes = bytes(20)
    ) -> bytes:
        """A call that changes nothing, on the state after a block; Revert if it does."""
        machine = Machine(self._state_after(block), self.contracts, 0)
        frame = machine.run(sender, to, 0, data, fail=False)
        if frame.error is not None:
            raise Revert(frame.error)
        return frame.output

    # ---------------------------------------------------------------- blocks

    def transactions(self, block: E) -> Sequence[T]:
        return [each.transaction for each in block.executed]

    def rewind(self, depth: int) -> list[T]:
        again = super().rewind(depth)
        self.state.rollback(self.head.state_mark)
        return again

    # ---------------------------------------------------------------- inside

    def _state_after(self, block: E | None) -> State:
        """A copy: whoever has it may change it."""
        return self.state.at((self.head if block is None else block).state_mark)

    def _secret(self, purpose: str) -> bytes:
        return keccak(f"{self._salt} {self._seed} {purpose}".encode())


def balance_key(asset: bytes, owner: bytes) -> Key:
    return (BALANCE, owner) if asset == NATIVE else Token.balance(asset, owner)
