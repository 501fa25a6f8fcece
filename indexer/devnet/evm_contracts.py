"""The contracts of the simulated EVM chain: the ways in which real ones pay, and cheat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from indexer.chains.evm_trie import keccak
from indexer.devnet.evm_machine import Call, Movement, Revert
from indexer.devnet.evm_state import Key

TRANSFER: Final = keccak(b"Transfer(address,address,uint256)")
NO_ADDRESS: Final = bytes(20)


def call_data(signature: str, *arguments: Any) -> bytes:
    """The bytes that call `signature` (`name(type,type)`); addresses are their 20 bytes."""
    return keccak(signature.encode())[:4] + encode(_types(signature), arguments)


def _types(signature: str) -> list[str]:
    inner = signature[signature.index("(") + 1 : -1]
    return inner.split(",") if inner else []


def _word(address: bytes) -> bytes:
    return address.rjust(32, b"\0")


def _key(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


class AbiContract:
    """A contract that finds its function by selector and speaks the ABI."""

    def __init__(self) -> None:
        self._functions: dict[bytes, tuple[list[str], list[str], Callable[..., Any]]] = {}

    def expose(self, signature: str, returns: Sequence[str], body: Callable[..., Any]) -> None:
        """`body(call, *arguments)` returns one value, or None where `returns` is empty."""
        selector = keccak(signature.encode())[:4]
        self._functions[selector] = _types(signature), list(returns), body

    def run(self, call: Call) -> bytes:
        function = self._functions.get(call.data[:4])
        if function is None:
            raise Revert("execution reverted")
        takes, returns, body = function
        try:
            arguments = decode(takes, call.data[4:])
        except DecodingError as error:
            raise Revert("execution reverted") from error
        result = body(call, *arguments)
        return encode(returns, [result]) if returns else b""


class Token(AbiContract):
    """An ERC-20 token. `lenient`: without the funds it returns false and says nothing more (P3)."""

    def __init__(self, name: str, symbol: str, decimals: int, *, lenient: bool = False) -> None:
        super().__init__()
        self.symbol, self.decimals, self._lenient = symbol, decimals, lenient
        self.expose("name()", ["string"], lambda _: name)
        self.expose("symbol()", ["string"], lambda _: symbol)
        self.expose("decimals()", ["uint8"], lambda _: decimals)
        self.expose("balanceOf(address)", ["uint256"], self._balance_of)
        self.expose("transfer(address,uint256)", ["bool"], self._transfer)
        self.expose("transferFrom(address,address,uint256)", ["bool"], self._transfer_from)
        self.expose("approve(address,uint256)", ["bool"], self._approve)
        self.expose("oddTransfer(address,uint256)", ["bool"], self._odd_transfer)

    @staticmethod
    def balance(token: bytes, owner: bytes) -> Key:
        return (b"token", token, owner)

    def _balance_of(self, call: Call, owner: str) -> int:
        return call.machine.state.get(self.balance(call.self_address, _key(owner)))

    def _transfer(self, call: Call, to: str, units: int) -> bool:
        return self._move(call, call.sender, _key(to), units)

    def _transfer_from(self, call: Call, owner: str, to: str, units: int) -> bool:
        allowed = (b"allowance", call.self_address, _key(owner), call.sender)
        if call.machine.state.get(allowed) < units:
            return self._refuse()
        call.machine.state.add(allowed, -units)
        return self._move(call, _key(owner), _key(to), units)

    def _approve(self, call: Call, spender: str, units: int) -> bool:
        allowed = (b"allowance", call.self_address, call.sender, _key(spender))
        call.machine.state.add(allowed, units - call.machine.state.get(allowed))
        return True

    def _odd_transfer(self, call: Call, to: str, units: int) -> bool:
        """Moves the units, but with a log that carries a word too many (P11)."""
        return self._move(call, call.sender, _key(to), units, extra=bytes(32))

    def _move(self, call: Call, owner: bytes, to: bytes, units: int, *, extra: bytes = b"") -> bool:
        state, token = call.machine.state, call.self_address
        if state.get(self.balance(token, owner)) < units:
            return self._refuse()
        state.add(self.balance(token, owner), -units)
        state.add(self.balance(token, to), units)
        data = units.to_bytes(32, "big") + extra
        call.machine.emit(token, (TRANSFER, _word(owner), _word(to)), data)
        call.machine.movements.append(Movement(token, owner, to, units, odd=bool(extra)))
        return True

    def _refuse(self) -> bool:
        if self._lenient:
            return False
        raise Revert("execution reverted")


class Collectible(AbiContract):
    """An NFT: its Transfer has the ERC-20 topic, and the token's number as a fourth one (P9)."""

    def __init__(self) -> None:
        super().__init__()
        self.expose("mint(address,uint256)", [], self._mint)

    def _mint(self, call: Call, to: str, number: int) -> None:
        topics = (TRANSFER, _word(NO_ADDRESS), _word(_key(to)), number.to_bytes(32, "big"))
        call.machine.emit(call.self_address, topics, b"")


class Disperser(AbiContract):
    """Pays many from its own funds, as an exchange's hot wallet does; `tx.to` names no payee (P5).

    `disperse` is all or nothing (P26). `trickle` goes on past a payee that reverts (P38).
    """

    def __init__(self) -> None:
        super().__init__()
        payees = "address[],uint256[]"
        self.expose(f"disperse({payees})", [], self._disperse)
        self.expose(f"trickle({payees})", [], self._trickle)
        self.expose(f"disperseToken(address,{payees})", [], self._disperse_token)
        self.expose("raffle(address,uint256)", [], self._raffle)

    def _disperse(self, call: Call, payees: Sequence[str], amounts: Sequence[int]) -> None:
        for payee, wei in zip(payees, amounts, strict=True):
            call.machine.call(call, _key(payee), wei, b"")

    def _trickle(self, call: Call, payees: Sequence[str], amounts: Sequence[int]) -> None:
        for payee, wei in zip(payees, amounts, strict=True):
            try:
                call.machine.call(call, _key(payee), wei, b"")
            except Revert:
                continue

    def _disperse_token(
        self, call: Call, token: str, payees: Sequence[str], amounts: Sequence[int]
    ) -> None:
        for payee, units in zip(payees, amounts, strict=True):
            data = call_data("transfer(address,uint256)", _key(payee), units)
            call.machine.call(call, _key(token), 0, data)

    def _raffle(self, call: Call, payee: str, most: int) -> None:
        """Pays 1 to `most` wei by the block's randomness: mined again elsewhere, another amount."""
        call.machine.call(call, _key(payee), 1 + call.machine.randomness % most, b"")


class Proxy:
    """Runs another contract's code by DELEGATECALL, as smart wallets do."""

    def __init__(self, code: bytes) -> None:
        self._code = code

    def run(self, call: Call) -> bytes:
        return call.machine.delegate(call, self._code)


class Rejecter:
    """Reverts whatever reaches it."""

    def run(self, call: Call) -> bytes:
        raise Revert("execution reverted")
