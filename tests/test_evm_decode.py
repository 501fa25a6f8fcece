"""Which transfers an EVM block holds: the rules of their identity, and what is no transfer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from indexer.chains import NATIVE, Transfer
from indexer.chains.answers import NotProved
from indexer.chains.evm_codec import NATIVE_MIRRORS
from indexer.chains.evm_proof import Execution, Log, transfer_logs
from indexer.chains.evm_trace import Payment, bind_traces, payments
from indexer.chains.evm_transaction import created_address, raw_transaction
from indexer.chains.evm_trie import keccak
from indexer.chains.evm_wire import WireFrame, WireLog, WireTrace, octets
from indexer.chains.transfer_event import TRANSFER_TOPIC, read_transfer, recipients
from tests.evm_samples import (
    ALICE,
    BOB,
    CAROL,
    TOKEN,
    decode,
    execution,
    transaction,
    transfer_log,
    word,
)

ETHER = 10**18
HASH = b"\x11" * 32


def native(recipient: bytes, units: int, ordinal: int = 0, **fields: Any) -> Transfer:
    return Transfer(HASH, NATIVE, recipient, ordinal, units, **{"sender": ALICE, **fields})


def token(recipient: bytes, units: int, ordinal: int = 0, **fields: Any) -> Transfer:
    return Transfer(HASH, TOKEN, recipient, ordinal, units, **{"sender": ALICE, **fields})


def wire(log: Log) -> WireLog:
    """The log as a node shows it."""
    shown = {
        "address": "0x" + log.address.hex(),
        "topics": ["0x" + topic.hex() for topic in log.topics],
        "data": "0x" + log.data.hex(),
    }
    place = ("blockHash", "blockNumber", "transactionHash", "transactionIndex", "logIndex")
    return msgspec.convert({**shown, **dict.fromkeys(place, "0x0")}, WireLog)


# ---------------------------------------------------------------- what was executed


@pytest.mark.pitfall("P1", "P26")
def test_a_failed_transaction_moves_nothing() -> None:
    failed = execution(transfer_log(BOB, 5), status=False, tx=transaction(value=hex(5 * ETHER)))
    assert decode(failed, payments=[[Payment(CAROL, BOB, 7)]]) == []


@pytest.mark.pitfall("P2")
def test_before_byzantium_everything_is_held() -> None:
    old = execution(transfer_log(BOB, 5), status=None, tx=transaction(value=hex(ETHER)))
    assert decode(old, payments=[[Payment(CAROL, BOB, 7)]]) == [
        native(BOB, ETHER, odd=True),
        native(BOB, 7, ordinal=1, sender=CAROL, odd=True),
        token(BOB, 5, odd=True),
    ]


@pytest.mark.pitfall("P3", "P5", "P38")
def test_calldata_is_no_evidence() -> None:
    calldata = "0xa9059cbb" + word(BOB).hex() + word(1000).hex()
    assert decode(execution(tx=transaction(to="0x" + TOKEN.hex(), input=calldata))) == []


@pytest.mark.pitfall("P4", "P5", "P37")
def test_a_log_counts_whoever_was_called() -> None:
    batch = execution(
        *(transfer_log(to, 10 + at, sender=CAROL) for at, to in enumerate((ALICE, BOB))),
        tx=transaction(to="0x" + "99" * 20),
    )
    assert decode(batch) == [token(ALICE, 10, sender=CAROL), token(BOB, 11, sender=CAROL)]


# ---------------------------------------------------------------- which contract, which shape


@pytest.mark.pitfall("P6", "P8", "P18")
def test_only_listed_contracts_count() -> None:
    mixed = execution(
        transfer_log(BOB, 1), transfer_log(BOB, 10**12, token=b"\x66" * 20), transfer_log(BOB, 2)
    )
    assert decode(mixed) == [token(BOB, 1), token(BOB, 2, ordinal=1)]


@pytest.mark.pitfall("P9")
def test_four_topics_are_an_nft() -> None:
    log = Log(TOKEN, (TRANSFER_TOPIC, word(ALICE), word(BOB), word(10**24)), b"")
    assert decode(execution(log)) == []


def test_other_events_and_anonymous_ones_are_none() -> None:
    approval = Log(TOKEN, (b"\x8c" * 32, word(ALICE), word(BOB)), word(5))
    anonymous = Log(TOKEN, (), word(ALICE) + word(BOB) + word(5))
    transfer = transfer_log(BOB, 5)
    assert transfer_logs(map(wire, (approval, transfer, anonymous))) == (transfer,)


@given(
    st.lists(st.binary(min_size=32, max_size=32), max_size=3),
    st.lists(st.binary(min_size=32, max_size=32), max_size=4),
    st.integers(0, 31),
)
def test_whoever_an_event_may_pay_is_asked_for(
    indexed: list[bytes], words: list[bytes], cut: int
) -> None:
    topics, data = (TRANSFER_TOPIC, *indexed), b"".join(words)[: 128 - cut]
    asked = set(recipients(topics, data))
    assert {reading.recipient for reading in read_transfer(topics, data)} <= asked


@pytest.mark.parametrize(
    ("indexed", "data", "units"),
    [
        ((), word(ALICE) + word(BOB) + word(5), 5),
        ((), word(ALICE) + word(BOB), 0),
        ((word(ALICE),), word(BOB) + word(5), 5),
        ((word(ALICE),), word(BOB), 0),
        ((word(ALICE), b"\xff" * 12 + BOB), word(5), 5),
        ((b"\xff" * 12 + ALICE, word(BOB)), word(5), 5),
        ((word(ALICE), word(BOB)), b"", 0),
        ((word(ALICE), word(BOB)), b"\x05", 0),
        ((word(ALICE), word(BOB)), word(5) + b"\x00", 5),
        ((word(ALICE), word(BOB)), word(5) + word(6), 5),
    ],
)
@pytest.mark.pitfall("P10", "P11")
def test_a_transfer_of_another_shape_is_held(
    indexed: tuple[bytes, ...], data: bytes, units: int
) -> None:
    log = Log(TOKEN, (TRANSFER_TOPIC, *indexed), data)
    assert decode(execution(log), keys={BOB}) == [token(BOB, units, odd=True)]


@pytest.mark.pitfall("P10")
def test_one_indexed_address_may_be_either_of_the_two() -> None:
    log = Log(TOKEN, (TRANSFER_TOPIC, word(BOB)), word(ALICE) + word(5))
    assert decode(execution(log), keys={BOB}) == [token(BOB, 5, odd=True)]


@pytest.mark.pitfall("P11")
@given(topics=st.lists(st.binary(min_size=32, max_size=32), max_size=3), data=st.binary())
def test_no_log_of_a_listed_token_is_credited_unless_its_shape_is_the_standards(
    topics: list[bytes], data: bytes
) -> None:
    found = decode(execution(Log(TOKEN, (TRANSFER_TOPIC, *topics), data)))
    standard = (
        len(topics) == 2 and len(data) == 32 and all(topic[:12] == bytes(12) for topic in topics)
    )
    assert all(transfer.odd is not standard for transfer in found)


@pytest.mark.parametrize("mirror", sorted(NATIVE_MIRRORS))
@pytest.mark.pitfall("P16", "P17")
def test_a_mirror_of_the_native_coin_never_counts(mirror: bytes) -> None:
    paid = execution(transfer_log(BOB, ETHER, token=mirror), tx=transaction(value=hex(ETHER)))
    assert decode(paid, assets={NATIVE, mirror}) == [native(BOB, ETHER)]


# ---------------------------------------------------------------- ordinals


@pytest.mark.pitfall("P21")
def test_equal_transfers_of_one_transaction_are_told_apart() -> None:
    assert decode(execution(*[transfer_log(BOB, 5)] * 3)) == [
        token(BOB, 5, ordinal) for ordinal in range(3)
    ]


@pytest.mark.pitfall("P20", "P21")
def test_what_makes_no_deposit_counts_for_the_ordinal() -> None:
    logs = [
        transfer_log(BOB, 0),
        transfer_log(BOB, 5),
        Log(TOKEN, (TRANSFER_TOPIC, word(ALICE), word(BOB)), b""),
        transfer_log(BOB, 6, sender=BOB),
        transfer_log(CAROL, 9),
        transfer_log(BOB, 7),
    ]
    assert decode(execution(*logs), keys={BOB}) == [
        token(BOB, 5, ordinal=1),
        token(BOB, 0, ordinal=2, odd=True),
        token(BOB, 7, ordinal=4),
    ]


@pytest.mark.pitfall("P22")
def test_the_ordinal_is_the_same_wherever_the_block_puts_the_transaction() -> None:
    other = execution(transfer_log(BOB, 1), tx=transaction(hash="0x" + "77" * 32))
    mine = execution(transfer_log(BOB, 2))
    assert decode(mine)[0] == decode(other, mine)[1] == token(BOB, 2)


def test_each_asset_and_recipient_is_counted_by_itself() -> None:
    second = b"\x71" * 20
    logs = [transfer_log(BOB, 1), transfer_log(BOB, 2, token=second), transfer_log(CAROL, 3)]
    found = decode(execution(*logs, tx=transaction(value="0x4")), assets={NATIVE, TOKEN, second})
    assert {transfer.ordinal for transfer in found} == {0}
    assert len(found) == 4


@pytest.mark.pitfall("P20")
def test_zero_is_no_transfer() -> None:
    assert decode(execution(transfer_log(BOB, 0), tx=transaction(value="0x0"))) == []


def test_what_an_address_sends_to_itself_is_no_transfer() -> None:
    to_self = transaction(value=hex(ETHER), to="0x" + ALICE.hex())
    looped = [[Payment(BOB, BOB, 5)]]
    assert decode(execution(transfer_log(BOB, 5, sender=BOB), tx=to_self), payments=looped) == []


@pytest.mark.pitfall("P42")
def test_the_largest_amount_is_exact() -> None:
    assert decode(execution(transfer_log(BOB, 2**256 - 1)))[0].units == 2**256 - 1


@given(st.lists(st.tuples(st.sampled_from([BOB, CAROL]), st.integers(0, 3)), max_size=12))
def test_ordinals_are_positions_among_all_movements(moves: list[tuple[bytes, int]]) -> None:
    found = decode(execution(*(transfer_log(to, units) for to, units in moves)), keys={BOB})
    to_bob = [units for to, units in moves if to == BOB]
    assert [(t.ordinal, t.units) for t in found] == [
        (at, units) for at, units in enumerate(to_bob) if units
    ]


# ---------------------------------------------------------------- native coin

KEY = "0x" + "46" * 32
SIGNER = octets(Account.from_key(KEY).address)


def signed(**fields: Any) -> Execution:
    """An execution of a signed transaction whose JSON lies about who sent it."""
    given = {"nonce": 3, "gas": 21000, "gasPrice": 9, "value": ETHER, "chainId": 1, **fields}
    done = Account.sign_transaction(given, KEY)
    shown = {name: hex(v) if isinstance(v, int) else v for name, v in given.items()}
    shown.setdefault("to", None)
    if shown.pop("data", None) is not None:
        shown["input"] = given["data"]
    tx = transaction(
        **shown, v=hex(done.v), r=hex(done.r), s=hex(done.s), hash="0x" + done.hash.hex()
    )
    assert keccak(raw_transaction(tx)) == done.hash
    return execution(tx=tx, created=b"\xee" * 20)


@pytest.mark.pitfall("P36")
def test_the_sender_of_a_native_payment_is_its_signer() -> None:
    payment = signed(to="0x" + "12" * 20)
    (found,) = decode(payment, rebuilt=True)
    assert (found.sender, found.recipient, found.units) == (SIGNER, b"\x12" * 20, ETHER)
    (unproved,) = decode(payment, rebuilt=False)
    assert unproved.sender == ALICE


@pytest.mark.pitfall("P34")
def test_a_creations_value_goes_to_the_new_contract() -> None:
    creation = signed(data="0x00")
    (found,) = decode(creation, rebuilt=True)
    assert found.recipient == created_address(SIGNER, 3)
    (unproved,) = decode(creation, rebuilt=False)
    assert unproved.recipient == b"\xee" * 20


def test_a_transaction_that_nobody_signed_has_no_sender() -> None:
    unsigned = transaction(value="0x5", gasPrice="0x0", v="0x0", r="0x0", s="0x0")
    (found,) = decode(execution(tx=unsigned), rebuilt=True)
    assert found == native(BOB, 5, sender=None)


def test_native_coin_is_left_alone_where_it_is_not_followed() -> None:
    paid = execution(transfer_log(BOB, 1), tx=transaction(value=hex(ETHER)))
    assert decode(paid, assets={TOKEN}) == [token(BOB, 1)]


@pytest.mark.parametrize("kind", ["0x0", "0x1", "0x2", "0x3", "0x4", "0x64", "0x99"])
@pytest.mark.pitfall("P33", "P52")
def test_money_is_read_whatever_the_type(kind: str) -> None:
    paid = execution(tx=transaction(value=hex(ETHER), type=kind))
    assert decode(paid) == [native(BOB, ETHER)]


@pytest.mark.pitfall("P50")
def test_an_op_stack_mint_stays_although_its_execution_failed() -> None:
    deposit = {"type": "0x7e", "sourceHash": "0x" + "05" * 32, "mint": hex(ETHER), "value": "0x5"}
    minted = native(ALICE, ETHER, sender=None)
    failed = execution(tx=transaction(**deposit), status=False)
    assert decode(failed, rebuilt=True) == [minted]
    done = execution(tx=transaction(**deposit))
    assert decode(done, rebuilt=True) == [minted, native(BOB, 5)]


@pytest.mark.pitfall("P50")
def test_an_op_stack_deposit_to_oneself_is_one_deposit() -> None:
    bridged = transaction(
        type="0x7e",
        sourceHash="0x" + "05" * 32,
        mint=hex(ETHER),
        value=hex(ETHER),
        to="0x" + ALICE.hex(),
    )
    assert decode(execution(tx=bridged), rebuilt=True) == [native(ALICE, ETHER, sender=None)]


def test_a_mint_is_read_on_op_stack_deposits_only() -> None:
    assert decode(execution(tx=transaction(mint=hex(ETHER)))) == []


@pytest.mark.pitfall("P31", "P32")
def test_what_comes_and_goes_within_a_block_has_come() -> None:
    """The balance is the same after it: swept by the next transaction, or by the same call."""
    paid = execution(tx=transaction(value="0x5"))
    sweep = execution(tx=transaction(value="0x5", to="0x" + CAROL.hex()))
    swept_at_once = [[Payment(BOB, CAROL, 5)], []]
    for payments_of in ([], swept_at_once):
        found = decode(paid, sweep, payments=payments_of)
        assert [each.units for each in found if each.recipient == BOB] == [5]


@pytest.mark.pitfall("P24")
def test_the_own_value_comes_before_internal_ones() -> None:
    paid = execution(tx=transaction(value="0x5"))
    internal = [[Payment(CAROL, BOB, 6), Payment(CAROL, BOB, 7)]]
    assert decode(paid, payments=internal) == [
        native(BOB, 5),
        native(BOB, 6, ordinal=1, sender=CAROL),
        native(BOB, 7, ordinal=2, sender=CAROL),
    ]


# ---------------------------------------------------------------- traces


def frame(kind: str = "CALL", *calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "from": "0x" + CAROL.hex(),
        "to": "0x" + BOB.hex(),
        "value": "0x0",
        "calls": list(calls),
        **fields,
    }


def walked(root: dict[str, Any]) -> list[int]:
    return [paid.units for paid in payments(msgspec.convert(root, WireFrame))]


@pytest.mark.pitfall("P25")
def test_a_reverted_call_takes_everything_below_it_along() -> None:
    good = frame("CALL", value="0x2")
    bad = frame("CALL", frame("CALL", value="0x64"), value="0x9", error="execution reverted")
    assert walked(frame("CALL", good, bad, value="0x7")) == [2]


@pytest.mark.pitfall("P25")
def test_calls_are_read_in_the_order_of_execution() -> None:
    first = frame("CALL", frame("CALL", value="0x2"), frame("CALL", value="0x3"), value="0x1")
    assert walked(frame("CALL", first, frame("CALL", value="0x4"))) == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL"])
@pytest.mark.pitfall("P25")
def test_calls_that_move_nothing_are_walked_but_not_counted(kind: str) -> None:
    assert walked(frame("CALL", frame(kind, frame("CALL", value="0x2"), value="0x64"))) == [2]


@pytest.mark.parametrize("kind", ["CALL", "CREATE", "CREATE2", "SELFDESTRUCT"])
@pytest.mark.pitfall("P24", "P27", "P34")
def test_calls_that_move_value_are_counted(kind: str) -> None:
    assert walked(frame("CALL", frame(kind, value="0x3"))) == [3]


@pytest.mark.pitfall("P27")
def test_a_contract_that_destroys_itself_in_its_own_favour_pays_nothing() -> None:
    itself = frame("SELFDESTRUCT", value="0x3", to="0x" + CAROL.hex())
    assert walked(frame("CALL", itself)) == []


def test_a_call_without_value_or_calls_is_nothing() -> None:
    bare = frame()
    del bare["value"], bare["calls"]
    assert walked(frame("CALL", bare)) == []


def test_the_deepest_call_is_found_without_recursion() -> None:
    root = frame("CALL", value="0x1")
    for _ in range(1023):
        root = frame("CALL", root)
    assert walked(root) == [1]


def bound(root: dict[str, Any], done: Execution, **entry: Any) -> list[tuple[Payment, ...]]:
    trace = msgspec.convert({"result": root, **entry}, WireTrace)
    return bind_traces([done], [trace])


def test_a_trace_belongs_to_its_transaction() -> None:
    done = execution(tx=transaction(value="0x5"))
    root = frame("CALL", frame("CALL", value="0x2"), value="0x5", **{"from": "0x" + ALICE.hex()})
    assert bound(root, done, txHash="0x" + "11" * 32) == [(Payment(CAROL, BOB, 2),)]
    for wrong in (
        {"from": "0x" + BOB.hex()},
        {"to": "0x" + CAROL.hex()},
        {"to": None},
        {"value": "0x6"},
        {"value": None},
        {"error": "execution reverted"},
    ):
        with pytest.raises(NotProved):
            bound({**root, **wrong}, done)
    with pytest.raises(NotProved, match="is that of transaction"):
        bound(root, done, txHash="0x" + "12" * 32)
    with pytest.raises(NotProved, match="is missing"):
        bind_traces([done], [msgspec.convert({"error": {"code": -32000}}, WireTrace)])
    with pytest.raises(NotProved, match="1 transactions have 0 traces"):
        bind_traces([done], [])


@pytest.mark.pitfall("P26")
def test_a_failed_transactions_trace_is_not_walked() -> None:
    failed = execution(status=False)
    root = frame("CALL", frame("CALL", value="0x2"), **{"from": "0x" + ALICE.hex()})
    assert bound(root, failed) == [()]


def test_a_creations_trace_starts_at_the_new_contract() -> None:
    creation = execution(tx=transaction(to=None), created=BOB)
    root = frame("CREATE", **{"from": "0x" + ALICE.hex()})
    assert bound(root, creation) == [()]
    with pytest.raises(NotProved):
        bound({**root, "to": "0x" + CAROL.hex()}, creation)


def test_a_payment_to_nobody_is_refused() -> None:
    with pytest.raises(NotProved, match="no recipient"):
        walked(frame("CALL", frame("CALL", value="0x2", to=None)))
