"""What a TRON token says of itself: a TRC-20 contract by its getters, a TRC-10 id by the node.

Results are decoded with tronpy, imported where a token is asked for; requests go through our own
transport, so that failover, headers and the hygiene of secrets hold.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from indexer.chains import Token
from indexer.chains.token_metadata import describe
from indexer.chains.transfer_event import ADDRESS
from indexer.chains.tron_codec import PREFIX
from indexer.model import Refused

NOBODY: Final = (PREFIX + bytes(ADDRESS)).hex()  # in whose name getters are called

Ask = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


async def read_token(ask: Ask, asset: bytes, shown: str) -> Token:
    """Name, symbol and decimals of a contract or an id; Refused if there is no such token.

    `ask` makes one HTTP API call and returns its JSON, or raises Unavailable.
    """
    if len(asset) != ADDRESS:
        return await _read_trc10(ask, asset.decode(), shown)
    contract = (PREFIX + asset).hex()
    if not await ask("wallet/getcontract", {"value": contract}):
        raise Refused(f"{shown} is no token: there is no contract")
    decimals = _decoded(await _call(ask, contract, "decimals()"), "uint256")
    symbol = _text(await _call(ask, contract, "symbol()"))
    name = _text(await _call(ask, contract, "name()"))
    return describe(shown, name, symbol, decimals)


async def _read_trc10(ask: Ask, number: str, shown: str) -> Token:
    found = await ask("wallet/getassetissuebyid", {"value": number})
    if not isinstance(found, dict) or found.get("id") != number:
        raise Refused(f"{shown} is no token: there is no TRC-10 token of that id")
    name, symbol = _plain(found.get("name")), _plain(found.get("abbr"))
    return describe(shown, name, symbol or name, found.get("precision", 0))


async def _call(ask: Ask, contract: str, selector: str) -> bytes:
    """A getter's raw result; empty where the contract doesn't give one."""
    question = {
        "owner_address": NOBODY,
        "contract_address": contract,
        "function_selector": selector,
        "parameter": "",
    }
    answer = await ask("wallet/triggerconstantcontract", question)
    match answer:
        case {"result": {"result": True, **more}, "constant_result": [str(result), *_]}:
            return b"" if "message" in more else _octets(result)  # a message says why it reverted
        case _:
            return b""


def _decoded(result: bytes, kind: str) -> Any:
    """A value of an ABI type; None where the result isn't one."""
    from eth_abi.exceptions import DecodingError
    from tronpy.abi import trx_abi

    try:
        return trx_abi.decode([kind], result)[0]
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None


def _text(result: bytes) -> str | None:
    """A string, or bytes32 as in some old tokens."""
    text: str | None = _decoded(result, "string")
    if text is None:
        word: bytes = _decoded(result, "bytes32") or b""
        text = word.rstrip(b"\0").decode(errors="ignore")
    return text


def _plain(text: object) -> str | None:
    """A TRC-10's text, which the node gives in hex."""
    return _octets(text).decode(errors="ignore") if isinstance(text, str) else None


def _octets(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
