"""Proofs of EVM blocks: what is true passes, what was altered does not."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from indexer.chains import NATIVE
from indexer.chains.answers import Malformed, NotProved
from indexer.chains.evm_decode import transfers
from indexer.chains.evm_proof import (
    Log,
    bloom,
    header_hash,
    prove,
    prove_bloom,
    receipts_root,
    transactions_root,
)
from indexer.chains.evm_transaction import created_address, raw_transaction, recover_sender
from indexer.chains.evm_trie import EMPTY_ROOT, keccak, rlp_bytes, rlp_int, rlp_list, trie_root
from indexer.chains.evm_wire import (
    WireBlock,
    WireHeader,
    WireReceipt,
    WireTransaction,
    octets,
    quantity,
    sized,
)
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.model import Unavailable
from tests.evm_samples import (
    BLOCK,
    FRAMES,
    RECEIPTS,
    USDC,
    USDT,
    Watching,
    load,
    read,
    recorded,
    simulated,
    transaction,
)

# USDT and USDC Transfer logs of each recorded block, by height (its manifest's counts).
COUNTS = {
    468179: (0, 0),
    4370006: (0, 0),
    4404763: (0, 0),
    7280016: (0, 0),
    11098450: (43, 6),
    13998626: (0, 0),
    14764013: (6, 5),
    15537393: (0, 0),
    15537394: (0, 4),
    15547621: (32, 30),
    15753009: (18, 16),
    17034869: (3, 3),
    17034870: (19, 14),
    17053184: (12, 3),
    19426586: (12, 11),
    19426587: (5, 1),
    22162263: (28, 46),
    22431083: (95, 39),
    22431084: (29, 15),
}

# Mainnet's genesis block, as any node shows it.
GENESIS: dict[str, Any] = {
    "hash": "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
    "parentHash": "0x" + "00" * 32,
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x" + "00" * 20,
    "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
    "transactionsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "receiptsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "logsBloom": "0x" + "00" * 256,
    "difficulty": "0x400000000",
    "number": "0x0",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "timestamp": "0x0",
    "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x0000000000000042",
    "transactions": [],
}


# ---------------------------------------------------------------- recorded blocks


@pytest.mark.parametrize("path", recorded())
@pytest.mark.pitfall("P33", "P56", "P65")
def test_every_recorded_block_proves_and_decodes(path: Path) -> None:
    answers = load(path)
    content = read(answers)
    counts, moving = [], 0
    for token in ("0x" + USDT.hex(), "0x" + USDC.hex()):
        logs = [
            [*log["topics"][1:], int(log["data"], 16)]
            for receipt in answers[RECEIPTS]
            for log in receipt["logs"]
            if log["address"] == token
            and len(log["topics"]) == 3
            and log["topics"][0].startswith("0xddf252ad")
        ]
        counts.append(len(logs))
        moving += sum(units > 0 and sender != recipient for sender, recipient, units in logs)
    assert tuple(counts) == COUNTS[quantity(answers[BLOCK]["number"])]
    found = transfers(content, Watching({USDT, USDC}))
    assert len(found) == moving
    assert not any(transfer.odd for transfer in found)


@pytest.mark.parametrize("path", recorded())
def test_every_signer_is_recovered(path: Path) -> None:
    for tx in msgspec.convert(load(path)[BLOCK], WireBlock).transactions:
        assert recover_sender(tx) == octets(tx.sender)


# ---------------------------------------------------------------- alterations

# Fields that nothing commits to, or that nothing reads: see evm_proof's docstring.
UNREAD = {
    BLOCK: {"size", "totalDifficulty", "uncles"},
    "transactions": {"gasPrice"},  # of types 2 to 4: what was paid in the end
    "legacy": {"chainId"},  # part of `v`
    RECEIPTS: {"gasUsed", "effectiveGasPrice", "blobGasUsed", "blobGasPrice"},
    FRAMES: {"gas", "gasUsed", "input", "output", "time", "type"},
}


def is_believed(path: tuple[Any, ...]) -> bool:
    """Below a trace's root nothing is committed to: it is believed, or traces are not asked for."""
    return path[0] == FRAMES and "calls" in path


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to every value of a JSON text, and to every list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        yield path
        for at, value in enumerate(node):
            yield from leaves(value, (*path, at))
    else:
        yield path


def altered(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, list):
        return value[:-1] if value else ["0x" + "00" * 32]
    if isinstance(value, bool):
        return not value
    if value is None:
        return "0x" + "00" * 20
    if len(value) <= 2:
        return "0x01"
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def put(answers: dict[str, Any], path: tuple[Any, ...], change: Callable[[Any], Any]) -> None:
    """Change the value at a path, in place."""
    *above, last = path
    node: Any = answers
    for step in above:
        node = node[step]
    node[last] = change(node[last])


def drop(answers: dict[str, Any], path: tuple[Any, ...]) -> None:
    *above, last = path
    node: Any = answers
    for step in above:
        node = node[step]
    del node[last]


def refused(answers: dict[str, Any]) -> bool:
    try:
        read(answers)
    except (Unavailable, msgspec.ValidationError):
        return True
    return False


def is_unread(answers: dict[str, Any], path: tuple[Any, ...]) -> bool:
    """Whether the field at a path is one that no decision reads."""
    method, *rest = path
    if method == FRAMES:
        # How a failed transaction failed is its own affair: its receipt says that it did.
        failed = len(rest) == 2 and answers[RECEIPTS][rest[0]].get("status") == "0x0"
        return len(rest) == 2 and (rest[1] in UNREAD[FRAMES] or (failed and rest[1] == "error"))
    if method == BLOCK and rest[:1] == ["transactions"] and len(rest) > 2:
        legacy = quantity(answers[BLOCK]["transactions"][rest[1]].get("type", "0x0")) == 0
        dynamic = quantity(answers[BLOCK]["transactions"][rest[1]].get("type", "0x0")) >= 2
        return (legacy and rest[2] in UNREAD["legacy"]) or (
            dynamic and rest[2] in UNREAD["transactions"]
        )
    if method == BLOCK:
        return rest[0] in UNREAD[BLOCK]
    return len(rest) == 2 and rest[1] in UNREAD[RECEIPTS]


def everything(answers: dict[str, Any]) -> Any:
    content = read(answers)
    assets = {log.address for execution in content.executions for log in execution.logs}
    return transfers(content, Watching({NATIVE, *assets}))


def reach(path: tuple[Any, ...], answers: dict[str, Any]) -> None:
    """Alter one value: refused if any decision reads it, else without any effect."""
    changed = copy.deepcopy(answers)
    put(changed, path, altered)
    if is_unread(answers, path):
        assert everything(changed) == everything(answers), path
    else:
        assert refused(changed), path


def test_every_single_alteration_of_a_simulated_block_is_refused() -> None:
    answers = simulated()
    checked = [leaf for leaf in leaves(answers) if not is_believed(leaf)]
    for where in checked:
        reach(where, answers)
    assert {where[0] for where in checked} == {BLOCK, RECEIPTS, FRAMES}
    assert len(checked) > 200


def rewritten(answers: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Everything the node says, with one hash replaced wherever it stands."""
    text = json.dumps(answers)
    assert text.count(old) > 1
    changed: dict[str, Any] = json.loads(text.replace(old, new))
    return changed


@pytest.mark.pitfall("P23", "P65")
def test_a_transactions_hash_cannot_be_renamed_everywhere() -> None:
    answers = simulated()
    real = answers[BLOCK]["transactions"][0]["hash"]
    with pytest.raises(NotProved, match="its transaction 0x0 gives"):
        read(rewritten(answers, real, "0x" + "ab" * 32))


@pytest.mark.pitfall("P65")
def test_a_value_cannot_be_altered_together_with_all_hashes_of_it() -> None:
    answers = simulated()
    tx = answers[BLOCK]["transactions"][0]
    real, tx["value"] = tx["hash"], hex(int(tx["value"], 16) + 1)
    forged = keccak(raw_transaction(msgspec.convert(tx, WireTransaction)))
    with pytest.raises(NotProved, match="its transactions root gives"):
        read(rewritten(answers, real, "0x" + forged.hex()))


@pytest.mark.parametrize("path", recorded("13998626"))
@pytest.mark.pitfall("P56", "P62", "P65", "P128")
def test_every_single_alteration_of_a_block_is_refused(path: Path) -> None:
    answers = load(path)
    checked = [leaf for leaf in leaves(answers) if not is_believed(leaf)]
    for where in checked:
        reach(where, answers)
    assert len(checked) > 400


@pytest.mark.parametrize("path", recorded("22162263"))
@pytest.mark.pitfall("P33")
def test_every_alteration_of_the_newer_types_is_refused(path: Path) -> None:
    answers = load(path)
    kinds = [quantity(tx["type"]) for tx in answers[BLOCK]["transactions"]]
    for kind in (1, 2, 3):
        at = kinds.index(kind)
        for method, where in ((BLOCK, ("transactions", at)), (RECEIPTS, (at,))):
            node: Any = answers[method]
            for step in where:
                node = node[step]
            fields = {key: node[key] for key in node if key != "logs"}
            for leaf in leaves(fields, (method, *where)):
                reach(leaf, answers)
    for leaf in leaves(answers[BLOCK]["withdrawals"][:2], (BLOCK, "withdrawals")):
        reach(leaf, answers)


@pytest.mark.parametrize("path", recorded("15753009"))
@pytest.mark.pitfall("P22", "P56")
def test_alterations_anywhere_in_a_large_block_are_refused(path: Path) -> None:
    answers = load(path)
    provable = [
        leaf for leaf in leaves(answers) if not is_believed(leaf) and not is_unread(answers, leaf)
    ]
    for leaf in random.Random(15753009).sample(provable, 60):
        reach(leaf, answers)


@pytest.mark.parametrize("path", recorded("13998626"))
@pytest.mark.pitfall("P128")
def test_a_field_left_out_is_refused_or_changes_nothing(path: Path) -> None:
    answers = load(path)
    whole = everything(answers)
    for where in leaves(answers):
        if is_believed(where) or len(where) == 1:
            continue
        changed = copy.deepcopy(answers)
        drop(changed, where)
        if not refused(changed):
            assert everything(changed) == whole, where


@pytest.mark.parametrize("path", recorded("11098450"))
@pytest.mark.pitfall("P23", "P56", "P57")
def test_receipts_swapped_or_of_another_block_are_refused(path: Path) -> None:
    answers = load(path)
    swapped = copy.deepcopy(answers)
    receipts = swapped[RECEIPTS]
    receipts[0], receipts[1] = receipts[1], receipts[0]
    assert refused(swapped)
    renamed = copy.deepcopy(answers)
    for receipt in renamed[RECEIPTS]:
        receipt["blockHash"] = "0x" + "ab" * 32
    assert refused(renamed)
    emptied = copy.deepcopy(answers)
    emptied[RECEIPTS] = []
    assert refused(emptied)


@pytest.mark.parametrize("path", recorded("13998626"))
def test_a_spelling_is_not_an_alteration(path: Path) -> None:
    answers = load(path)
    shouted = copy.deepcopy(answers)
    for log in shouted[RECEIPTS][1]["logs"]:
        log["address"] = "0x" + log["address"][2:].upper()
        log["topics"] = ["0x" + topic[2:].upper() for topic in log["topics"]]
    assert everything(shouted) == everything(answers)


# ---------------------------------------------------------------- header


def test_the_genesis_block_of_mainnet_proves() -> None:
    assert prove(msgspec.convert(GENESIS, WireBlock), []) == []


def header(**fields: str | None) -> WireHeader:
    return msgspec.convert({**GENESIS, **fields}, WireHeader)


def test_fields_of_later_forks_are_hashed_in_order_while_present() -> None:
    later = ["0x7", "0x" + "1a" * 32, "0x1", "0x2", "0x" + "1b" * 32, "0x" + "1c" * 32]
    names = [
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ]
    first = [
        octets(GENESIS[name]) for name in ("parentHash", "sha3Uncles", "miner", "stateRoot")
    ] + [octets(GENESIS["transactionsRoot"]), octets(GENESIS["receiptsRoot"])]
    rest: list[Any] = [bytes(256), 0x400000000, 0, 5000, 0, 0]
    rest += [octets(GENESIS["extraData"]), bytes(32), octets(GENESIS["nonce"])]
    values = [7, b"\x1a" * 32, 1, 2, b"\x1b" * 32, b"\x1c" * 32]
    for count in range(len(names) + 1):
        given = dict(zip(names[:count], later[:count], strict=True))
        expected = keccak(rlp.encode([*first, *rest, *values[:count]]))
        assert header_hash(header(**given)) == expected
    # One that a fork skipped counts as empty, and nulls at the end as absent.
    gap = header(baseFeePerGas="0x7", blobGasUsed="0x1", requestsHash=None)
    assert header_hash(gap) == keccak(rlp.encode([*first, *rest, 7, b"", 1]))


def test_a_header_without_a_needed_field_says_which() -> None:
    with pytest.raises(NotProved, match="lacks mixHash"):
        header_hash(header(mixHash=None))


def test_a_header_with_a_field_of_an_unknown_fork_does_not_prove() -> None:
    unknown = keccak(rlp.encode([b"\x01"]))
    block = msgspec.convert({**GENESIS, "hash": "0x" + unknown.hex()}, WireBlock)
    with pytest.raises(NotProved, match=r"height 0\) does not prove: its header gives"):
        prove(block, [])


# ---------------------------------------------------------------- transactions

KEY = "0x" + "45" * 32
SIGNER = octets(Account.from_key(KEY).address)
TO = "0x" + "12" * 20
SAMPLES: dict[str, dict[str, Any]] = {
    "legacy": {"gasPrice": 9, "chainId": 1},
    "access list": {
        "type": 1,
        "gasPrice": 9,
        "chainId": 1,
        "accessList": [{"address": TO, "storageKeys": ["0x" + "01" * 32, "0x" + "02" * 32]}],
    },
    "dynamic fee": {"type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 1, "chainId": 137},
    "blob": {
        "type": 3,
        "maxFeePerGas": 9,
        "maxPriorityFeePerGas": 1,
        "chainId": 1,
        "maxFeePerBlobGas": 3,
        "blobVersionedHashes": ["0x01" + "ab" * 31],
    },
    "set code": {"type": 4, "maxFeePerGas": 9, "maxPriorityFeePerGas": 1, "chainId": 1},
}


def signed(kind: str) -> tuple[dict[str, Any], bytes]:
    """A transaction as a node shows it, and its bytes, made by eth-account."""
    fields = {
        "nonce": 3,
        "gas": 21000,
        "to": TO,
        "value": 10**18,
        "data": "0x1234",
        **SAMPLES[kind],
    }
    if kind == "set code":
        grant = {"chainId": 0, "address": TO, "nonce": 7}
        fields["authorizationList"] = [Account.sign_authorization(grant, KEY)]
    done = Account.sign_transaction(fields, KEY)
    shown = {
        name: hex(value) if isinstance(value, int) else value
        for name, value in fields.items()
        if name not in ("data", "authorizationList")
    }
    shown |= {"input": "0x1234", "r": hex(done.r), "s": hex(done.s), "v": hex(done.v)}
    shown |= {"hash": "0x" + done.hash.hex(), "from": "0x" + SIGNER.hex()}
    if kind == "set code":
        auth = fields["authorizationList"][0]
        shown["authorizationList"] = [
            {
                "chainId": hex(auth.chain_id),
                "address": TO,
                "nonce": hex(auth.nonce),
                "yParity": hex(auth.y_parity),
                "r": hex(auth.r),
                "s": hex(auth.s),
            }
        ]
    return shown, bytes(done.raw_transaction)


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.pitfall("P33", "P65")
def test_each_type_is_rebuilt_to_its_bytes_and_its_signer(kind: str) -> None:
    shown, raw = signed(kind)
    tx = transaction(**shown)
    assert raw_transaction(tx) == raw
    assert keccak(raw) == octets(tx.hash)
    assert recover_sender(tx) == SIGNER
    assert transactions_root([tx]) == trie_root([raw])


def test_a_signature_from_before_eip_155_recovers() -> None:
    shown, _ = signed("legacy")
    tx = transaction(**shown)
    unsigned = rlp.encode([3, 9, 21000, octets(TO), 10**18, b"\x12\x34"])
    done = Account.unsafe_sign_hash(keccak(unsigned), KEY)
    tx.r, tx.s, tx.v = hex(done.r), hex(done.s), hex(done.v)
    assert done.v in (27, 28)
    assert recover_sender(tx) == SIGNER


def test_parity_may_be_named_either_way_but_not_two_ways() -> None:
    shown, raw = signed("dynamic fee")
    parity = shown.pop("v")
    assert raw_transaction(transaction(**shown, yParity=parity)) == raw
    assert raw_transaction(transaction(**shown, yParity=parity, v=parity)) == raw
    other = "0x1" if parity == "0x0" else "0x0"
    for wrong in ({}, {"yParity": parity, "v": other}):
        with pytest.raises(NotProved, match="no signature parity, or two"):
            raw_transaction(transaction(**shown, **wrong))


@pytest.mark.pitfall("P33")
def test_an_unknown_type_holds_the_block() -> None:
    shown, _ = signed("dynamic fee")
    with pytest.raises(NotProved, match=r"of the unknown type 0x99: it can't be rebuilt"):
        raw_transaction(transaction(**{**shown, "type": "0x99"}))


def test_what_a_type_needs_and_the_node_leaves_out_is_named() -> None:
    shown, _ = signed("dynamic fee")
    del shown["maxFeePerGas"]
    with pytest.raises(NotProved, match="lacks maxFeePerGas"):
        raw_transaction(transaction(**shown))


def test_a_signature_that_is_none_recovers_nobody() -> None:
    shown, _ = signed("legacy")
    for part in ({"r": "0x0"}, {"v": "0x3"}, {"s": "0x" + "f" * 64}):
        with pytest.raises(NotProved):
            recover_sender(transaction(**{**shown, **part}))


def test_an_op_stack_deposit_is_rebuilt_from_its_own_fields() -> None:
    source, sender = b"\x05" * 32, b"\xa1" * 20
    fields = [source, sender, octets(TO), 10**18, 5, 21000, b"", b"\x12"]
    raw = b"\x7e" + rlp.encode(fields)
    tx = transaction(
        type="0x7e",
        sourceHash="0x" + source.hex(),
        to=TO,
        mint=hex(10**18),
        value="0x5",
        input="0x12",
        nonce="0x44",
        v="0x0",
        r="0x0",
        s="0x0",
    )
    assert raw_transaction(tx) == raw
    assert recover_sender(tx) == sender


def test_a_real_op_stack_deposit_is_rebuilt() -> None:
    # Block 0x100000 of MegaETH's mainnet: the L1 attributes that open every OP-stack block.
    call = [
        "098999be00000558000c5fc50000000000000053000000006922225700000000016c0746",
        "04157764".rjust(64, "0"),
        "1".rjust(64, "0"),
        "f7c63d3b8cb8f194b5ac53452faf9f8c0d14f790e43e85a12558906bbe6a5adf",
        "b98c6b1a805b96707a43e1f1acfa163b68098fa6".rjust(64, "0"),
        "0" * 24,
    ]
    shown = {
        "type": "0x7e",
        "sourceHash": "0x79ab34de993de378f15eafd864cab321ca382dc65b7aa82d0cc10618e68041e6",
        "from": "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001",
        "to": "0x4200000000000000000000000000000000000015",
        "mint": "0x0",
        "gas": "0x5f5e100",
        "input": "0x" + "".join(call),
        "nonce": "0xfffff",
        "hash": "0x243d39c7f6cd74a9a081a6fe4bdfce37ac6136b9454691aeeb9ed77998450cbc",
    }
    tx = transaction(**shown)
    assert keccak(raw_transaction(tx)) == octets(tx.hash)


def test_the_address_of_a_new_contract() -> None:
    # The example that every Ethereum text gives: the first two contracts of 0x6ac7….
    creator = bytes.fromhex("6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0")
    assert created_address(creator, 0).hex() == "cd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_address(creator, 1).hex() == "343c43a37d37dff08ae8c4a11544c718abb4fcf8"


# ---------------------------------------------------------------- receipts


def receipt(**fields: Any) -> WireReceipt:
    given = {
        "transactionHash": "0x" + "11" * 32,
        "transactionIndex": "0x0",
        "blockHash": "0x" + "22" * 32,
        "blockNumber": "0x1",
        "from": "0x" + "a1" * 20,
        "cumulativeGasUsed": "0x5208",
        "logs": [],
        **fields,
    }
    return msgspec.convert(given, WireReceipt)


@pytest.mark.parametrize(
    ("fields", "prefix", "outcome", "extra"),
    [
        ({"status": "0x1"}, b"", b"\x01", []),
        ({"status": "0x0"}, b"", b"", []),
        ({"root": "0x" + "0f" * 32}, b"", b"\x0f" * 32, []),
        ({"status": "0x1", "type": "0x2"}, b"\x02", b"\x01", []),
        # P51: between Regolith and Canyon nodes show a nonce that no root commits to.
        ({"status": "0x1", "type": "0x7e", "depositNonce": "0x4"}, b"\x7e", b"\x01", []),
        (
            {
                "status": "0x1",
                "type": "0x7e",
                "depositNonce": "0x4",
                "depositReceiptVersion": "0x1",
            },
            b"\x7e",
            b"\x01",
            [4, 1],
        ),
    ],
)
@pytest.mark.pitfall("P2", "P51")
def test_receipts_of_every_kind_are_encoded_as_their_root_has_them(
    fields: dict[str, Any], prefix: bytes, outcome: bytes, extra: list[int]
) -> None:
    raw = prefix + rlp.encode([outcome, 21000, bytes(256), [], *extra])
    assert receipts_root([receipt(**fields)]) == trie_root([raw])


def test_a_receipt_that_tells_no_outcome_is_refused() -> None:
    with pytest.raises(NotProved, match="neither status nor root"):
        receipts_root([receipt()])


def test_a_log_is_encoded_with_its_topics_and_filtered_by_all_of_them() -> None:
    log = Log(b"\x70" * 20, (b"\x01" * 32, b"\x02" * 32), b"\x03" * 40)
    bits = int.from_bytes(bloom([log]), "big")
    assert 1 <= bits.bit_count() <= 9
    assert bits == int.from_bytes(bloom([Log(log.address, (), b"")]), "big") | int.from_bytes(
        bloom([Log(log.address, log.topics, b"")]), "big"
    )
    body = [1, 21000, bloom([log]), [[log.address, list(log.topics), log.data]]]
    shown = receipt(status="0x1", logs=[shown_log(log)])
    assert receipts_root([shown]) == trie_root([rlp.encode(body)])


def shown_log(log: Log) -> dict[str, Any]:
    return {
        "address": "0x" + log.address.hex(),
        "topics": ["0x" + topic.hex() for topic in log.topics],
        "data": "0x" + log.data.hex(),
        "blockHash": "0x" + "22" * 32,
        "blockNumber": "0x1",
        "transactionHash": "0x" + "11" * 32,
        "transactionIndex": "0x0",
        "logIndex": "0x0",
    }


@pytest.mark.pitfall("P56")
def test_a_transfer_cannot_hide_in_another_field_of_the_same_bytes() -> None:
    topics = (TRANSFER_TOPIC, b"\xa1" * 32, b"\xb0" * 32)
    log = Log(USDT, topics, bytes(30) + b"\xc0\x80")  # which ends as no topics and no data do
    true = shown_log(log)
    within = "f863" + "".join("a0" + topic.hex() for topic in topics) + "a0" + bytes(30).hex()
    hiding = {**true, "address": true["address"] + within, "topics": [], "data": "0x"}
    bits = {"logsBloom": "0x" + bloom([log]).hex()}
    receipts_root([receipt(status="0x1", logs=[true], **bits)])
    with pytest.raises(Malformed, match="40"):
        receipts_root([receipt(status="0x1", logs=[hiding], **bits)])
    longer = {**true, "topics": [*true["topics"][:2], true["topics"][2] + "00"]}
    with pytest.raises(Malformed, match="64"):
        receipts_root([receipt(status="0x1", logs=[longer], **bits)])


@pytest.mark.pitfall("P59")
def test_a_bloom_without_its_logs_is_refused() -> None:
    log = Log(b"\x70" * 20, (b"\x01" * 32,), b"")
    filled = header(logsBloom="0x" + bloom([log]).hex())
    prove_bloom(filled, [log])
    with pytest.raises(NotProved, match="logs bloom"):
        prove_bloom(filled, [])


# ---------------------------------------------------------------- trie and RLP


def reference_root(values: list[bytes]) -> bytes:
    """The trie straight from its definition: dictionaries of nibbles, no thought of speed."""

    def node(pairs: dict[str, bytes]) -> Any:
        if len(pairs) == 1:
            ((path, value),) = pairs.items()
            return [prefix(path, leaf=True), value]
        shared = 0
        keys = list(pairs)
        while len({key[shared] for key in keys}) == 1:
            shared += 1
        if shared:
            rest = {key[shared:]: value for key, value in pairs.items()}
            return [prefix(keys[0][:shared], leaf=False), pointer(node(rest))]
        return [
            pointer(node({k[1:]: v for k, v in pairs.items() if k[0] == digit}))
            if any(key[0] == digit for key in keys)
            else b""
            for digit in "0123456789abcdef"
        ] + [b""]

    def prefix(path: str, *, leaf: bool) -> bytes:
        flag = 2 * leaf + len(path) % 2
        return bytes.fromhex(f"{flag:x}{'' if len(path) % 2 else '0'}{path}")

    def pointer(child: Any) -> Any:
        encoded = rlp.encode(child)
        return child if len(encoded) < 32 else keccak(encoded)

    if not values:
        return keccak(rlp.encode(b""))
    return keccak(rlp.encode(node({rlp.encode(at).hex(): v for at, v in enumerate(values)})))


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20))
def test_the_root_of_few_values_is_the_definitions(values: list[bytes]) -> None:
    assert trie_root(values) == reference_root(values)


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 127, 128, 129, 130, 256, 257, 1000])
@pytest.mark.parametrize("size", [1, 40])
def test_the_root_of_many_values_is_the_definitions(count: int, size: int) -> None:
    values = [at.to_bytes(2, "big") * size for at in range(1, count + 1)]
    assert trie_root(values) == reference_root(values)


def test_the_root_of_nothing_is_the_known_one() -> None:
    assert trie_root([]) == EMPTY_ROOT == reference_root([])


@given(st.binary(max_size=300))
def test_bytes_are_encoded_as_rlp_has_them(value: bytes) -> None:
    assert rlp_bytes(value) == rlp.encode(value)


@given(st.integers(0, 2**300))
def test_numbers_are_encoded_as_rlp_has_them(value: int) -> None:
    assert rlp_int(value) == rlp.encode(value)


@given(st.lists(st.binary(max_size=100), max_size=8))
def test_lists_are_encoded_as_rlp_has_them(values: list[bytes]) -> None:
    assert rlp_list([rlp_bytes(value) for value in values]) == rlp.encode(values)


# ---------------------------------------------------------------- hex text


@pytest.mark.parametrize("text", ["", "0x", "12", "0xg", "-0x1", "0x-1", "1x2", "0x1" + 64 * "0"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        quantity(text)


@pytest.mark.parametrize("text", ["", "12", "0x1", "0xzz"])
def test_what_is_no_hex_data_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        octets(text)


def test_data_of_another_length_is_refused() -> None:
    with pytest.raises(Malformed, match="is 2 bytes long, not 20"):
        sized("0x1234", 20)


def test_unknown_fields_of_a_transaction_are_no_obstacle() -> None:
    shown, raw = signed("dynamic fee")
    tx = msgspec.convert(
        {**msgspec.to_builtins(transaction(**shown)), "somethingNew": 1}, WireTransaction
    )
    assert raw_transaction(tx) == raw
