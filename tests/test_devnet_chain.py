"""The simulated chain: what it mines proves, reorganisations decide, a seed repeats it all."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from indexer.chains import NATIVE
from indexer.chains.answers import NotProved
from indexer.chains.evm_proof import prove
from indexer.chains.evm_trace import bind_traces
from indexer.chains.evm_transaction import recover_sender
from indexer.chains.evm_wire import WireBlock, WireReceipt, WireTrace, octets
from indexer.devnet.evm_block import Block
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_contracts import Disperser, Proxy, Rejecter, Token, call_data
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.devnet.evm_wallet import Wallet
from indexer.devnet.traffic import Step
from indexer.devnet.truth import Identity, deposits_due

FIXTURES = os.environ.get("CHAIN_FIXTURES")
PRAGUE_BLOCK = "ethereum/mainnet_22431084_block_receipts.json.gz"
TRANSFER = "transfer(address,uint256)"


def make_chain(seed: int = 1) -> SimulatedChain:
    clock = count(1_700_000_000, 12)
    return SimulatedChain(seed, clock=lambda: next(clock))


def make_traffic(seed: int = 1) -> EvmTraffic[Block, Wallet]:
    chain = make_chain(seed)
    addresses = [chain.wallet(f"watched {n}").address for n in range(4)]
    return EvmTraffic(chain, addresses, Random(seed))


def executions_of(block: Block, **altered: Any) -> list[Any]:
    """The block as a node's client reads it, proved."""
    wire = msgspec.convert(block.json | altered, WireBlock)
    return prove(wire, msgspec.convert(block.receipts, list[WireReceipt]))


def due_of(blocks: Sequence[Block], recipient: bytes, asset: bytes) -> dict[Identity, int]:
    found = deposits_due(blocks, [recipient], [asset], internal=True)
    return {identity: due.units for identity, due in found.items()}


def test_every_block_of_mixed_traffic_and_reorgs_proves_with_its_senders_and_traces() -> None:
    traffic = make_traffic()
    blocks = [block for _ in range(60) for block in traffic.step().blocks]
    kinds = set()
    for block in blocks:
        executions = executions_of(block)
        bind_traces(executions, msgspec.convert(block.traces, list[WireTrace]))
        for execution in executions:
            assert recover_sender(execution.transaction) == octets(execution.transaction.sender)
            kinds.add((execution.transaction.type, execution.status, bool(execution.logs)))
    assert {kind for kind, _, _ in kinds} == {"0x0", "0x2"}
    assert {status for _, status, _ in kinds} == {True, False}
    assert all(block.json["withdrawals"] for block in blocks)


def test_an_altered_block_does_not_prove() -> None:
    chain = make_chain()
    block = chain.mine()
    assert executions_of(block) == []
    with pytest.raises(NotProved):
        executions_of(block, gasLimit="0x1")
    with pytest.raises(NotProved):
        executions_of(block, withdrawals=block.json["withdrawals"][:1])


def test_a_seed_decides_every_hash() -> None:
    def hashes(seed: int) -> list[bytes]:
        traffic = make_traffic(seed)
        return [block.hash for _ in range(25) for block in traffic.step().blocks]

    assert hashes(7) == hashes(7)
    assert set(hashes(7)).isdisjoint(hashes(8))


def test_headers_link_and_the_base_fee_follows_eip_1559() -> None:
    traffic = make_traffic()
    for _ in range(30):
        traffic.step()
    branch = traffic.chain.branch()
    for parent, child in pairwise(branch):
        assert (child.parent, child.number) == (parent.hash, parent.number + 1)
        assert child.time > parent.time
        assert child.base_fee == parent.next_base_fee()
    assert branch[-1].base_fee < branch[0].base_fee  # blocks are far below their gas target


class Scene:
    """A chain with a token, a vault that pays by contract, a payer and an address to watch."""

    def __init__(self) -> None:
        self.chain = chain = make_chain()
        self.payer = chain.wallet("payer")
        self.watched = chain.wallet("watched").address
        self.token = chain.deploy("token", Token("Some Token", "TOK", 6))
        self.lenient = chain.deploy("lenient", Token("Lenient", "LEN", 18, lenient=True))
        self.rejecter = chain.deploy("rejecter", Rejecter())
        self.vault = chain.deploy("vault", Proxy(chain.deploy("disperser", Disperser())))
        for asset in (NATIVE, self.token):
            chain.endow(asset, self.vault, 10**20)
        chain.endow(self.token, self.payer.address, 1000)

    def send(self, to: bytes, value: int, signature: str, *arguments: Any) -> bytes:
        data = call_data(signature, *arguments) if signature else b""
        return self.chain.send(self.payer, to, value, data).hash

    def due(self, asset: bytes) -> dict[Identity, int]:
        return due_of(self.chain.branch(), self.watched, asset)

    def receipt(self, tx: bytes) -> Any:
        position = self.chain.position(tx)
        assert position is not None
        return position[0].receipts[position[1]]


def test_native_and_token_payments_move_balances() -> None:
    scene = Scene()
    native = scene.send(scene.watched, 5, "")
    token = scene.send(scene.token, 0, TRANSFER, scene.watched, 7)
    before, block = scene.chain.head, scene.chain.mine()
    for asset, tx, units in ((NATIVE, native, 5), (scene.token, token, 7)):
        assert scene.due(asset) == {(tx, scene.watched, asset, 0): units}
        moved = [scene.chain.balance(asset, scene.watched, at) for at in (before, block)]
        assert moved[1] - moved[0] == units
    assert len(scene.receipt(token)["logs"]) == 1


def test_equal_transfers_in_one_transaction_have_ordinals() -> None:
    scene = Scene()
    arguments = (scene.token, [scene.watched] * 3, [4, 4, 4])
    tx = scene.send(scene.vault, 0, "disperseToken(address,address[],uint256[])", *arguments)
    scene.chain.mine()
    assert scene.due(scene.token) == {(tx, scene.watched, scene.token, n): 4 for n in range(3)}
    sent_by = {log["topics"][1][-40:] for log in scene.receipt(tx)["logs"]}
    assert sent_by == {scene.vault.hex()}


def test_a_failing_payee_is_skipped_or_undoes_the_whole() -> None:
    scene = Scene()
    payees = ([scene.watched, scene.rejecter, scene.watched], [1, 2, 3])
    some = scene.send(scene.vault, 0, "trickle(address[],uint256[])", *payees)
    none = scene.send(scene.vault, 0, "disperse(address[],uint256[])", *payees)
    block = scene.chain.mine()
    assert list(scene.due(NATIVE).values()) == [1, 3]
    assert {identity[0] for identity in scene.due(NATIVE)} == {some}
    assert [scene.receipt(tx)["status"] for tx in (some, none)] == ["0x1", "0x0"]
    outer, inner = block.traces[0]["result"], block.traces[0]["result"]["calls"][0]
    assert (outer["type"], inner["type"]) == ("CALL", "DELEGATECALL")
    assert [call.get("error") for call in inner["calls"]] == [None, "execution reverted", None]
    assert block.traces[1]["result"]["error"] == "execution reverted"


def test_what_does_not_pay_is_not_due() -> None:
    scene = Scene()
    failing = scene.send(scene.watched, 9, "")
    broke = scene.send(scene.token, 0, TRANSFER, scene.watched, 10**9)
    silent = scene.send(scene.lenient, 0, TRANSFER, scene.watched, 1)
    nothing = scene.send(scene.token, 0, TRANSFER, scene.watched, 0)
    scene.chain.failing = {failing}
    scene.chain.mine()
    shown = [scene.receipt(tx) for tx in (failing, broke, silent, nothing)]
    assert [receipt["status"] for receipt in shown] == ["0x0", "0x0", "0x1", "0x1"]
    assert [len(receipt["logs"]) for receipt in shown] == [0, 0, 0, 1]
    for asset in (NATIVE, scene.token, scene.lenient):
        assert scene.due(asset) == {}


def test_a_zero_transfer_has_an_ordinal_and_an_allowance_is_spent() -> None:
    scene = Scene()
    chain, spender = scene.chain, scene.chain.wallet("spender")
    scene.send(scene.token, 0, "approve(address,uint256)", spender.address, 10)
    move = "transferFrom(address,address,uint256)"
    txs = [
        chain.send(spender, scene.token, 0, call_data(move, scene.payer.address, scene.watched, n))
        for n in (0, 10, 1)
    ]
    chain.mine()
    assert [scene.receipt(tx.hash)["status"] for tx in txs] == ["0x1", "0x1", "0x0"]
    assert scene.due(scene.token) == {(txs[1].hash, scene.watched, scene.token, 0): 10}


def test_a_reorg_replaces_hashes_and_decides_each_transactions_fate() -> None:
    scene = Scene()
    chain = scene.chain
    stays, fails = (scene.send(scene.watched, n, "") for n in (1, 2))
    cancelled = chain.send(chain.wallet("double spender"), scene.watched, 3).hash
    held = chain.send(chain.wallet("patient"), scene.watched, 4).hash
    old = [chain.mine(), chain.mine()]
    chain.failing = {fails}
    new = chain.reorg(2, longer=1, cancel={cancelled}, hold={held})
    assert len(new) == 3
    assert chain.head.number == old[-1].number + 1
    assert {block.hash for block in old}.isdisjoint(block.hash for block in new)
    assert list(scene.due(NATIVE).values()) == [1]
    assert chain.position(stays) is not None
    assert scene.receipt(fails)["status"] == "0x0"
    assert chain.position(cancelled) is None
    assert chain.position(held) is None
    assert chain.block(old[0].hash) is old[0]  # nodes keep side branches
    assert not chain.is_canonical(old[0])
    chain.mine()
    assert sorted(scene.due(NATIVE).values()) == [1, 4]
    assert chain.position(cancelled) is None


def test_a_raffle_pays_another_amount_when_mined_again() -> None:
    scene = Scene()
    tx = scene.send(scene.vault, 0, "raffle(address,uint256)", scene.watched, 10**18)
    scene.chain.mine()
    before = scene.due(NATIVE)
    scene.chain.reorg(1)
    assert before.keys() == scene.due(NATIVE).keys() == {(tx, scene.watched, NATIVE, 0)}
    assert before != scene.due(NATIVE)


def test_a_reorg_undoes_balances() -> None:
    scene = Scene()
    chain, genesis = scene.chain, scene.chain.head
    tx = scene.send(scene.token, 0, TRANSFER, scene.watched, 7)
    chain.mine()
    chain.reorg(1, cancel={tx})
    assert chain.balance(scene.token, scene.watched, chain.head) == 0
    assert chain.balance(scene.token, scene.payer.address, chain.head) == 1000
    spent = [chain.balance(NATIVE, scene.payer.address, at) for at in (genesis, chain.head)]
    assert spent[0] - spent[1] == 21_000 * (chain.head.base_fee + 10**8)  # the cancelling one's gas


def test_more_blocks_than_there_are_cannot_be_taken() -> None:
    chain = make_chain()
    chain.mine()
    with pytest.raises(ValueError, match="can't take 2 blocks"):
        chain.rewind(2)


def test_traffic_reorganises_and_what_is_due_is_on_the_chain_as_it_stands() -> None:
    traffic = make_traffic(3)
    steps: list[Step[Block]] = [traffic.step() for _ in range(60)]
    assert {step.depth for step in steps} == {0, 1, 2, 3}
    due = traffic.due()
    assert any(owed.odd for owed in due.values())
    assert {asset for _, _, asset, _ in due} == {NATIVE, *traffic.tokens}
    for (tx, *_), owed in due.items():
        assert isinstance(traffic.chain, SimulatedChain)
        position = traffic.chain.position(tx)
        assert position is not None
        assert position[0].hash == owed.hash
    assert len(due) > 60


@pytest.mark.skipif(FIXTURES is None, reason="CHAIN_FIXTURES is not set: no recorded blocks here")
def test_answers_have_the_keys_of_a_recorded_mainnet_block() -> None:
    recorded = json.loads(gzip.decompress((Path(str(FIXTURES)) / PRAGUE_BLOCK).read_bytes()))
    real, real_receipts = recorded["eth_getBlockByNumber"], recorded["eth_getBlockReceipts"]
    traffic = make_traffic()
    blocks = [block for _ in range(20) for block in traffic.step().blocks]
    assert blocks[0].json.keys() == real.keys()
    assert blocks[0].json["withdrawals"][0].keys() == real["withdrawals"][0].keys()

    def shapes(objects: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
        return {each["type"]: set(each) for each in objects}

    txs = [tx for block in blocks for tx in block.json["transactions"]]
    receipts = [receipt for block in blocks for receipt in block.receipts]
    protected = [tx for tx in real["transactions"] if tx["type"] != "0x0" or "chainId" in tx]
    for ours, theirs in ((txs, protected), (receipts, real_receipts)):
        for kind, keys in shapes(ours).items():
            assert keys == shapes(theirs)[kind]
    logs = [log for receipt in receipts for log in receipt["logs"]]
    real_logs = [log for receipt in real_receipts for log in receipt["logs"]]
    assert set(logs[0]) == set(real_logs[0])
