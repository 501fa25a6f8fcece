"""One transaction of the simulated EVM at work: call frames, logs, and what truly moved.

Contracts are Python objects (`evm_contracts`) behind real call data, so that what a transaction
does follows from its signed bytes and from the block that it lands in, as on a real chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from indexer.chains import NATIVE
from indexer.chains.evm_proof import Log
from indexer.devnet.evm_state import BALANCE, State

CALL_GAS: Final = 9_000  # gas per nested call
LOG_GAS: Final = 1_756  # gas per log, that of a LOG3 with 32 bytes
TRANSACTION_GAS: Final = 21_000


class Revert(Exception):
    """A frame undoes itself and tells its caller."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A true change of two balances: what an indexer's answer is held against."""

    asset: bytes
    sender: bytes
    recipient: bytes
    units: int  # base units
    internal: bool = False  # native coin moved by a contract: only traces show it
    odd: bool = False  # its log is shaped unlike the standard


@dataclass(slots=True)
class Frame:
    """A call as the call tracer shows it."""

    type: str
    sender: bytes
    to: bytes
    value: int  # wei
    data: bytes
    output: bytes = b""
    error: str | None = None
    calls: list[Frame] = field(default_factory=list)


class Contract(Protocol):
    def run(self, call: Call) -> bytes:
        """Act on a call and return the ABI-encoded result; Revert undoes everything."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """What a contract sees of the call that reached it. `self_address` is whose storage it is."""

    machine: Machine
    self_address: bytes
    sender: bytes
    value: int
    data: bytes


class Machine:
    """Runs one transaction, or one `eth_call`, against a state."""

    def __init__(self, state: State, contracts: Mapping[bytes, Contract], randomness: int) -> None:
        self.state = state
        self.randomness = randomness  # the block's: another block, another number
        self.logs: list[Log] = []
        self.movements: list[Movement] = []
        self.gas = TRANSACTION_GAS
        self._contracts = contracts
        self._open: list[Frame] = []

    def run(self, sender: bytes, to: bytes, value: int, data: bytes, *, fail: bool) -> Frame:
        """The whole transaction; `fail` makes it run out of gas after its last step."""
        frame = Frame("CALL", sender, to, value, data)
        mark = self.state.mark()
        try:
            self._enter(frame)
            if fail:
                raise Revert("out of gas")
        except Revert as revert:
            self._undo(mark, 0, 0)
            frame.error = str(revert)
        return frame

    def call(self, caller: Call, to: bytes, value: int, data: bytes) -> bytes:
        """A contract calls another account with some of its own wei; raises its Revert."""
        return self._nested(Frame("CALL", caller.self_address, to, value, data))

    def delegate(self, caller: Call, code: bytes) -> bytes:
        """Run another contract's code as the caller. The frame shows the caller's value, as geth's
        tracer does, though nothing moves (P25)."""
        frame = Frame("DELEGATECALL", caller.self_address, code, caller.value, caller.data)
        return self._nested(frame, caller)

    def emit(self, address: bytes, topics: tuple[bytes, ...], data: bytes) -> None:
        self.logs.append(Log(address, topics, data))
        self.gas += LOG_GAS

    def _nested(self, frame: Frame, delegator: Call | None = None) -> bytes:
        parent = self._open[-1]
        parent.calls.append(frame)
        self.gas += CALL_GAS
        mark, logs, movements = self.state.mark(), len(self.logs), len(self.movements)
        try:
            self._enter(frame, delegator)
        except Revert as revert:
            self._undo(mark, logs, movements)
            frame.error = str(revert)
            raise
        return frame.output

    def _enter(self, frame: Frame, delegator: Call | None = None) -> None:
        self._open.append(frame)
        try:
            if delegator is None:
                self._pay(frame)
                call = Call(self, frame.to, frame.sender, frame.value, frame.data)
            else:
                call = Call(
                    self, delegator.self_address, delegator.sender, delegator.value, delegator.data
                )
            contract = self._contracts.get(frame.to)
            if contract is not None:
                frame.output = contract.run(call)
        finally:
            self._open.pop()

    def _pay(self, frame: Frame) -> None:
        value = frame.value
        if value == 0:
            return
        if self.state.get((BALANCE, frame.sender)) < value:
            raise Revert("insufficient balance for transfer")
        self.state.add((BALANCE, frame.sender), -value)
        self.state.add((BALANCE, frame.to), value)
        internal = len(self._open) > 1
        self.movements.append(Movement(NATIVE, frame.sender, frame.to, value, internal=internal))

    def _undo(self, mark: int, logs: int, movements: int) -> None:
        self.state.rollback(mark)
        del self.logs[logs:], self.movements[movements:]
