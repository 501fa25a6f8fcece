"""Whether balances of tokens changed by what their Transfer events say (P7, P13).

An event is a contract's statement, not a fact: it may have nothing behind it, or not tell of a fee.
What `balanceOf` says is the same contract's word, but that which its payments go by.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from indexer.chains import Block, Holding
from indexer.chains.answers import Missing
from indexer.chains.evm_decode import Content
from indexer.chains.evm_node import EvmNode
from indexer.chains.evm_wire import octets
from indexer.chains.failover import Endpoints
from indexer.chains.rpc import Endpoint
from indexer.chains.transfer_event import TRANSFER_TOPIC, read_transfer

Account: TypeAlias = tuple[bytes, bytes]  # token and holder


async def balances_agree(
    node: EvmNode, endpoints: Endpoints, holdings: Sequence[Holding]
) -> list[bool | None]:
    """As the port says. What one endpoint can't say, another is asked."""
    told = _told(holdings)
    verdicts: list[bool | None] = [None] * len(holdings)

    async def ask(endpoint: Endpoint) -> bool | None:
        left = [at for at, verdict in enumerate(verdicts) if verdict is None]
        grown = await _growth(node, endpoint, [holdings[at] for at in left])
        for at, units in zip(left, grown, strict=True):
            if units is not None:
                verdicts[at] = units == told[at]
        return None if None in verdicts else True

    await endpoints.at_each(ask)
    return verdicts


def movements(content: Content, accounts: Iterable[Account]) -> Counter[Account]:
    """By how many base units a block's events say that balances changed; less is negative.

    Events of an odd shape say nothing for certain, and count for nothing.
    """
    wanted = set(accounts)
    tokens = {token for token, _ in wanted}
    changes: Counter[Account] = Counter()
    for execution in content.executions:
        for log in () if execution.status is False else execution.logs:
            if log.address not in tokens or not log.topics or log.topics[0] != TRANSFER_TOPIC:
                continue
            for sender, recipient, units, odd in read_transfer(log.topics, log.data):
                for holder, change in ((recipient, units), (sender, -units)):
                    if not odd and (log.address, holder) in wanted:
                        changes[log.address, holder] += change
    return changes


def _told(holdings: Sequence[Holding]) -> list[int]:
    """By how much each changed, as the events of its block say."""
    blocks: dict[bytes, Block] = {}
    accounts: defaultdict[bytes, list[Account]] = defaultdict(list)
    for block, token, holder in holdings:
        blocks[block.header.hash] = block
        accounts[block.header.hash].append((token, holder))
    changes = {name: movements(block.payload, accounts[name]) for name, block in blocks.items()}
    return [changes[block.header.hash][token, holder] for block, token, holder in holdings]


async def _growth(
    node: EvmNode, endpoint: Endpoint, holdings: Sequence[Holding]
) -> list[int | None]:
    """By how much each changed, as one endpoint says; None where it can't.

    Missing where that is because the block is not, or no longer, on the endpoint's chain.
    """
    questions = [
        (_hex(token), _hex(holder), _hex(state))
        for block, token, holder in holdings
        for state in (block.header.parent, block.header.hash)
    ]
    said = await node.balances(endpoint, questions)
    grown = [
        None if before is None or after is None else after - before
        for before, after in zip(said[::2], said[1::2], strict=True)
    ]
    silent = [h.block for h, units in zip(holdings, grown, strict=True) if units is None]
    there = await node.headers(endpoint, [block.header.height for block in silent])
    for block, answer in zip(silent, there, strict=True):
        if answer.value is None or octets(answer.value.hash) != block.header.hash:
            raise Missing(f"{endpoint.name} does not have block {_hex(block.header.hash)}")
    return grown


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
