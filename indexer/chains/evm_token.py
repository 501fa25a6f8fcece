"""What a token contract says of itself, read with web3 over our own transport.

web3 makes no connection of its own: its requests go through `ask`, so that failover, headers and
the hygiene of secrets hold, and EIP-3668 lookups, by which a contract could send us to any URL, are
off. Importing it takes the better part of a second: import this module where a token is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from eth_typing import ABIFunction, ChecksumAddress
from web3 import AsyncWeb3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3Exception
from web3.providers.async_base import AsyncBaseProvider
from web3.types import RPCEndpoint, RPCError, RPCResponse

from indexer.chains import Token
from indexer.chains.jsonrpc import NodeError
from indexer.chains.token_metadata import describe
from indexer.model import Refused, Unavailable

Ask = Callable[[str, Any], Awaitable[Any]]

_NOT_ANSWERED: Final = (BadFunctionCallOutput, ContractLogicError)


async def read_token(ask: Ask, address: str) -> Token:
    """Name, symbol and decimals of the contract at an EIP-55 address; Refused if it has none.

    `ask` makes one JSON-RPC call and returns its result, or raises NodeError or Unavailable.
    """
    web3 = AsyncWeb3(_Provider(ask), middleware=[])
    at = AsyncWeb3.to_checksum_address(address)
    try:
        if not await web3.eth.get_code(at):
            raise Refused(f"{address} is no token: there is no contract")
        decimals = await _read(web3, at, "decimals", "uint256")
        symbol = await _read_text(web3, at, "symbol")
        name = await _read_text(web3, at, "name")
    except Web3Exception as error:
        raise Unavailable(f"the token {address} can't be read: {type(error).__name__}") from None
    return describe(address, name, symbol, decimals)


class _Provider(AsyncBaseProvider):
    """web3's way to the node: ours."""

    global_ccip_read_enabled = False

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        try:
            return {"jsonrpc": "2.0", "id": 0, "result": await self._ask(method, params)}
        except NodeError as error:
            fault = RPCError(code=error.code, message=error.said)
            return {"jsonrpc": "2.0", "id": 0, "error": fault}


async def _read(web3: AsyncWeb3[_Provider], at: ChecksumAddress, name: str, kind: str) -> Any:
    """A getter's value as one ABI type; None where the contract doesn't give that."""
    contract = web3.eth.contract(address=at, abi=[_getter(name, kind)])
    try:
        return await contract.functions[name]().call()
    except (*_NOT_ANSWERED, UnicodeDecodeError):
        return None


async def _read_text(web3: AsyncWeb3[_Provider], at: ChecksumAddress, name: str) -> str | None:
    """A getter's text: a string, or bytes32 as in tokens of 2017 (MKR)."""
    text: str | None = await _read(web3, at, name, "string")
    if text is None:
        word: bytes = await _read(web3, at, name, "bytes32") or b""
        text = word.rstrip(b"\0").decode(errors="ignore")
    return text


def _getter(name: str, kind: str) -> ABIFunction:
    return {
        "type": "function",
        "name": name,
        "inputs": [],
        "outputs": [{"name": "", "type": kind}],
        "stateMutability": "view",
    }
