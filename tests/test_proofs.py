"""Proofs of deposits, checked as the README says: of real blocks, simulated ones, tampered ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import msgspec
import pytest
import rlp
from electrumx.lib.tx import Deserializer
from rlp.exceptions import RLPException
from trie.exceptions import BadTrieProof, InvalidNode

from indexer.chains import NATIVE, Transfer
from indexer.chains.answers import NotProved
from indexer.chains.evm_codec import EvmCodec
from indexer.chains.evm_decode import Content, transfers
from indexer.chains.evm_inclusion import proof as evm_proof
from indexer.chains.evm_wire import WireBlock, WireReceipt
from indexer.chains.tron_codec import PREFIX, TronCodec
from indexer.chains.tron_inclusion import proof as tron_proof
from indexer.chains.tron_proof import prove
from indexer.chains.tron_transaction import Order, read_order
from indexer.chains.tron_wire import WireBlock as TronBlock
from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_decode import transfers as utxo_transfers
from indexer.chains.utxo_inclusion import proof as utxo_proof
from indexer.chains.utxo_proof import double_sha256
from tests import evm_samples, utxo_samples
from tests.evm_samples import Watching
from tests.proofs import protobuf, shown, verify
from tests.test_tron_proof import DERIVED, EXACT, UNKNOWN_FIELDS
from tests.test_tron_proof import recorded as tron_recorded
from tests.tron_samples import pays, sealed

Paid: TypeAlias = tuple[bytes, int]

SAMPLES: Final = 4  # transfers of a kind that are proved, of each block
TRANSFER: Final = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
BROKEN: Final = (
    AssertionError, LookupError, TypeError, ValueError, RLPException, BadTrieProof, InvalidNode,
)  # fmt: skip


def some(found: Sequence[Transfer]) -> list[Transfer]:
    """A few, the first and the last among them."""
    middle = Random(1).sample(found, min(SAMPLES, len(found)))
    return list(dict.fromkeys([*found[:1], *middle, *found[-1:]]))


# ---------------------------------------------------------------------------- EVM


class EvmBlock:
    """A node's answers about a block."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.wire = msgspec.convert(answers[evm_samples.BLOCK], WireBlock)
        self.receipts = msgspec.convert(answers[evm_samples.RECEIPTS], list[WireReceipt])
        content = evm_samples.read(answers)
        tokens = {log.address for each in content.executions for log in each.logs}
        watch = Watching([NATIVE, *tokens])
        self.own = transfers(Content(content.executions, [], rebuilt=True), watch)
        every = transfers(content, watch)
        self.internal = [each for each in every if each not in self.own]

    def proved(self, transfer: Transfer) -> Any:
        height, block = int(self.wire.number, 16), bytes.fromhex(self.wire.hash[2:])
        found = evm_proof(self.wire, self.receipts, transfer)
        return shown(EvmCodec(), height, block, transfer, found)


def paid_evm(proof: Any, transaction: bytes, receipt: bytes) -> Paid:
    """Whom a deposit's transaction paid, and what, as its proved bytes say."""
    kind, fields = typed(transaction)
    status, _, _, logs = typed(receipt)[1]
    if proof["contractAddress"] is None:
        assert status == b"\1"
        at = {0: 3, 1: 4}.get(kind, 5)
        return fields[at], int.from_bytes(fields[at + 1], "big")
    contract, topics, data = logs[proof["evidence"]["logIndex"]]
    assert "0x" + contract.hex() == proof["contractAddress"].lower()
    assert (topics[0].hex(), len(topics)) == (TRANSFER, 3)
    return topics[2][-20:], int.from_bytes(data, "big")


def typed(encoded: bytes) -> tuple[int, list[Any]]:
    """The kind and the fields of a transaction or a receipt (EIP-2718)."""
    kind = encoded[0] if encoded[0] < 0x80 else 0
    return kind, rlp.decode(encoded[1:] if kind else encoded)


def check_evm(block: EvmBlock) -> None:
    tokens = [each for each in block.own if each.asset]
    native = [each for each in block.own if not each.asset]
    for transfer in (*some(tokens), *some(native)):
        proof = block.proved(transfer)
        proved = verify(proof)
        assert proof["proves"] == ("transaction" if transfer.odd else "amount")
        if not transfer.odd and (paid := paid_evm(proof, *proved))[0]:  # empty: a creation
            assert paid == (transfer.recipient, transfer.units)
    for transfer in some(block.internal):
        proof = block.proved(transfer)
        verify(proof)
        assert proof["proves"] == "transaction"


@pytest.mark.parametrize("path", evm_samples.recorded())
def test_deposits_of_recorded_evm_blocks_are_proved(path: Path) -> None:
    check_evm(EvmBlock(evm_samples.load(path)))


def test_deposits_of_a_simulated_evm_block_are_proved() -> None:
    block = EvmBlock(evm_samples.simulated())
    assert block.own
    check_evm(block)


def test_equal_events_of_one_transaction_are_told_apart() -> None:
    block = EvmBlock(evm_samples.simulated())
    seen: dict[tuple[bytes, int], Transfer] = {}
    for transfer in block.own:
        if transfer.asset:
            found = block.proved(transfer)["evidence"]["logIndex"]
            assert seen.setdefault((transfer.tx, found), transfer) is transfer


# ---------------------------------------------------------------------------- TRON


def tron_transfer(tx: bytes, order: Order) -> Transfer:
    paid = order.payments[0]
    return Transfer(tx, paid.asset, paid.recipient, 0, paid.units, paid.sender)


def tron_proved(block: TronBlock, transfer: Transfer) -> Any:
    found = tron_proof(block, transfer)
    name = bytes.fromhex(block.blockID)
    return shown(TronCodec(), block.data.number, name, transfer, found)


def paid_tron(transaction: bytes) -> Paid:
    """Whom a transaction paid, and what, as its proved bytes say."""
    whole = protobuf(transaction)
    assert protobuf(whole[5])[3] == 1  # contractRet: SUCCESS
    contract = protobuf(protobuf(whole[1])[11])
    fields = protobuf(protobuf(contract[2])[2])
    to, units = {1: (2, 3), 2: (3, 4), 31: (2, 3 if 3 in fields else 5)}[contract[1]]
    return fields[to], fields[units]


@pytest.mark.parametrize("name", EXACT)
def test_deposits_of_recorded_tron_blocks_are_proved(chain_fixtures: Path, name: str) -> None:
    block = msgspec.convert(tron_recorded(chain_fixtures, name), TronBlock)
    orders = [(tx.id, read_order(tx.raw, tx.id)) for tx in prove(block).transactions]
    succeeded = [tx.ret[0].contractRet == "SUCCESS" for tx in block.transactions]
    found = [
        tron_transfer(*each)
        for each, done in zip(orders, succeeded, strict=True)
        if each[1].payments and done
    ]
    for transfer in some(found):
        proof = tron_proved(block, transfer)
        assert proof["proves"] == "amount"
        assert paid_tron(verify(proof)) == (PREFIX + transfer.recipient, transfer.units)


@pytest.mark.pitfall("P79")
@pytest.mark.parametrize("name", EXACT)
def test_of_a_tron_token_the_transaction_alone_is_proved(chain_fixtures: Path, name: str) -> None:
    """Of the last one too, which goes up the tree without a partner."""
    block = msgspec.convert(tron_recorded(chain_fixtures, name), TronBlock)
    last = len(block.transactions) - 1
    for at in (0, 1, last // 2, last - 1, last):
        tx = bytes.fromhex(block.transactions[at].txID)
        proof = tron_proved(block, Transfer(tx, b"\x70" * 20, b"\xa1" * 20, 0, 5, None))
        verify(proof)
        assert (proof["proves"], proof["evidence"]["position"]) == ("transaction", at)


@pytest.mark.pitfall("P67")
@pytest.mark.parametrize("result", ["OUT_OF_ENERGY", "DEFAULT"])
def test_a_tron_transaction_that_does_not_say_it_succeeded_shows_no_amount(result: str) -> None:
    block = msgspec.convert(sealed(pays(1), pays(2, result=result)).json, TronBlock)
    for at, proves in enumerate(("amount", "transaction")):
        tx = bytes.fromhex(block.transactions[at].txID)
        order = read_order(prove(block).transactions[at].raw, tx)
        assert tron_proved(block, tron_transfer(tx, order))["proves"] == proves


@pytest.mark.pitfall("P80")
def test_a_tron_block_that_json_can_t_rebuild_is_not_proved(chain_fixtures: Path) -> None:
    block = msgspec.convert(tron_recorded(chain_fixtures, DERIVED), TronBlock)
    strange = next(tx for tx in block.transactions if tx.txID.startswith(UNKNOWN_FIELDS))
    with pytest.raises(NotProved, match="rebuilt from JSON"):
        tron_proof(block, Transfer(bytes.fromhex(strange.txID), NATIVE, b"", 0, 1, None))


# ---------------------------------------------------------------------------- UTXO


def utxo_proved(sample: utxo_samples.Sample, transfer: Transfer) -> Any:
    block = sample.proved()
    found = utxo_proof(block, sample.network, transfer)
    name = double_sha256(block.header)[::-1]
    return shown(UtxoCodec(sample.network), 1, name, transfer, found)


def paid_utxo(proof: Any, transaction: bytes) -> Paid:
    """Whom the output of a deposit paid, and what, as ElectrumX reads the proved bytes."""
    output = Deserializer(transaction).read_tx().outputs[proof["ordinal"]]
    return output.pk_script, output.value


@pytest.mark.pitfall("P107")
@pytest.mark.parametrize(
    "sample",
    [*utxo_samples.recorded(), *[utxo_samples.simulated(coin) for coin in ("btc", "ltc", "doge")]],
)
def test_deposits_of_utxo_blocks_are_proved(sample: utxo_samples.Sample) -> None:
    found = utxo_transfers(sample.proved(), sample.network, Watching([NATIVE]))
    assert found
    for transfer in some(found):
        proof = utxo_proved(sample, transfer)
        transaction = verify(proof)
        assert proof["proves"] == ("transaction" if transfer.odd else "amount")
        if not transfer.odd:
            assert paid_utxo(proof, transaction) == (transfer.recipient, transfer.units)


# ---------------------------------------------------------------------------- tampering


def altered(proof: Any, random: Random) -> Iterator[Any]:
    """A proof with one thing in it changed: each text, position and list of its evidence once."""
    for holder, name in [(proof, "blockHash"), (proof, "transactionHash"), *parts(proof)]:
        before = holder[name]
        if isinstance(before, int):
            holder[name] = before + 1
        elif isinstance(before, list):
            holder[name] = before[:-1]
        else:
            at = len(before) - 1 - random.randrange(len(before.removeprefix("0x")))
            other = random.choice([c for c in "0123456789abcdef" if c != before[at]])
            holder[name] = before[:at] + other + before[at + 1 :]
        yield copy.deepcopy(proof)
        holder[name] = before


def parts(evidence: Any) -> Iterator[tuple[Any, Any]]:
    """Where what is hashed stands: its holder and its name there."""
    evidence = evidence.get("evidence", evidence)
    for name, value in evidence.items():
        if name == "logIndex":  # says where to look
            continue
        if isinstance(value, dict):
            yield from parts(value)
        elif isinstance(value, list):
            if value:
                yield evidence, name
            yield from ((value, at) for at, each in enumerate(value) if each is not None)
        elif value is not None:
            yield evidence, name


def check_tampering(proof: Any) -> None:
    verify(proof)
    changed = list(altered(proof, Random(2)))
    assert len(changed) > 8
    for each in changed:
        with pytest.raises(BROKEN):
            verify(each)


def test_a_tampered_proof_fails_on_an_evm_network() -> None:
    block = EvmBlock(evm_samples.simulated())
    check_tampering(block.proved(next(each for each in block.own if each.asset)))


def test_a_tampered_proof_fails_on_tron(chain_fixtures: Path) -> None:
    block = msgspec.convert(tron_recorded(chain_fixtures, EXACT[0]), TronBlock)
    for at in (5, len(block.transactions) - 1):
        tx = bytes.fromhex(block.transactions[at].txID)
        check_tampering(tron_proved(block, Transfer(tx, NATIVE, b"\xa1" * 20, 0, 5, None)))


def test_a_tampered_proof_fails_on_a_bitcoin_like_network() -> None:
    (sample,) = utxo_samples.simulated("btc").values
    found = utxo_transfers(sample.proved(), sample.network, Watching([NATIVE]))
    check_tampering(utxo_proved(sample, found[-1]))


@pytest.mark.pitfall("P107")
def test_a_transaction_that_lies_deeper_than_the_coinbase_is_refused() -> None:
    """As one does that hides below a transaction of 64 bytes."""
    (sample,) = utxo_samples.simulated("btc").values
    found = utxo_transfers(sample.proved(), sample.network, Watching([NATIVE]))
    proof = utxo_proved(sample, found[-1])
    coinbase = proof["evidence"]["coinbase"]
    proof["evidence"] |= {name: coinbase[name] for name in ("transaction", "position", "branch")}
    proof["transactionHash"] = double_sha256(bytes.fromhex(coinbase["transaction"]))[::-1].hex()
    verify(proof)
    proof["evidence"]["coinbase"] = {**coinbase, "branch": [*coinbase["branch"], "00" * 32]}
    with pytest.raises(AssertionError):
        verify(proof)
