"""The TRON adapter against nodes that lag, fork, err and lie."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from indexer.chains import NATIVE, Block, Transfer
from indexer.chains.rpc import Transport
from indexer.chains.tron import CALLS_WITHOUT_NESTED, TronChain
from indexer.devnet.evm_contracts import AbiContract, Token
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.tron_traffic import TronTraffic
from indexer.devnet.truth import deposits_due
from indexer.model import Refused, Unavailable
from tests.evm_samples import Watching
from tests.harness.tron import Twist, Twisted, twisted_nodes
from tests.rpc_server import FakeTime


@dataclass(frozen=True)
class OneEndpoint:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    solidity: str | None = None


@dataclass(frozen=True)
class Rules:
    endpoints: Sequence[OneEndpoint]
    quorum: int = 1
    finality: str = "network"
    id: str = "net"


def at(node: Twisted) -> OneEndpoint:
    return OneEndpoint(node.url)


@asynccontextmanager
async def adapter(*endpoints: OneEndpoint, **rules: Any) -> AsyncIterator[TronChain]:
    time = FakeTime()
    transport = Transport(clock=time.clock, sleep=time.sleep, jitter=lambda: 0.0)
    chain = TronChain(Rules(endpoints, **rules), transport)
    try:
        yield chain
    finally:
        await chain.close()


def busy_chain(seed: int = 5, steps: int = 20) -> tuple[SimulatedTron, TronTraffic]:
    clock = count(1_700_000_000)
    chain = SimulatedTron(seed, lambda: next(clock))
    addresses = [chain.wallet(f"watched {n}").address for n in range(4)]
    traffic = TronTraffic(chain, addresses, Random(seed))
    for _ in range(steps):
        traffic.step()
    return chain, traffic


async def blocks_of(reader: TronChain, first: int, last: int) -> list[Block]:
    return [block async for block in reader.blocks(first, last)]


def truth(traffic: TronTraffic) -> dict[Any, Any]:
    due = deposits_due(
        traffic.chain.branch(), traffic.addresses, (NATIVE, *traffic.assets), internal=True
    )
    return {i: (d.units, d.sender, d.height, d.odd) for i, d in due.items()}


def found(reader: TronChain, blocks: Sequence[Block], traffic: TronTraffic) -> dict[Any, Any]:
    watch = Watching((NATIVE, *traffic.assets), set(traffic.addresses))
    return {
        identity(t): (t.units, t.sender, block.header.height, t.odd)
        for block in blocks
        for t in reader.transfers(block, watch)
    }


def identity(transfer: Transfer) -> tuple[bytes, bytes, bytes, int]:
    return transfer.tx, transfer.recipient, transfer.asset, transfer.ordinal


# ------------------------------------------------------------------ an honest node


@pytest.mark.pitfall("P67", "P69", "P70", "P71", "P73", "P74")
async def test_the_adapter_finds_exactly_what_was_paid() -> None:
    chain, traffic = busy_chain(steps=40)
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        blocks = await blocks_of(reader, 1, chain.head.number)
        assert found(reader, blocks, traffic) == truth(traffic)
        assert [b.header.hash for b in blocks] == [b.hash for b in chain.branch(1)]
        assert len(truth(traffic)) > 40
        assert reader.unproved_blocks == 0


@pytest.mark.pitfall("P72", "P82")
async def test_times_are_seconds_and_addresses_are_asked_in_hex() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        (block,) = await blocks_of(reader, 3, 3)
        assert (block.header.time, block.header.parent) == (
            chain.branch(3)[0].time,
            chain.branch(2)[0].hash,
        )
        assert all(question["visible"] is False for question in node.questions)
        assert not [path for path in node.paths if "jsonrpc" in path]


@pytest.mark.pitfall("P78")
async def test_the_finalized_block_is_the_solidified_sides_newest() -> None:
    chain, _ = busy_chain()
    async with (
        twisted_nodes(chain, 2) as (full, solid),
        adapter(OneEndpoint(full.url, solidity=solid.url)) as reader,
    ):
        await reader.connect()
        tip, final = await reader.tip(), await reader.finalized()
        assert final is not None
        assert (tip.hash, final.hash) == (chain.head.hash, chain.finalized.hash)
        assert tip.height - final.height == chain.finality
        chain.stalled = True
        for _ in range(5):
            chain.mine()
        again = await reader.finalized()
        assert again is not None
        assert again.hash == final.hash
        assert set(solid.paths) == {"walletsolidity/getblock"}
        assert not [path for path in full.paths if path.startswith("walletsolidity")]


async def test_headers_come_in_their_order_and_none_where_there_is_none() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        heights = [7, chain.head.number + 1, 2, 0]
        headers = await reader.headers(heights)
        assert [None if h is None else h.height for h in headers] == [7, None, 2, 0]
        assert await reader.header(10**6) is None
        assert {path for path in node.paths if "getblockby" not in path} >= {"wallet/getblock"}


async def test_keys_of_hosted_nodes_go_by_header_to_both_sides_and_are_never_shown() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,):
        url = node.url.replace("http://", "http://user:hidden-password@") + "/hidden-path"
        endpoint = OneEndpoint(url, {"TRON-PRO-API-KEY": "hidden-key"})
        async with adapter(endpoint) as reader:
            await reader.connect()
            await reader.finalized()
            assert {h["TRON-PRO-API-KEY"] for h in node.headers} == {"hidden-key"}
            assert {path.split("/")[0] for path in node.paths} == {"hidden-path"}
            node.twist = lambda *_: {"Error": "hidden-key of hidden-path is suspended"}
            with pytest.raises(Unavailable) as failed:
                await reader.tip()
            assert "is suspended" in str(failed.value)
            assert "hidden" not in str(failed.value)


async def test_tokens_say_what_they_are() -> None:
    chain, traffic = busy_chain()
    broken = chain.deploy("broken", AbiContract())
    strange = chain.deploy("strange", Token("S" * 101, "S", 6))
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        token = await reader.token(traffic.tokens[0])
        assert (token.name, token.symbol, token.decimals) == ("Simulated Dollar", "SIMD", 6)
        token = await reader.token(traffic.trc10)
        assert (token.name, token.decimals) == ("SIMT", 6)
        for asset in (traffic.addresses[0], broken, strange, b"1999999"):
            with pytest.raises(Refused, match="is no token"):
                await reader.token(asset)


# ------------------------------------------------------------------ which chain


async def test_the_genesis_is_the_identity_and_all_endpoints_must_have_it() -> None:
    (chain, _), (other, _) = busy_chain(1), busy_chain(2)
    async with (
        twisted_nodes(chain) as (node,),
        twisted_nodes(other) as (stranger,),
        adapter(at(node), at(stranger)) as reader,
    ):
        genesis = chain.branch(0, 0)[0].hash.hex()
        assert await reader.connect() == f"tron:{genesis}"
        assert "serves another chain" in str(reader.endpoints()[1].error)


async def test_a_solidified_side_that_is_not_there_is_named() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,):
        node.twist = lambda path, _, said: None if "solidity" in path else said
        async with adapter(at(node)) as reader:
            with pytest.raises(Unavailable, match="is its `solidity` URL right"):
                await reader.connect()
        async with adapter(at(node), finality="depth") as reader:
            await reader.connect()


# ------------------------------------------------------------------ nodes that lag


@pytest.mark.parametrize("empty", [{}, []])
@pytest.mark.pitfall("P76", "P86")
async def test_an_empty_answer_is_a_block_to_come_not_an_empty_one(empty: Any) -> None:
    chain, _ = busy_chain()
    head = chain.head.number
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        node.twist = lambda path, _, said: empty if "getblockby" in path else said
        for first in (head, head - 3):
            with pytest.raises(Unavailable, match="gave 0 of the blocks"):
                await blocks_of(reader, first, head)


@pytest.mark.pitfall("P76", "P86")
async def test_another_endpoint_stands_in_for_one_that_lags() -> None:
    chain, traffic = busy_chain()
    async with (
        twisted_nodes(chain, 2) as (late, other),
        adapter(at(late), at(other)) as reader,
    ):
        await reader.connect()
        late.node.hidden = 2
        blocks = await blocks_of(reader, 1, chain.head.number)
        assert blocks[-1].header.source == other.url
        assert found(reader, blocks, traffic) == truth(traffic)


@pytest.mark.pitfall("P76")
async def test_infos_are_waited_for_until_they_are_complete() -> None:
    chain, traffic = busy_chain()
    head = chain.head.number
    busy = next(b.number for b in reversed(chain.branch()) if len(b.executed) > 1)
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:

        def partial(left: int) -> Twist:
            def twist(path: str, question: dict[str, Any], said: Any) -> Any:
                mine = "info" in path and question["num"] == busy
                return said[:left] if mine else said

            return twist

        for left in (0, 1):
            node.twist = partial(left)
            with pytest.raises(Unavailable, match=f"has infos of {left} of the"):
                await blocks_of(reader, busy, head)
        node.twist = None
        blocks = await blocks_of(reader, 1, head)
        assert found(reader, blocks, traffic) == truth(traffic)


@pytest.mark.pitfall("P78", "P122")
async def test_a_fork_between_a_block_and_its_infos_repeats_both() -> None:
    chain, traffic = busy_chain(3)
    chain.send(chain.wallet("payer 0"), traffic.addresses[0], 5)
    chain.mine()
    head = chain.head.number
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        left = [1]

        def fork(path: str, question: dict[str, Any], said: Any) -> Any:
            if "info" in path and left.pop() if left else False:
                chain.reorg(2)
            return said

        node.twist = fork
        (block,) = await blocks_of(reader, head, head)
        assert not left
        assert block.header.hash == chain.branch(head)[0].hash


async def test_a_node_that_forks_all_the_time_is_left() -> None:
    chain, traffic = busy_chain(3)
    chain.send(chain.wallet("payer 0"), traffic.addresses[0], 5)
    chain.mine()
    head = chain.head.number
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()

        def fork(path: str, question: dict[str, Any], said: Any) -> Any:
            if path == "wallet/getblock":
                said["blockID"] = said["blockID"][:-2] + "ff"
            return said

        node.twist = fork
        with pytest.raises(Unavailable):
            await blocks_of(reader, head, head)


# ------------------------------------------------------------------ nodes that lie


@pytest.mark.parametrize("quorum", [1, 2])
@pytest.mark.pitfall("P79")
async def test_logs_count_where_two_endpoints_give_the_same(quorum: int) -> None:
    chain, traffic = busy_chain()
    chain.endow(traffic.tokens[0], chain.wallet("payer 0").address, 10)
    traffic._transfer(traffic.tokens[0], traffic.addresses[0], 1)
    head = chain.mine().number
    async with twisted_nodes(chain, 2) as (liar, honest):
        rules = {"quorum": quorum}
        async with adapter(at(liar), at(honest), **rules) as reader:
            await reader.connect()

            def more(path: str, question: dict[str, Any], said: Any) -> Any:
                if "info" in path:
                    for info in said:
                        for log in info.get("log", []):
                            log["data"] = (10**12).to_bytes(32, "big").hex()
                return said

            liar.twist = more
            if quorum == 1:  # no root commits to logs: one node alone is believed
                blocks = await blocks_of(reader, head, head)
                assert {v[0] for v in found(reader, blocks, traffic).values()} == {10**12}
                return
            with pytest.raises(Unavailable, match="says another thing of what happened in it"):
                await blocks_of(reader, head, head)
            liar.twist = None
            blocks = await blocks_of(reader, head, head)
            assert {v[0] for v in found(reader, blocks, traffic).values()} == {1}


@pytest.mark.pitfall("P79", "P73")
async def test_internal_payments_count_where_two_endpoints_give_the_same() -> None:
    chain, _ = busy_chain()
    head = chain.head.number
    async with twisted_nodes(chain, 2) as (node, other):
        other.node.keeps_internal = False
        async with adapter(at(node), at(other), quorum=2) as reader:
            with pytest.raises(Unavailable, match="says another thing"):
                await blocks_of(reader, 1, head)


@pytest.mark.pitfall("P78")
async def test_a_quorum_waits_for_an_endpoint_that_is_behind() -> None:
    chain, _ = busy_chain()
    head = chain.head.number
    async with (
        twisted_nodes(chain, 2) as (node, late),
        adapter(at(node), at(late), quorum=2) as reader,
    ):
        await reader.connect()
        late.node.hidden = 1
        with pytest.raises(Unavailable, match=r"1 of the 2 endpoints .* doesn't have it"):
            await blocks_of(reader, head, head)
        late.node.hidden = 0
        assert len(await blocks_of(reader, head, head)) == 1


def unknown_field(path: str, question: dict[str, Any], said: Any) -> Any:
    """As if each block's last transaction had a field that JSON can't show, like its signature."""
    blocks = said.get("block", [said]) if "getblockby" in path else []
    for block in blocks:
        if block.get("transactions"):
            block["transactions"][-1]["signature"][0] += "00"
    return said


@pytest.mark.parametrize("endpoints", [1, 2])
@pytest.mark.pitfall("P80")
async def test_a_root_that_json_cannot_rebuild_is_counted_and_a_second_endpoint_asked(
    endpoints: int,
) -> None:
    chain, traffic = busy_chain()
    head = chain.head.number
    async with twisted_nodes(chain, endpoints) as nodes:
        for node in nodes:
            node.twist = unknown_field
        async with adapter(*(at(node) for node in nodes)) as reader:
            await reader.connect()
            with capture_logs() as logs:
                blocks = await blocks_of(reader, 1, head)
            assert found(reader, blocks, traffic) == truth(traffic)
            warned = [log for log in logs if log["event"] == "block_not_provable"]
            filled = [block for block in chain.branch(1) if block.executed]
            assert len(warned) == reader.unproved_blocks == len(filled)
            assert {log["asked"] for log in warned} == {endpoints}
            assert [log["count"] for log in warned] == list(range(1, len(filled) + 1))


@pytest.mark.parametrize(("endpoints", "quorum"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.pitfall("P80")
async def test_no_endpoint_is_asked_twice_for_a_block_that_json_cannot_prove(
    endpoints: int, quorum: int
) -> None:
    chain, _ = busy_chain()
    head = max(block.number for block in chain.branch(1) if block.executed)
    async with twisted_nodes(chain, endpoints) as nodes:
        for node in nodes:
            node.twist = unknown_field
        async with adapter(*(at(node) for node in nodes), quorum=quorum) as reader:
            await reader.connect()
            for node in nodes:
                node.paths.clear()
            await blocks_of(reader, head, head)
            assert reader.unproved_blocks == 1
            for node in nodes:
                assert node.paths.count("wallet/getblockbynum") == 1


@pytest.mark.pitfall("P80")
async def test_a_single_endpoint_that_gives_fewer_transactions_than_it_counts_is_not_believed() -> (
    None
):
    chain, _ = busy_chain()
    block = max(chain.branch(1), key=lambda block: len(block.executed))
    whole = len(block.executed)

    def partial(path: str, question: dict[str, Any], said: Any) -> Any:
        if path.endswith("getblockbynum"):
            said["transactions"].pop()
        return said[:-1] if "infobyblocknum" in path else said

    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        node.twist = partial
        gave = f"gave {whole - 1} of the {whole} transactions of block {block.number}"
        with pytest.raises(Unavailable, match=gave):
            await blocks_of(reader, block.number, block.number)
        assert reader.unproved_blocks == 0


@pytest.mark.pitfall("P80")
async def test_a_root_that_json_cannot_rebuild_is_not_taken_where_another_can() -> None:
    chain, _ = busy_chain()
    head = chain.head.number
    async with (
        twisted_nodes(chain, 2) as (liar, honest),
        adapter(at(liar), at(honest)) as reader,
    ):
        await reader.connect()
        liar.twist = unknown_field
        with pytest.raises(Unavailable, match="says another thing"):
            await blocks_of(reader, 1, head)
        assert reader.unproved_blocks == 0


async def test_heads_come_without_their_transactions() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        node.questions.clear()
        node.paths.clear()
        await reader.tip()
        await reader.finalized()
        await reader.header(chain.head.number)
        assert node.paths == ["wallet/getblock", "walletsolidity/getblock", "wallet/getblock"]
        assert not any(question["detail"] for question in node.questions)


async def test_a_header_that_does_not_prove_is_not_believed() -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()

        def later(path: str, question: dict[str, Any], said: Any) -> Any:
            said["block_header"]["raw_data"]["timestamp"] += 1
            return said

        node.twist = later
        for ask in (reader.tip, reader.finalized):
            with pytest.raises(Unavailable, match="its header has another id"):
                await ask()


@pytest.mark.parametrize(
    "answer",
    [
        {"Error": "class java.lang.NullPointerException : null"},
        {"block": [{"blockID": "00"}]},
        {"blockID": 5},
        [1],
        {"block": 1},
    ],
)
async def test_an_answer_of_another_shape_is_an_endpoint_that_failed(answer: Any) -> None:
    chain, _ = busy_chain()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        await reader.connect()
        node.twist = lambda *_: answer
        with pytest.raises(Unavailable):
            await blocks_of(reader, 1, 5)
        with pytest.raises(Unavailable):
            await reader.tip()


@pytest.mark.pitfall("P73")
async def test_a_node_that_keeps_no_internal_transactions_is_noticed_once() -> None:
    chain, traffic = busy_chain(steps=1)
    payer = chain.wallet("payer 0")
    while chain.head.number < 8:
        for _ in range(CALLS_WITHOUT_NESTED // 4):
            chain.send(payer, traffic.tokens[0], 0)
        chain.mine()
    async with twisted_nodes(chain) as (node,), adapter(at(node)) as reader:
        node.node.keeps_internal = False
        with capture_logs() as logs:
            await blocks_of(reader, 1, chain.head.number)
        said = [log for log in logs if log["event"] == "no_internal_transactions"]
        assert [log["endpoint"] for log in said] == [node.url]
