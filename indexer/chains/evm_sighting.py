"""Where an EVM node has a transaction, by its own word: its block is proved by who reads it."""

from __future__ import annotations

from indexer.chains import NATIVE, Sighting
from indexer.chains.evm_node import EvmNode
from indexer.chains.evm_wire import WirePlace, WireReceipt, octets, quantity, sized
from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.chains.sightings import from_any
from indexer.chains.transfer_event import TRANSFER_TOPIC


async def find(node: EvmNode, endpoints: Endpoints, tx: bytes, native: str) -> Sighting | None:
    """As the port says; `native`: the setting."""

    async def ask(endpoint: Endpoint) -> Sighting | None:
        place, receipt = await node.transaction(endpoint, f"0x{tx.hex()}")
        if place is None:
            return None
        if place.block_hash is None or place.block_number is None:
            return await _waiting(node, endpoint, place)
        executed = _status(place, receipt)
        return Sighting(
            source=endpoint.name,
            height=quantity(place.block_number),
            block=sized(place.block_hash, 32),
            executed=executed,
            trouble="it was reverted" if executed is False else None,
            assets=frozenset([NATIVE, *_tokens(receipt)]),
            unseen=_unseen(place, native),
        )

    return await from_any(endpoints, ask)


async def _waiting(node: EvmNode, endpoint: Endpoint, place: WirePlace) -> Sighting:
    nonce = quantity(place.nonce)
    replaced = await node.nonce(endpoint, place.sender) > nonce
    trouble = f"another transaction with its sender's nonce {nonce} was mined: it was replaced"
    return Sighting(endpoint.name, trouble=trouble if replaced else None)


def _status(place: WirePlace, receipt: WireReceipt | None) -> bool | None:
    """None where there is no status, or the receipt is of another block by now."""
    if receipt is None or receipt.status is None or receipt.block_hash != place.block_hash:
        return None
    return quantity(receipt.status) == 1


def _tokens(receipt: WireReceipt | None) -> set[bytes]:
    """The contracts whose logs say that something was transferred."""
    return {
        sized(log.address, 20)
        for log in ([] if receipt is None else receipt.logs)
        if log.topics and octets(log.topics[0]) == TRANSFER_TOPIC
    }


def _unseen(place: WirePlace, native: str) -> str | None:
    if native == "off":
        return 'the native coin, which is not followed under native = "off"'
    if native != "traces" and octets(place.input):
        return 'what contracts paid in the native coin, which is seen under native = "traces" only'
    return None
