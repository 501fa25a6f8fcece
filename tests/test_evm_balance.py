"""What an EVM network's nodes say of balances, and what its events say that they should."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from indexer.chains import Block, Holding
from indexer.chains.evm import EvmChain
from indexer.chains.evm_balance import movements
from indexer.chains.evm_decode import Content
from indexer.chains.evm_proof import Log
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_contracts import Token, call_data
from indexer.model import Unavailable
from tests.evm_samples import ALICE, BOB, CAROL, TOKEN, execution, transfer_log, word
from tests.rpc_server import FakeTime, fault
from tests.test_evm_chain import Json, Net, net, read, time

__all__ = ["net", "time"]  # fixtures

UNITS: Final = 1234


def changes(*logs: Log, status: bool | None = True) -> dict[bytes, int]:
    """By how much each changes, as the events of one transaction say."""
    content = Content([execution(*logs, status=status)], [], rebuilt=False)
    found = movements(content, [(TOKEN, each) for each in (ALICE, BOB)])
    return {holder: units for (_, holder), units in found.items() if units}


def test_events_add_up_to_what_came_less_what_went() -> None:
    assert changes(
        transfer_log(ALICE, 10, sender=CAROL),
        transfer_log(ALICE, 5, sender=ALICE),
        transfer_log(BOB, 7, sender=ALICE),
        transfer_log(CAROL, 3, sender=BOB),
        transfer_log(ALICE, 99, sender=CAROL, token=b"\x99" * 20),
    ) == {ALICE: 3, BOB: 4}


def test_what_failed_or_is_odd_says_nothing() -> None:
    assert changes(transfer_log(ALICE, 10, sender=CAROL), status=False) == {}
    odd = Log(TOKEN, (TRANSFER_TOPIC, word(CAROL), word(ALICE)), word(1) + word(2))
    other = Log(TOKEN, (b"\x01" * 32, word(CAROL), word(ALICE)), word(1))
    assert changes(odd, other, Log(TOKEN, (), b"")) == {}


class Paid:
    """A chain whose last block pays Alice a token twice, which she passes on in part."""

    def __init__(self) -> None:
        self.chain = SimulatedChain(3, finality=3)
        self.token = self.chain.deploy("token", Token("Token", "TKN", 6))
        payer = self.chain.wallet("payer")
        self.alice = self.chain.wallet("alice")
        self.chain.endow(self.token, payer.address, 10**9)
        self.chain.mine()
        for wallet, to, units in (
            (payer, self.alice.address, UNITS),
            (payer, self.alice.address, 2 * UNITS),
            (self.alice, BOB, 5),
        ):
            data = call_data("transfer(address,uint256)", to, units)
            self.chain.send(wallet, self.token, 0, data)
        self.chain.mine()

    async def holdings(self, adapter: EvmChain) -> list[Holding]:
        height = self.chain.head.number
        (block,) = await read(adapter, height, height)
        return [self.of(block, holder) for holder in (self.alice.address, BOB)]

    def of(self, block: Block, holder: bytes) -> Holding:
        return Holding(block, self.token, holder)


def forgetful(method: str, params: Sequence[Any], reply: Json) -> Json:
    return fault(reply, -32000, "missing trie node") if method == "eth_call" else reply


def richer(method: str, params: Sequence[Any], reply: Json) -> Json:
    """Everybody has one more, of late."""
    if method != "eth_call" or int(reply["result"], 16) == 0:
        return reply
    return {**reply, "result": f"0x{int(reply['result'], 16) + 1:064x}"}


def short(method: str, params: Sequence[Any], reply: Json) -> Json:
    return {**reply, "result": "0x"} if method == "eth_call" else reply


async def test_balances_are_asked_at_the_block_and_its_parent_by_hash(net: Net) -> None:
    paid = Paid()
    node = await net.node(paid.chain)
    adapter = net.adapter(node)
    holdings = await paid.holdings(adapter)
    assert await adapter.balances_agree(holdings) == [True, True]
    head = holdings[0].block.header
    asked = [params[1]["blockHash"] for params in node.asked("eth_call")]
    assert asked == ["0x" + head.parent.hex(), "0x" + head.hash.hex()] * 2
    node.spoil = richer
    assert await adapter.balances_agree(holdings) == [False, False]


@pytest.mark.parametrize("spoil", [forgetful, short])
async def test_what_no_endpoint_can_say_is_unknown(net: Net, spoil: Any) -> None:
    paid = Paid()
    nodes = [await net.node(paid.chain), await net.node(paid.chain)]
    adapter = net.adapter(*nodes)
    holdings = await paid.holdings(adapter)
    nodes[0].spoil = spoil
    assert await adapter.balances_agree(holdings) == [True, True]
    nodes[1].spoil = spoil
    assert await adapter.balances_agree(holdings) == [None, None]
    assert {each.error for each in adapter.endpoints()} == {None}  # it is no failure


async def test_only_what_one_endpoint_left_open_is_asked_of_the_next(net: Net) -> None:
    paid = Paid()
    nodes = [await net.node(paid.chain), await net.node(paid.chain)]
    adapter = net.adapter(*nodes)
    holdings = await paid.holdings(adapter)

    def half(method: str, params: Sequence[Any], reply: Json) -> Json:
        about_bob = method == "eth_call" and BOB.hex() in params[0]["data"]
        return fault(reply, 3, "execution reverted") if about_bob else reply

    nodes[0].spoil = half
    assert await adapter.balances_agree(holdings) == [True, True]
    assert all(BOB.hex() in params[0]["data"] for params in nodes[1].asked("eth_call"))
    nodes[1].spoil = half
    assert await adapter.balances_agree(holdings) == [True, None]


async def test_a_block_that_left_the_node_s_chain_is_asked_for_again(net: Net) -> None:
    """It can't say, but only because the block is about to be replaced: nothing is held for it."""
    paid = Paid()
    adapter = net.adapter(await net.node(paid.chain))
    holdings = await paid.holdings(adapter)
    paid.chain.reorg(1, longer=1)
    with pytest.raises(Unavailable, match="does not have block"):
        await adapter.balances_agree(holdings)


async def test_a_node_that_does_not_answer_is_unavailable(net: Net, time: FakeTime) -> None:
    paid = Paid()
    node = await net.node(paid.chain)
    adapter = net.adapter(node)
    holdings = await paid.holdings(adapter)

    def overloaded(method: str, params: Sequence[Any], reply: Json) -> Json:
        return fault(reply, -32005, "limit exceeded")

    node.spoil = overloaded
    with pytest.raises(Unavailable, match="overloaded"):
        await adapter.balances_agree(holdings)
