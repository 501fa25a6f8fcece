"""The simulated TRON node: its answers are shaped as java-tron's, its chain keeps its own books.

No TRON node can be run here. Blocks are held against recorded mainnet ones, field by field; of
infos, two of one block and one alone are recorded: the rest is generated as java-tron's sources
have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count, pairwise
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from indexer.chains import NATIVE
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_node import TronNode
from indexer.devnet.tron_traffic import TronTraffic
from indexer.devnet.truth import payments
from tests.tron_samples import load

BLOCK = "mainnet_60954080_getblockbynum.json.gz"
INFOS = "mainnet_67325788_gettransactioninfobyblocknum_2tx.json"
ONE_INFO = "mainnet_tx_661f1df8_gettransactioninfobyid.json"
# Fields that are there where they are not 0 or empty.
OPTIONAL = {"call_value", "call_token_value", "token_id", "fee_limit", "data", "rejected"}


def make_traffic(seed: int = 1, steps: int = 40) -> TronTraffic:
    clock = count(1_700_000_000)
    chain = SimulatedTron(seed, lambda: next(clock))
    traffic = TronTraffic(
        chain, [chain.wallet(f"watched {n}").address for n in range(4)], Random(seed)
    )
    for _ in range(steps):
        traffic.step()
    return traffic


def shape(value: Any) -> Any:
    """Keys and kinds of a JSON value; texts by what they can be."""
    match value:
        case dict():
            return {key: shape(each) for key, each in value.items()}
        case list():
            return [shape(each) for each in value[:1]]
        case str() if value and all(char in "0123456789abcdef" for char in value):
            return f"hex {len(value) % 2}"
        case _:
            return type(value).__name__


def by_kind(block: dict[str, Any]) -> dict[str, Any]:
    """A transaction of each contract type."""
    return {tx["raw_data"]["contract"][0]["type"]: tx for tx in block.get("transactions", [])}


def without(value: Any, names: Iterable[str]) -> Any:
    """The same without fields that may be missing, however deep."""
    match value:
        case dict():
            return {k: without(v, names) for k, v in value.items() if k not in names}
        case list():
            return [without(each, names) for each in value]
        case _:
            return value


def test_blocks_have_the_fields_of_recorded_ones(chain_fixtures: Path) -> None:
    real = load(chain_fixtures / "tron" / BLOCK)
    blocks = make_traffic().chain.branch(1)
    ours = next(block.json for block in blocks if block.executed)
    assert ours.keys() == real.keys()
    assert shape(ours["block_header"]) == shape(real["block_header"])
    assert len(ours["block_header"]["witness_signature"]) == 130
    mine = {kind: tx for block in blocks for kind, tx in by_kind(block.json).items()}
    theirs = by_kind(real)
    assert len(mine) == 4
    for kind, tx in mine.items():
        optional = OPTIONAL | {"Permission_id"}
        assert shape(without(tx, optional)) == shape(without(theirs[kind], optional)), kind
    failed = [tx for tx in real["transactions"] if tx["ret"][0]["contractRet"] != "SUCCESS"]
    said = {tx["ret"][0]["contractRet"] for b in blocks for tx in b.json.get("transactions", [])}
    assert {tx["ret"][0]["contractRet"] for tx in failed} <= said == {
        "SUCCESS", "REVERT", "OUT_OF_ENERGY",
    }  # fmt: skip


def test_infos_have_the_fields_of_recorded_ones(chain_fixtures: Path) -> None:
    folder = chain_fixtures / "tron"
    real = [*load(folder / INFOS), load(folder / ONE_INFO)]
    known = {key: shape(value) for info in real for key, value in info.items() if key != "type"}
    receipts = {key for info in real for key in info["receipt"]}
    infos = [info for block in make_traffic().chain.branch(1) for info in block.infos]
    calls = [info for info in infos if "contract_address" in info]
    for info in calls:
        assert info.keys() - {"result", "resMessage"} <= known.keys()
        assert info["receipt"].keys() <= receipts
        for key in ("id", "blockNumber", "blockTimeStamp", "fee"):
            assert shape(info[key]) == known[key]
    logs = [log for info in calls for log in info.get("log", [])]
    real_logs = [log for info in real for log in info["log"]]
    assert {frozenset(log) for log in logs} <= {frozenset(log) for log in real_logs} | {
        frozenset({"address", "topics"})
    }
    assert {len(log["address"]) for log in logs} == {40}
    assert {len(topic) for log in logs for topic in log["topics"]} == {64}
    internal = [each for info in calls for each in info.get("internal_transactions", [])]
    real_internal = [each for info in real for each in info.get("internal_transactions", [])]
    assert {frozenset(each) - {"rejected"} for each in internal} == {
        frozenset(each) for each in real_internal
    }
    values = [frozenset(value) for each in internal for value in each["callValueInfo"]]
    assert set(values) == {frozenset(), frozenset({"callValue"})}
    assert {each["note"] for each in internal} <= {each["note"] for each in real_internal}


def test_a_seed_decides_every_id() -> None:
    def ids(seed: int) -> list[bytes]:
        return [block.hash for block in make_traffic(seed).chain.branch()]

    assert ids(7) == ids(7)
    assert set(ids(7)).isdisjoint(ids(8))


def test_blocks_link_and_no_transaction_is_mined_twice() -> None:
    branch = make_traffic(3).chain.branch()
    for parent, child in pairwise(branch):
        assert (child.parent, child.number) == (parent.hash, parent.number + 1)
        assert child.time > parent.time
    mined = Counter(each.transaction.hash for block in branch for each in block.executed)
    assert set(mined.values()) == {1}


def test_balances_are_what_the_movements_say() -> None:
    traffic = make_traffic(5)
    chain = traffic._tron
    for key in traffic.addresses:
        for asset in (NATIVE, *traffic.assets):
            moved = sum(
                (payment.movement.recipient == key) * payment.movement.units
                - (payment.movement.sender == key) * payment.movement.units
                for block in chain.branch()
                for payment in payments(block.executed)
                if payment.movement.asset == asset
            )
            start = 10**17 if asset == NATIVE else 0
            assert chain.balance(asset, key) == start + moved


def test_a_fork_below_the_solidified_block_is_refused() -> None:
    chain = SimulatedTron(1, finality=3)
    for _ in range(10):
        chain.mine()
    with pytest.raises(ValueError, match="7 stays"):
        chain.rewind(4)
    old = chain.head.hash
    assert len(chain.reorg(3, longer=1)) == 4
    assert old not in {block.hash for block in chain.branch()}


async def test_what_a_node_does_not_have_or_understand_is_answered_as_java_tron_does() -> None:
    chain = SimulatedTron(1, finality=3)
    for _ in range(5):
        chain.mine()
    async with TronNode(chain) as node, aiohttp.ClientSession() as session:

        async def ask(path: str, body: object) -> Any:
            async with session.post(f"{node.url}/{path}", json=body) as reply:
                return await reply.json() if reply.status == 200 else reply.status

        assert await ask("wallet/getblockbynum", {"num": 6}) == {}
        assert await ask("wallet/gettransactioninfobyblocknum", {"num": 6}) == []
        assert await ask("wallet/getblockbylimitnext", {"startNum": 1, "endNum": 102}) == {}
        assert await ask("wallet/getblock", {"id_or_num": "99"}) == {}
        assert (await ask("wallet/getblock", {"id_or_num": "x"})).keys() == {"Error"}
        assert (await ask("wallet/getblockbynum", {"num": "5"})).keys() == {"Error"}
        assert (await ask("wallet/getblockbynum", [])).keys() == {"Error"}
        assert await ask("wallet/nothing", {}) == 404
        assert await ask("jsonrpc", {}) == 404
        few = await ask("wallet/getblockbylimitnext", {"startNum": 4, "endNum": 9})
        assert [block["block_header"]["raw_data"]["number"] for block in few["block"]] == [4, 5]
        head = await ask("wallet/getnowblock", {})
        assert head == await ask("wallet/getblock", {}) == chain.head.json
        assert (await ask("walletsolidity/getnowblock", {})) == chain.branch(2)[0].json
        node.hidden = 1
        assert (await ask("wallet/getnowblock", {}))["blockID"] == chain.branch(4)[0].hash.hex()
