"""Which outputs are transfers, of how much, from whom: by blocks made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pytest

from indexer.chains import NATIVE, Transfer
from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_decode import maturity, origin, transfers
from indexer.chains.utxo_network import NETWORKS, Parameters
from indexer.chains.utxo_script import hash160, p2pkh, p2sh, witness_program
from indexer.devnet.utxo_block import Transaction, sized
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_wallet import SEGWIT, Kind, UtxoWallet
from tests.evm_samples import Watching
from tests.utxo_samples import (
    REGTEST,
    Recorded,
    block,
    prove,
    recorded,
    spending,
    transaction,
)

CHAIN = SimulatedUtxoChain(87)
ALICE = CHAIN.wallet("alice", Kind.P2WPKH)
BOB = CHAIN.wallet("bob")
CAROL = CHAIN.wallet("carol")
LITECOIN, DOGECOIN = NETWORKS["ltc", "regtest"], NETWORKS["doge", "regtest"]


def read(
    *transactions: Transaction,
    keys: Collection[bytes] | None = None,
    network: Parameters = REGTEST,
) -> list[Transfer]:
    found = prove(block(*transactions, network=network), network)
    return transfers(found, network, Watching([NATIVE], keys))


def paying(*outputs: tuple[int, bytes], by: UtxoWallet = ALICE) -> Transaction:
    return transaction([CHAIN.coin(by)], outputs)


@pytest.mark.pitfall("P93")
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.P2PK])
def test_an_output_of_each_kind_is_a_transfer(kind: Kind) -> None:
    watched = CHAIN.wallet("watched", kind)
    tx = paying((1, BOB.script), (12_345, watched.script))
    assert read(tx, keys=[watched.address]) == [
        Transfer(
            tx.hash,
            NATIVE,
            watched.script,
            1,
            12_345,
            ALICE.script,
            senders=(ALICE.script,),
            concealed=kind is Kind.P2TR,
        )
    ]


@pytest.mark.pitfall("P89")
def test_each_of_three_equal_outputs_is_a_transfer_of_its_own() -> None:
    tx = paying((7, BOB.script), (7, BOB.script), (1, b"\x51"), (7, BOB.script))
    found = read(tx)
    assert [(t.ordinal, t.units) for t in found] == [(0, 7), (1, 7), (3, 7)]


@pytest.mark.pitfall("P92")
@pytest.mark.parametrize("prefix", ["02", "03", "04"])
def test_a_bare_key_is_oddly_shaped_and_its_address_s(prefix: str) -> None:
    key = bytes.fromhex(prefix) + b"\x11" * (64 if prefix == "04" else 32)
    (found,) = read(paying((5, sized(key) + b"\xac")), keys=[p2pkh(hash160(key))])
    assert found.recipient == p2pkh(hash160(key))
    assert found.odd
    assert found.units == 5


@pytest.mark.pitfall("P91", "P94", "P95", "P104")
@pytest.mark.parametrize(
    "script",
    [
        b"\x51" + sized(BOB.pubkey) * 2 + b"\x52\xae",  # 1 of 2, the payer's key too
        b"\x6a" + sized(BOB.script),
        b"\x6a\x14omni" + bytes(16),
        b"\x51\x02\x4e\x73",  # an anchor
        witness_program(2, bytes(32)),
        b"\x04\xff\xff\xff\x7f\xb1\x75" + BOB.script,
        b"",
    ],
)
def test_what_no_address_alone_can_spend_is_no_transfer_though_it_seems_watched(
    script: bytes,
) -> None:
    assert read(paying((10**8, script))) == []


@pytest.mark.pitfall("P93")
@pytest.mark.parametrize("kind", sorted(SEGWIT))
def test_a_witness_program_is_no_address_where_witnesses_mean_nothing(kind: Kind) -> None:
    script = CHAIN.wallet("watched", kind).script
    tx = transaction([spending(b"\x01\x01")], [(1, script), (2, BOB.script)])
    assert [t.units for t in read(tx, network=DOGECOIN)] == [2]


@pytest.mark.pitfall("P97")
def test_amounts_are_exact_to_the_last_unit() -> None:
    for units in (1, 2_099_999_997_690_000, 10**19, 2**63 - 1):
        (found,) = read(paying((units, BOB.script)))
        assert found.units == units
        assert type(found.units) is int


def test_nothing_at_all_is_no_transfer() -> None:
    assert read(paying((0, BOB.script))) == []


@pytest.mark.pitfall("P96")
def test_a_block_that_pays_twenty_thousand_watched_outputs() -> None:
    wallets = [b"\x00\x14" + n.to_bytes(20, "big") for n in range(20_000)]
    found = read(paying(*[(n + 1, script) for n, script in enumerate(wallets)]))
    assert [(t.recipient, t.ordinal, t.units) for t in found] == [
        (script, n, n + 1) for n, script in enumerate(wallets)
    ]


@pytest.mark.parametrize("sample", recorded("*702861*", "bitcoin"))
def test_nothing_is_found_where_nothing_is_watched(sample: Recorded) -> None:
    found = sample.proved()
    assert transfers(found, sample.network, Watching([NATIVE], [])) == []
    assert transfers(found, sample.network, Watching([], None)) == []


@pytest.mark.parametrize("sample", recorded("*702861*", "bitcoin"))
@pytest.mark.pitfall("P93", "P113")
def test_all_that_core_gives_an_address_is_found_where_all_is_watched(sample: Recorded) -> None:
    block, codec = sample.proved(), UtxoCodec(sample.network)
    expected = {
        (decoded["txid"], output["n"]): output["scriptPubKey"]["address"]
        for number, decoded in enumerate(sample.decoded)
        for output in decoded["vout"]
        if "address" in output["scriptPubKey"]
        and origin(block, number).sender != bytes.fromhex(output["scriptPubKey"]["hex"])
    }
    found = transfers(block, sample.network, Watching([NATIVE]))
    assert {(t.tx.hex(), t.ordinal): codec.format_address(t.recipient) for t in found} == expected
    assert len(expected) > 5_000


# ------------------------------------------------------------------------------ maturity


@pytest.mark.pitfall("P88")
def test_what_a_coinbase_pays_matures_before_it_counts() -> None:
    raw = block(paying((1, BOB.script)), reward=[(50, BOB.script)])
    found = prove(raw, REGTEST)
    assert [maturity(found, number, REGTEST) for number in (0, 1)] == [100, 0]
    first, _ = transfers(found, REGTEST, Watching([NATIVE], [BOB.address]))
    assert (first.units, first.sender, first.maturity) == (50, None, 100)
    assert DOGECOIN.maturity == 240


@pytest.mark.pitfall("P88", "P101")
def test_a_peg_out_is_a_transfer_that_matures_and_the_pool_is_none() -> None:
    chain = SimulatedUtxoChain(101, "ltc")
    chain.pay(CAROL, (BOB.script, 30))
    chain.peg_out((BOB.script, 70), (BOB.script, 0))
    found = prove(chain.mine().raw, LITECOIN)
    assert found.hogex
    read = transfers(found, LITECOIN, Watching([NATIVE]))
    assert [(t.recipient, t.units, t.ordinal, t.sender, t.maturity) for t in read] == [
        (BOB.script, 30, 0, CAROL.script, 0),
        (BOB.script, 70, 1, None, 6),
    ]
    assert [maturity(found, number, LITECOIN) for number in range(3)] == [100, 0, 6]


# ------------------------------------------------------------------------------ who paid


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.pitfall("P19", "P113")
def test_the_sender_is_the_address_that_the_one_input_reveals(kind: Kind) -> None:
    payer = CHAIN.wallet("payer", kind)
    (found,) = read(paying((5, BOB.script), by=payer), keys=[BOB.address])
    hidden = kind in (Kind.P2TR, Kind.P2PK)
    assert found.sender == (None if hidden else payer.address)


@pytest.mark.pitfall("P113")
def test_several_inputs_of_one_address_are_one_sender_of_two_are_none() -> None:
    same = [CHAIN.coin(ALICE), CHAIN.coin(ALICE)]
    (found,) = read(transaction(same, [(5, BOB.script)]), keys=[BOB.address])
    assert found.sender == ALICE.script
    mixed = [*same, CHAIN.coin(CAROL)]
    (found,) = read(transaction(mixed, [(5, BOB.script)]), keys=[BOB.address])
    assert found.sender is None


@pytest.mark.pitfall("P113")
def test_all_that_inputs_reveal_is_known_and_what_they_hide_is_not() -> None:
    hidden = CHAIN.wallet("hidden", Kind.P2TR)
    inputs = [CHAIN.coin(ALICE), CHAIN.coin(hidden), CHAIN.coin(BOB), CHAIN.coin(ALICE)]
    inputs[1] = hidden.spend(hashlib.sha256(b"funding").digest() + (258).to_bytes(4, "little"))
    tx = transaction(inputs, [(5, p2sh(bytes(20)))])
    found = origin(prove(block(tx), REGTEST), 1)
    assert found.senders == (ALICE.script, BOB.script)
    assert found.unrevealed == ((hashlib.sha256(b"funding").digest()[::-1], 258),)
    assert found.sender is None


@pytest.mark.pitfall("P113")
def test_change_to_the_one_address_that_paid_is_no_transfer() -> None:
    tx = transaction([CHAIN.coin(BOB)], [(5, ALICE.script), (90, BOB.script)])
    assert [t.recipient for t in read(tx)] == [ALICE.script]
    shared = transaction([CHAIN.coin(BOB), CHAIN.coin(ALICE)], [(90, BOB.script)])
    assert [t.recipient for t in read(shared)] == [BOB.script]  # whose it was, nobody can say


def test_a_coinbase_comes_from_nobody() -> None:
    found = prove(block(reward=[(50, BOB.script)]), REGTEST)
    assert origin(found, 0) == ((), ())
