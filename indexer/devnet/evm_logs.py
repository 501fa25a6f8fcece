"""How `eth_getLogs` chooses logs. Source: ethereum/execution-apis, `src/schemas/filter.yaml`."""

from __future__ import annotations

from collections.abc import Iterator

from indexer.devnet.evm_block import Block
from indexer.devnet.evm_json import Json


def block_logs(block: Block) -> Iterator[Json]:
    for receipt in block.receipts:
        yield from receipt["logs"]


def matches(
    log: Json, addresses: str | list[str] | None, topics: list[str | list[str] | None] | None
) -> bool:
    """One of `addresses` (none given: any), and by position one of each place's topics."""
    if addresses and log["address"] not in _choices(addresses):
        return False
    wanted = topics or []
    if len(wanted) > len(log["topics"]):
        return False
    return all(
        not choice or topic in _choices(choice)
        for choice, topic in zip(wanted, log["topics"], strict=False)
    )


def _choices(value: str | list[str]) -> set[str]:
    return {each.lower() for each in ([value] if isinstance(value, str) else value)}
