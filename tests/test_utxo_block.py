"""Raw blocks: parsed to the last byte, and proved, or refused. Recorded ones and ones by hand."""

from __future__ import annotations

import bz2
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_parse import AuxPow, parse_block
from indexer.chains.utxo_proof import (
    MERGED_MINING,
    NotProved,
    double_sha256,
    merkle_root,
    prove_auxpow,
    prove_block,
    prove_work,
    target,
    witness_ids,
    work,
)
from indexer.chains.utxo_script import addressable, p2pkh, witness_program
from indexer.chains.utxo_wire import Malformed, compact_size
from indexer.devnet.utxo_block import Input, count, is_worked
from tests.utxo_samples import (
    COINBASE,
    REGTEST,
    Recorded,
    Sample,
    block,
    litecoin_block,
    of,
    prove,
    recorded,
    simulated,
    spending,
    transaction,
)

PAYMENT = transaction([spending(b"\x01\x02")], [(7, p2pkh(bytes(20)))])
WITNESSED = transaction(
    [spending(witness=(b"\x01", b"\x02" * 300))], [(9, witness_program(0, bytes(20)))]
)

# Version 1, no parent; merkle root, time, bits and nonce of block 0 of each network.
_BTC_ROOT = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
_LTC_ROOT = "97ddfbbae6be97fd6cdf3e7ca13232a3afff2353e29badfab7f73011edd4ced9"
_DOGE_ROOT = "5b2a3f53f605d62c53e62932dac6925e3d74afa5a4b459745c36d42d0ed26a69"
GENESIS = {
    ("btc", "mainnet"): (_BTC_ROOT, 1231006505, 0x1D00FFFF, 2083236893),
    ("btc", "testnet"): (_BTC_ROOT, 1296688602, 0x1D00FFFF, 414098458),
    ("btc", "signet"): (_BTC_ROOT, 1598918400, 0x1E0377AE, 52613770),
    ("btc", "regtest"): (_BTC_ROOT, 1296688602, 0x207FFFFF, 2),
    ("ltc", "mainnet"): (_LTC_ROOT, 1317972665, 0x1E0FFFF0, 2084524493),
    ("ltc", "testnet"): (_LTC_ROOT, 1486949366, 0x1E0FFFF0, 293345),
    ("ltc", "regtest"): (_LTC_ROOT, 1296688602, 0x207FFFFF, 0),
    ("doge", "mainnet"): (_DOGE_ROOT, 1386325540, 0x1E0FFFF0, 99943),
    ("doge", "testnet"): (_DOGE_ROOT, 1391503289, 0x1E0FFFF0, 997879),
    ("doge", "regtest"): (_DOGE_ROOT, 1296688602, 0x207FFFFF, 2),
}


# ------------------------------------------------------------------------------ recorded


@pytest.mark.pitfall("P93", "P101", "P102", "P107")
@pytest.mark.parametrize("sample", recorded())
def test_every_recorded_block_parses_and_proves(sample: Recorded) -> None:
    found = sample.proved()
    assert len(found.txids) == len(found.starts) == len(found.outputs)
    assert len(found.scripts) == len(found.places) > 0


@pytest.mark.pitfall("P93", "P98")
@pytest.mark.parametrize("name", ["277647", "482683_segwit", "702861_segwit"])
def test_ids_outputs_and_addresses_are_those_that_core_decodes(
    name: str, chain_fixtures: Path
) -> None:
    network = NETWORKS["btc", "mainnet"]
    sample = Recorded(network, chain_fixtures / "bitcoin" / f"mainnet_{name}.raw")
    found, codec = sample.proved(), UtxoCodec(network)
    witnessed = witness_ids(found)
    at = 0
    for number, decoded in enumerate(sample.decoded):
        assert found.txids[number][::-1].hex() == decoded["txid"]
        if number:  # the coinbase's counts as zeros
            assert witnessed[number][::-1].hex() == decoded["hash"]
        assert found.outputs[number] == at
        for output in decoded["vout"]:
            script, shown = found.scripts[at], output["scriptPubKey"]
            value = int.from_bytes(found.raw[found.places[at] : found.places[at] + 8], "little")
            assert script.hex() == shown["hex"]
            assert value == round(output["value"] * 10**8)
            assert addressable(script, segwit=True) == ("address" in shown)
            if "address" in shown:
                assert codec.format_address(script) == shown["address"]
                assert codec.parse_address(shown["address"]) == script
            at += 1
    assert at == len(found.scripts)


def test_the_first_255_blocks_prove_and_link(chain_fixtures: Path) -> None:
    stored = bz2.decompress((chain_fixtures / "bitcoin" / "mainnet_1-255.blkdat.bz2").read_bytes())
    network = NETWORKS["btc", "mainnet"]
    parent = bytes.fromhex(network.genesis[0])[::-1]
    at = blocks = 0
    while at < len(stored):
        size = int.from_bytes(stored[at + 4 : at + 8], "little")
        raw = stored[at + 8 : at + 8 + size]
        found = prove(raw, network)
        assert found.header[4:36] == parent
        assert work(found.header) == 0x100010001  # of difficulty 1
        parent = double_sha256(found.header)
        at += 8 + size
        blocks += 1
    assert blocks == 255


@pytest.mark.pitfall("P101")
@pytest.mark.parametrize(
    "sample", [*recorded("mainnet_2265985_mweb", "litecoin"), simulated("ltc")]
)
def test_a_litecoin_block_ends_where_its_extension_block_does(sample: Sample) -> None:
    raw, found = sample.raw, sample.proved()
    assert found.hogex
    assert found.scripts[found.outputs[-1]][:2] == b"\x58\x20"  # the pool: version 8, never ours
    inside = len(raw) - found.end
    assert inside > 100
    for cut in {1, 100, inside - 1, inside}:
        with pytest.raises(Malformed):
            parse_block(raw[:-cut], sample.network)
    with pytest.raises(Malformed):
        parse_block(raw + b"\0", sample.network)
    with pytest.raises(Malformed, match="unknown flag 8"):
        parse_block(raw, NETWORKS["btc", "mainnet"])


def test_a_witness_is_hashed_without_the_mark_of_an_extension_block() -> None:
    raw = WITNESSED.raw
    marked = raw[:4] + b"\0\x09" + raw[6:-4] + b"\0" + raw[-4:]
    found = parse_block(litecoin_block(marked), NETWORKS["ltc", "regtest"])
    assert found.txids[-1] == WITNESSED.txid
    assert witness_ids(found)[-1] == double_sha256(raw)


@pytest.mark.pitfall("P102")
@pytest.mark.parametrize("sample", [*recorded("*auxpow", "dogecoin"), simulated("doge")])
def test_a_merge_mined_block_is_proved_by_its_parent(sample: Sample) -> None:
    found = sample.proved()
    assert found.auxpow is not None
    with pytest.raises(NotProved, match="nobody worked"):  # its own hash alone is no proof
        prove_work(found.header, None, replace(sample.network, auxpow=None))
    with pytest.raises(NotProved, match="without its parent"):
        prove_work(found.header, None, sample.network)
    bits = int.from_bytes(found.header[72:76], "little")
    idle = (found.auxpow.parent[:76] + number.to_bytes(4, "little") for number in itertools.count())
    unworked = next(each for each in idle if not is_worked(sample.network, each, bits))
    for wrong in (*_broken(found.auxpow), found.auxpow._replace(parent=unworked)):
        with pytest.raises(NotProved):
            prove_work(found.header, wrong, sample.network)
    elsewhere = found.header[:2] + b"\x63\0" + found.header[4:]
    with pytest.raises(NotProved, match="another chain's"):
        prove_work(elsewhere, found.auxpow, sample.network)


def _broken(auxpow: AuxPow) -> list[AuxPow]:
    script, parent = auxpow.script, auxpow.parent
    mark = script.index(MERGED_MINING)
    return [
        auxpow._replace(position=1),
        auxpow._replace(chain_position=auxpow.chain_position + 1),
        auxpow._replace(branch=[*auxpow.branch, bytes(32)]),
        auxpow._replace(chain_branch=[*auxpow.chain_branch, bytes(32)]),
        auxpow._replace(chain_branch=[bytes(32)] * 31),
        auxpow._replace(coinbase=bytes(32)),
        auxpow._replace(script=b""),
        auxpow._replace(script=script + MERGED_MINING),
        auxpow._replace(script=script[:mark] + bytes(30) + script[mark + 4 :]),
        auxpow._replace(script=script[: mark + 36 + 7]),
        auxpow._replace(script=script[: mark + 36] + b"\2" + script[mark + 37 :]),
        auxpow._replace(parent=parent[:2] + b"\x62\x00" + parent[4:]),
    ]


def _spoiled(raw: bytes) -> Iterator[bytes]:
    """A block broken off, a byte of it left out, a bit of it turned."""
    chance = Random(107)
    for _ in range(300):
        at = chance.randrange(len(raw))
        yield raw[:at]
        yield raw[:at] + raw[at + 1 :]
        yield raw[:at] + bytes((raw[at] ^ 1 << chance.randrange(8),)) + raw[at + 1 :]


@pytest.mark.pitfall("P96", "P100")
@pytest.mark.parametrize("sample", [*recorded("*482683*", "bitcoin"), simulated("btc")])
def test_no_byte_of_a_block_can_be_changed_or_left_out(sample: Sample) -> None:
    expected = double_sha256(sample.raw[:80])
    for wrong in _spoiled(sample.raw):
        with pytest.raises((Malformed, NotProved)):
            prove_block(parse_block(wrong, sample.network), expected, sample.network)


@pytest.mark.pitfall("P100", "P101", "P102")
@pytest.mark.parametrize("sample", [simulated("ltc"), simulated("doge")])
def test_what_no_hash_covers_changes_nothing_that_is_read(sample: Sample) -> None:
    """The inside of an extension block, and what a merge-mined header says twice."""
    honest, unnoticed = sample.proved(), 0
    for wrong in _spoiled(sample.raw):
        try:
            found = parse_block(wrong, sample.network)
            prove_block(found, double_sha256(honest.header), sample.network)
        except (Malformed, NotProved):
            continue
        unnoticed += 1
        assert (found.txids, found.scripts) == (honest.txids, honest.scripts)
    assert unnoticed


@pytest.mark.pitfall("P107")
@pytest.mark.parametrize("sample", recorded("*413567*", "bitcoin"))
def test_a_repeated_last_transaction_is_refused_though_the_root_is_the_same(
    sample: Recorded,
) -> None:
    found = sample.proved()
    assert len(found.txids) == 1557
    body = compact_size(sample.raw, 80)[1]
    doubled = found.header + count(1558) + sample.raw[body:] + sample.raw[found.starts[-1] :]
    with pytest.raises(NotProved, match="CVE-2012-2459"):
        prove(doubled, sample.network)


# ------------------------------------------------------------------------------ made by hand


@pytest.mark.pitfall("P106")
@pytest.mark.parametrize("coin_and_chain", sorted(GENESIS))
def test_the_first_block_of_each_network_has_the_hash_that_we_know_it_by(
    coin_and_chain: tuple[str, str],
) -> None:
    network = NETWORKS[coin_and_chain]
    root, time, bits, nonce = GENESIS[coin_and_chain]
    header = (1).to_bytes(4, "little") + bytes(32) + bytes.fromhex(root)[::-1]
    header += b"".join(number.to_bytes(4, "little") for number in (time, bits, nonce))
    assert double_sha256(header)[::-1].hex() == network.genesis[0]
    prove_work(header, None, network)


def test_every_network_s_first_block_is_checked() -> None:
    assert GENESIS.keys() == NETWORKS.keys()
    hashes = [each for network in NETWORKS.values() for each in network.genesis]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("coin", ["btc", "ltc", "doge"])
def test_small_blocks_prove(coin: str) -> None:
    network = NETWORKS[coin, "regtest"]
    for transactions in ([], [PAYMENT], [PAYMENT, WITNESSED], [WITNESSED] * 2 + [PAYMENT]):
        if len(transactions) == 3:  # equal neighbours hashed together
            transactions[1] = transaction([spending(witness=(b"\x03",))], [(1, b"")])
        found = prove(block(*transactions, network=network), network)
        assert len(found.txids) == 1 + len(transactions)


@pytest.mark.pitfall("P98")
def test_a_witness_changes_the_block_but_no_transaction_s_id() -> None:
    outputs = [(9, witness_program(0, bytes(20)))]
    one = transaction([spending(witness=(b"\x01",))], outputs)
    other = transaction([spending(witness=(b"\x02",))], outputs)
    first, second = (prove(block(tx), REGTEST) for tx in (one, other))
    assert first.txids[1] == second.txids[1]
    assert witness_ids(first)[1] != witness_ids(second)[1]
    assert first.header != second.header


def test_a_witness_that_the_coinbase_does_not_commit_to_is_refused() -> None:
    raw = block(PAYMENT, WITNESSED)
    at = raw.index(b"\x02" * 300)
    with pytest.raises(NotProved, match="witnesses are not those"):
        prove(raw[:at] + b"\x03" + raw[at + 1 :], REGTEST)


def test_a_witness_without_any_commitment_is_refused() -> None:
    with pytest.raises(NotProved, match="does not commit to"):
        prove(of(transaction([COINBASE], [(50, b"\x51")]), WITNESSED), REGTEST)


def test_a_commitment_without_the_coinbase_s_witness_is_refused() -> None:
    script = bytes.fromhex("6a24aa21a9ed") + bytes(32)
    with pytest.raises(NotProved, match="lacks the witness"):
        prove(block(PAYMENT, reward=[(50, b"\x51"), (0, script)]), REGTEST)


@pytest.mark.pitfall("P107")
def test_a_coinbase_must_be_first_and_alone() -> None:
    second = transaction([Input(COINBASE.outpoint, b"\x01\x02")], [(1, b"\x51")])
    with pytest.raises(NotProved, match="coinbase"):
        prove(block(PAYMENT, second), REGTEST)
    with pytest.raises(NotProved, match="coinbase"):
        prove(of(PAYMENT), REGTEST)


def test_a_block_under_another_s_hash_is_refused() -> None:
    raw = block(PAYMENT)
    with pytest.raises(NotProved, match="another hash"):
        prove_block(parse_block(raw, REGTEST), bytes(32), REGTEST)


@pytest.mark.pitfall("P107")
def test_equal_neighbours_are_refused_at_every_level_of_the_tree() -> None:
    a, b, c, d, e, f = (bytes((n,)) * 32 for n in range(6))
    merkle_root([a, b, c, d, e, f])
    for doubled in ([a, b, c, c], [a, b, c, d, e, f, e, f], [a, a]):
        with pytest.raises(NotProved, match="CVE-2012-2459"):
            merkle_root(doubled)


@pytest.mark.pitfall("P108")
def test_work_is_asked_for_within_the_network_s_limit() -> None:
    raw = block(PAYMENT)
    with pytest.raises(NotProved, match="asks for no work"):  # regtest's ease on mainnet
        prove(raw, NETWORKS["btc", "mainnet"])
    for bits in (0, 0x1D80FFFF, 0xFF00FFFF, 0x01000000):
        with pytest.raises(NotProved, match="asks for no work"):
            prove_work(raw[:72] + bits.to_bytes(4, "little") + raw[76:80], None, REGTEST)
    with pytest.raises(NotProved, match="nobody worked"):
        prove_work(raw[:72] + 0x1D00FFFF.to_bytes(4, "little") + raw[76:80], None, REGTEST)


def test_targets_and_work_are_core_s() -> None:
    assert target(0x1D00FFFF) == 0xFFFF << 208
    assert target(0x05009234) == 0x92340000
    assert target(0x03123456) == 0x123456
    assert target(0x02123456) == 0x1234
    assert target(0x04923456) == 0  # negative
    assert work(bytes(72) + (0x207FFFFF).to_bytes(4, "little") + bytes(4)) == 2


@pytest.mark.parametrize("flag", [0, 2, 3, 8, 9, 255])
def test_an_unknown_flag_is_refused(flag: int) -> None:
    strange = WITNESSED.raw[:5] + bytes((flag,)) + WITNESSED.raw[6:]
    with pytest.raises(Malformed, match="unknown flag"):
        parse_block(bytes(80) + b"\1" + strange, REGTEST)


def test_lengths_have_one_spelling_and_a_limit() -> None:
    assert compact_size(b"\xfd\xfd\x00", 0) == (253, 3)
    assert compact_size(b"\xfe\x00\x00\x01\x00", 0) == (65536, 5)
    for wrong in ("fdfc00", "feffff0000", "ffffffffff00000000", "fe01000002", "ff" * 9):
        with pytest.raises(Malformed):
            compact_size(bytes.fromhex(wrong), 0)


@pytest.mark.parametrize("size", [0, 1, 79, 80, 81, 100])
def test_a_block_that_breaks_off_is_refused(size: int) -> None:
    with pytest.raises(Malformed):
        parse_block(block(PAYMENT)[:size], REGTEST)


@pytest.mark.pitfall("P102")
def test_a_header_s_own_work_does_for_dogecoin_before_merged_mining() -> None:
    network = NETWORKS["doge", "regtest"]
    prove(block(PAYMENT, network=network), network)
    auxpow = AuxPow(bytes(32), b"", [], 0, [], 0, bytes(80))
    with pytest.raises(NotProved):
        prove_auxpow(bytes(32), auxpow, 0x62)
