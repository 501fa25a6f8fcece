"""What counts as a transfer in a TRON block, and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from indexer.chains import NATIVE, Transfer
from indexer.chains.answers import Malformed, Missing, NotProved
from indexer.chains.evm_proof import Log
from indexer.chains.protobuf import Message, field, string
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.chains.tron_codec import PREFIX
from indexer.chains.tron_decode import transfers
from indexer.chains.tron_proof import RESULTS
from indexer.chains.tron_transaction import created_address, read_order
from indexer.devnet.evm_contracts import call_data
from indexer.devnet.evm_machine import Frame
from indexer.devnet.tron_block import Block, Executed
from indexer.devnet.tron_wallet import DELEGATE, Value
from tests.evm_samples import Watching
from tests.tron_samples import (
    ALICE,
    BOB,
    CAROL,
    PAYER,
    TRC10,
    USDT,
    VAULT,
    calls,
    found_in,
    inner,
    pays,
    pays_trc10,
    read,
    sealed,
    shown,
    signed,
    transfer_log,
    transfers_usdt,
)

FAILURES = [name for name in RESULTS if name not in ("SUCCESS", "DEFAULT")]


def altered(block: Block, *ret: list[Any], **info: Any) -> list[Transfer]:
    """Transfers of a one-transaction block, if the node said this of its end instead."""
    json, infos = copy.deepcopy(block.json), copy.deepcopy(block.infos)
    for said in ret:
        json["transactions"][0]["ret"] = said
    infos[0].update(info)
    kept = {name: value for name, value in infos[0].items() if value is not None}
    return transfers(read(json, [kept]), Watching((NATIVE, USDT), (ALICE,)))


# ------------------------------------------------------------------ what counts


def test_a_transfer_of_trx_counts() -> None:
    (found,) = found_in(pays(5), pays(7, BOB))
    assert found == Transfer(found.tx, NATIVE, ALICE, 0, 5, PAYER.address)


@pytest.mark.pitfall("P70", "P82")
def test_a_token_counts_by_its_log_and_the_log_says_from_whom() -> None:
    (found,) = found_in(calls(VAULT, logs=[transfer_log(9)]), pays(1, BOB))
    assert (found.asset, found.units, found.sender, found.odd) == (USDT, 9, BOB, False)


@pytest.mark.pitfall("P70")
def test_neither_call_data_nor_another_contract_counts() -> None:
    data = call_data("transfer(address,uint256)", ALICE, 10**12)
    assert found_in(calls(USDT, data=data)) == []  # no log: it returned false
    assert found_in(calls(VAULT, logs=[transfer_log(10**12, token=VAULT)])) == []


@pytest.mark.pitfall("P75")
def test_an_address_with_the_prefix_in_its_word_is_the_same_address() -> None:
    sender, recipient = (bytes(11) + PREFIX + key for key in (BOB, ALICE))
    log = Log(USDT, (TRANSFER_TOPIC, sender, recipient), bytes(31) + b"\1")
    (found,) = found_in(calls(logs=[log]))
    assert found == Transfer(found.tx, USDT, ALICE, 0, 1, BOB)


def test_a_transfer_in_another_shape_is_held() -> None:
    log = transfer_log(9)
    long = Log(USDT, log.topics, log.data + bytes(32))
    dirty = Log(USDT, (*log.topics[:2], b"\xff" * 12 + ALICE), log.data)
    nft = Log(USDT, (*log.topics, bytes(32)), b"")
    assert shown(found_in(calls(logs=[long, dirty, nft]))) == [(USDT, 9, True)] * 2


@pytest.mark.pitfall("P69")
def test_a_trc10_token_counts_by_its_id_and_never_by_its_name() -> None:
    assert shown(found_in(pays_trc10(4))) == [(TRC10, 4, False)]
    assert found_in(pays_trc10(10**12, asset=b"1009999")) == []
    assert found_in(pays_trc10(10**12, asset=b"USDT"), assets=(NATIVE, USDT, b"USDT")) == []
    assert found_in(pays_trc10(10**12, asset=USDT)) == []  # a name of 20 bytes
    assert found_in(pays_trc10(10**12, asset=b"")) == []


@pytest.mark.pitfall("P71", "P84")
def test_amounts_that_are_not_of_trx_are_no_trx() -> None:
    values: dict[str, Value] = {"balance": 10**9, "resource": 1}
    values["receiver_address"] = PREFIX + ALICE
    delegated = Executed(signed(DELEGATE, values), "SUCCESS", 0, [], None, [])
    assert found_in(pays_trc10(10**9), delegated, assets=(NATIVE,)) == []


@pytest.mark.pitfall("P73")
def test_what_contracts_pay_counts_after_what_the_transaction_pays() -> None:
    executed = calls(ALICE, value=3, inner=[inner(5), inner(0), inner(6, BOB), inner(7)])
    found = found_in(executed)
    assert [(t.units, t.ordinal, t.sender) for t in found] == [
        (3, 0, PAYER.address),
        (5, 1, VAULT),
        (7, 2, VAULT),
    ]


@pytest.mark.pitfall("P73")
def test_only_calls_creations_and_suicides_move_funds() -> None:
    block = sealed(calls(inner=[inner(822)]))
    said = block.infos[0]["internal_transactions"][0]
    for note, units in (("call", 822), ("create", 822), ("suicide", 822), ("voteWitness", 0)):
        said["note"] = note.encode().hex()
        found = transfers(read(block.json, block.infos), Watching((NATIVE,), (ALICE,)))
        assert sum(each.units for each in found) == units


@pytest.mark.pitfall("P73", "P69")
def test_contracts_pay_trc10_tokens_by_id() -> None:
    block = sealed(calls(inner=[inner(1)], call_token_value=8, token_id=int(TRC10)))
    block.infos[0]["internal_transactions"][0]["callValueInfo"] = [
        {"callValue": 1},
        {"callValue": 2, "tokenId": TRC10.decode()},
        {"callValue": 4, "tokenId": "1009999"},
        {"callValue": 16, "tokenId": "USDT"},
    ]
    watch = Watching((NATIVE, TRC10), (ALICE, VAULT))
    found = transfers(read(block.json, block.infos), watch)
    assert [(t.recipient, t.asset, t.units) for t in found] == [
        (VAULT, TRC10, 8),
        (ALICE, NATIVE, 1),
        (ALICE, TRC10, 2),
    ]


@pytest.mark.pitfall("P74")
def test_a_rejected_payment_did_not_happen_nor_did_what_is_below_it() -> None:
    refused = inner(1_000, error="REVERT", calls=[inner(2_000)])
    assert shown(found_in(calls(inner=[refused, inner(1)]))) == [(NATIVE, 1, False)]


def test_ordinals_count_what_makes_no_deposit() -> None:
    logs = [transfer_log(0), transfer_log(5, sender=ALICE), transfer_log(6), transfer_log(6)]
    assert [(t.units, t.ordinal) for t in found_in(calls(logs=logs))] == [(6, 2), (6, 3)]


def test_a_creation_pays_the_contract_that_it_makes() -> None:
    owner = PREFIX + BOB
    new = field(1, owner) + field(5, 36)
    parameter = field(2, field(1, owner) + string(2, new))
    raw = field(11, field(1, 30) + field(2, parameter))
    (payment,) = read_order(raw, b"\x11" * 32).payments
    assert (payment.recipient, payment.units) == (created_address(b"\x11" * 32, owner), 36)


@pytest.mark.pitfall("P84")
def test_a_shielded_transfer_to_a_plain_address_is_held() -> None:
    contract = field(6, PREFIX + ALICE) + field(7, 44)
    raw = field(11, field(1, 51) + field(2, field(2, contract)))
    (payment,) = read_order(raw, bytes(32)).payments
    assert (payment.recipient, payment.units, payment.odd) == (ALICE, 44, True)


def test_several_contracts_in_one_transaction_are_held() -> None:
    one = Message(pays(1).transaction.raw).octets(11)
    order = read_order(field(11, one) + field(11, one), bytes(32))
    assert [(p.units, p.odd) for p in order.payments] == [(1, True), (1, True)]


@pytest.mark.pitfall("P83", "P85")
def test_memo_permission_and_signatures_change_nothing() -> None:
    plain = pays(5).transaction.raw
    contract = Message(plain).octets(11)
    raw = field(10, b" 123") + field(11, contract + field(5, 2))
    assert read_order(raw, bytes(32)) == read_order(plain, bytes(32))


# ------------------------------------------------------------------ what was executed


@pytest.mark.parametrize("result", FAILURES)
@pytest.mark.pitfall("P67")
def test_a_failed_transaction_moves_nothing(result: str) -> None:
    block = sealed(transfers_usdt(10**12, result=result), pays(1, result=result))
    assert "log" in block.infos[0]  # as if the node had kept them
    assert transfers(read(block.json, block.infos), Watching((NATIVE, USDT))) == []


@pytest.mark.parametrize(
    "ret",
    [
        [],
        [{}],
        [{"contractRet": "DEFAULT"}],
        [{"contractRet": "SUCCESS"}, {"contractRet": "SUCCESS"}],
    ],
)
@pytest.mark.pitfall("P67")
def test_where_nobody_says_how_it_ended_it_is_held(ret: list[Any]) -> None:
    assert shown(altered(sealed(pays(5)), ret)) == [(NATIVE, 5, True)]


@pytest.mark.pitfall("P67")
def test_an_unknown_end_is_no_success() -> None:
    assert altered(sealed(pays(5)), [{"contractRet": "UNRECOGNIZED"}]) == []
    assert altered(sealed(pays(5)), [{"contractRet": 99}]) == []


@pytest.mark.pitfall("P68")
def test_a_transfer_has_no_result_in_its_receipt_and_counts() -> None:
    block = sealed(pays(5))
    assert "result" not in block.infos[0]
    assert "result" not in block.infos[0]["receipt"]
    assert shown(altered(block, receipt=None)) == [(NATIVE, 5, False)]


@pytest.mark.pitfall("P68")
def test_a_call_without_a_result_in_its_receipt_is_held() -> None:
    block = sealed(transfers_usdt(5))
    assert shown(altered(block, receipt={"net_usage": 1})) == [(USDT, 5, True)]


@pytest.mark.parametrize(
    ("executed", "info"),
    [
        (transfers_usdt(5), {"result": "FAILED"}),
        (pays(5), {"result": "FAILED"}),
        (transfers_usdt(5), {"receipt": {"result": "OUT_OF_ENERGY"}}),
        (transfers_usdt(5, result="REVERT"), {"receipt": {"result": "SUCCESS"}}),
    ],
)
@pytest.mark.pitfall("P68")
def test_a_block_and_an_info_that_contradict_each_other_are_not_believed(
    executed: Executed, info: dict[str, Any]
) -> None:
    with pytest.raises(NotProved, match="by its block"):
        altered(sealed(executed), **info)


# ------------------------------------------------------------------ infos


@pytest.mark.pitfall("P76", "P68")
def test_infos_are_complete_or_the_block_waits() -> None:
    block = sealed(pays(1), pays(2), pays(3))
    foreign = sealed(pays(4)).infos
    for infos in ([], block.infos[:2], [*block.infos[:2], *foreign], [*block.infos, *foreign]):
        with pytest.raises(Missing, match="has infos of"):
            read(block.json, infos)
    with pytest.raises(Missing):
        read(block.json, [*block.infos[:2], block.infos[0]])


@pytest.mark.pitfall("P77")
def test_infos_in_another_order_change_nothing() -> None:
    block = sealed(pays(1), transfers_usdt(2), calls(inner=[inner(3)]), pays(4, CAROL))
    assert read(block.json, block.infos) == read(block.json, block.infos[::-1])


@pytest.mark.parametrize("field_name", ["blockNumber", "blockTimeStamp"])
def test_the_info_of_another_block_is_not_believed(field_name: str) -> None:
    with pytest.raises(NotProved, match="of another block"):
        altered(sealed(pays(5)), **{field_name: 1})


@pytest.mark.pitfall("P82")
def test_what_java_tron_leaves_out_is_empty() -> None:
    block = sealed(calls(logs=[Log(USDT, transfer_log(0).topics, b"")]))
    assert "data" not in block.infos[0]["log"][0]
    assert shown(altered(block)) == [(USDT, 0, True)]
    assert altered(block, log=None, contractResult=None, internal_transactions=None) == []


def test_what_is_no_address_is_not_believed() -> None:
    with pytest.raises(Malformed):
        altered(sealed(calls()), log=[{"address": "40" + "00" * 20, "topics": [], "data": ""}])


@pytest.mark.pitfall("P26")
def test_frames_are_shown_as_java_tron_shows_internal_transactions() -> None:
    borrowed = Frame("DELEGATECALL", VAULT, BOB, 9, b"", calls=[inner(5)])
    said = sealed(calls(inner=[borrowed])).infos[0]["internal_transactions"]
    assert [each["callValueInfo"] for each in said] == [[{}], [{"callValue": 5}]]
