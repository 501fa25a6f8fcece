"""The EVM adapter over nodes that lie, lag or lack something."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec
import pytest
from aiohttp import web

from indexer.chains import NATIVE, Block, Transfer
from indexer.chains.evm import EvmChain
from indexer.chains.evm_body import DECODER_DEPTH
from indexer.chains.evm_wire import WireFrame
from indexer.chains.failover import FAILURES, RETURN_SECONDS, Health
from indexer.chains.lookout import COMPARE_SECONDS, LAG_BLOCKS
from indexer.chains.rpc import Transport
from indexer.chains.transfer_event import TRANSFER_TOPIC
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_node import EvmNode
from indexer.devnet.evm_traffic import EvmTraffic
from indexer.model import Refused, Unavailable
from tests.evm_samples import Watching
from tests.rpc_server import FakeTime, RpcServer, fault, serving

STEPS = 8
SOON = 10.0  # seconds
GENESIS_TIME = 1_700_000_000  # Unix seconds; each block is a second later

Json = dict[str, Any]
Spoil = Callable[[str, Sequence[Any], Json], Json]


@dataclass(frozen=True)
class OneEndpoint:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    ws: str | None = None


@dataclass(frozen=True)
class Rules:
    endpoints: Sequence[OneEndpoint]
    chain_id: int
    native: str = "transactions"
    verify: str = "full"
    quorum: int = 1
    finality: str = "depth"
    reorg_window: int = 64
    id: str = "net"


def honest(method: str, params: Sequence[Any], reply: Json) -> Json:
    return reply


class Node:
    """A simulated chain behind a server that may spoil its answers."""

    def __init__(self, server: RpcServer, chain: SimulatedChain) -> None:
        self.server = server
        self.chain = chain
        self.spoil: Spoil = honest
        server.answer = self._answer

    @property
    def url(self) -> str:
        return self.server.url

    def asked(self, method: str) -> list[Any]:
        """Parameters of every call of a method so far."""
        calls = [
            call
            for body in self.server.requests
            for call in (body if isinstance(body, list) else [body])
        ]
        return [call["params"] for call in calls if call["method"] == method]

    async def _answer(self, request: web.Request, body: Any) -> web.StreamResponse:
        if isinstance(body, list):
            return web.json_response([self._reply(call) for call in body])
        return web.json_response(self._reply(body))

    def _reply(self, call: Json) -> Json:
        reply = json.loads(json.dumps(EvmNode(self.chain).answer(call)))
        return self.spoil(call["method"], call["params"], reply)


def busy_chain(seed: int = 5, steps: int = STEPS) -> SimulatedChain:
    """The same chain for the same seed, whatever the second."""
    chain = SimulatedChain(seed, clock=lambda: GENESIS_TIME, finality=3)
    traffic = EvmTraffic(chain, [chain.wallet("watched").address], Random(seed))
    for _ in range(steps):
        traffic.step()
    return chain


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


class Net:
    """Nodes, and adapters over them."""

    def __init__(self, stack: AsyncExitStack, time: FakeTime) -> None:
        self._stack = stack
        self._time = time

    async def node(self, chain: SimulatedChain) -> Node:
        return Node(await self._stack.enter_async_context(serving()), chain)

    def adapter(self, *nodes: Node, **rules: Any) -> EvmChain:
        transport = Transport(clock=self._time.clock, sleep=self._time.sleep)
        chain_id = rules.pop("chain_id", nodes[0].chain.chain_id)
        endpoints = [OneEndpoint(node.url) for node in nodes]
        adapter = EvmChain(Rules(endpoints, chain_id, **rules), transport)
        self._stack.push_async_callback(adapter.close)
        return adapter


@pytest.fixture
async def net(time: FakeTime) -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack:
        yield Net(stack, time)


async def read(adapter: EvmChain, first: int, last: int) -> list[Block]:
    async with aclosing(adapter.blocks(first, last)) as stream:
        return [block async for block in stream]


def hashes(blocks: Sequence[Block]) -> list[bytes]:
    return [block.header.hash for block in blocks]


def truth(chain: SimulatedChain, first: int, last: int) -> list[bytes]:
    return [block.hash for block in chain.branch(first, last)]


# ---------------------------------------------------------------- spoiling


def on(method: str, change: Callable[[Any], Any]) -> Spoil:
    """Change the results of one method."""

    def spoil(asked: str, params: Sequence[Any], reply: Json) -> Json:
        if asked == method and reply.get("result"):
            return {**reply, "result": change(reply["result"])}
        return reply

    return spoil


def unsupported(method: str, code: int = -32601) -> Spoil:
    def spoil(asked: str, params: Sequence[Any], reply: Json) -> Json:
        return fault(reply, code, "not available") if asked == method else reply

    return spoil


def drop_receipt(receipts: list[Json]) -> list[Json]:
    return receipts[:-1]


def null_receipt(receipts: list[Json]) -> list[Any]:
    return [None, *receipts[1:]]


def drop_log(receipts: list[Json]) -> list[Json]:
    for receipt in receipts:
        if receipt["logs"]:
            receipt["logs"].pop()
            break
    return receipts if any(receipt["logs"] for receipt in receipts) else []


def alter_amount(receipts: list[Json]) -> list[Json]:
    receipts[0]["logs"] = [*receipts[0]["logs"]]
    for receipt in receipts:
        for log in receipt["logs"]:
            log["data"] = "0x" + "f" * 64
    receipts[-1]["cumulativeGasUsed"] = "0x1"
    return receipts


def flip_status(receipts: list[Json]) -> list[Json]:
    receipts[0]["status"] = "0x0" if receipts[0]["status"] == "0x1" else "0x1"
    return receipts


def swap(receipts: list[Json]) -> list[Json]:
    return (
        [receipts[0], *reversed(receipts[1:])] if len(receipts) > 2 else receipts[::-1] + receipts
    )


def foreign_hash(receipts: list[Json]) -> list[Json]:
    return [{**receipt, "blockHash": "0x" + "ab" * 32} for receipt in receipts]


def alter_value(block: Json) -> Json:
    for tx in block["transactions"]:
        if isinstance(tx, dict):
            tx["value"] = hex(int(tx["value"], 16) + 1)
    return block


def drop_transactions(block: Json) -> Json:
    return {**block, "transactions": []}


def nothing(result: Any) -> Any:
    return None


def empty(result: Any) -> Any:
    return []


FAULTS = {
    "a null block": on("eth_getBlockByNumber", nothing),
    "null receipts": on("eth_getBlockReceipts", nothing),
    "no receipts": on("eth_getBlockReceipts", empty),
    "one receipt missing": on("eth_getBlockReceipts", drop_receipt),
    "one receipt null": on("eth_getBlockReceipts", null_receipt),
    "one log dropped": on("eth_getBlockReceipts", drop_log),
    "an amount altered": on("eth_getBlockReceipts", alter_amount),
    "a status flipped": on("eth_getBlockReceipts", flip_status),
    "receipts swapped": on("eth_getBlockReceipts", swap),
    "receipts of a foreign block": on("eth_getBlockReceipts", foreign_hash),
    "a value altered": on("eth_getBlockByNumber", alter_value),
    "transactions left out": on("eth_getBlockByNumber", drop_transactions),
    "an error": unsupported("eth_getBlockReceipts", -32000),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.pitfall("P55", "P56", "P57", "P64", "P65", "P76", "P122", "P128")
async def test_a_fault_is_met_at_another_endpoint_or_waited_out(net: Net, kind: str) -> None:
    chain = busy_chain()
    last = chain.head.number
    bad, good = await net.node(chain), await net.node(chain)
    alone, both = net.adapter(bad), net.adapter(bad, good)
    for adapter in (alone, both):
        await adapter.connect()
    bad.spoil = FAULTS[kind]
    with pytest.raises(Unavailable, match=bad.url):
        await read(alone, 1, last)
    assert hashes(await read(both, 1, last)) == truth(chain, 1, last)
    bad.spoil = honest
    assert hashes(await read(alone, 1, last)) == truth(chain, 1, last)


@pytest.mark.pitfall("P122")
async def test_one_endpoint_serves_all_parts_of_a_block(net: Net) -> None:
    chain = busy_chain()
    a, b = await net.node(chain), await net.node(chain)
    adapter = net.adapter(a, b, native="traces")
    await adapter.connect()
    a.spoil = on("debug_traceBlockByHash", empty)
    before = len(b.asked("eth_getBlockReceipts"))
    blocks = await read(adapter, 1, 3)
    assert {block.header.source for block in blocks} == {b.url}
    assert len(b.asked("eth_getBlockReceipts")) > before


@pytest.mark.pitfall("P57", "P122")
async def test_a_stand_in_is_asked_for_the_block_that_was_named(net: Net) -> None:
    chain, fork = busy_chain(), busy_chain(6)
    followed, other = await net.node(chain), await net.node(chain)
    adapter = net.adapter(followed, other)
    await adapter.connect()
    followed.spoil = on("eth_getBlockReceipts", drop_receipt)
    other.chain = fork
    with pytest.raises(Unavailable, match=f"{other.url} has nothing for block 0x"):
        await read(adapter, 5, 6)


async def test_a_followed_endpoint_that_fails_at_blocks_is_left(net: Net) -> None:
    chain = busy_chain()
    a, b = await net.node(chain), await net.node(chain)
    adapter = net.adapter(a, b)
    await adapter.connect()
    a.spoil = on("eth_getBlockReceipts", drop_receipt)
    for _ in range(FAILURES):
        await adapter.tip()  # which a answers well
        await read(adapter, 1, 1)
    assert (await adapter.tip()).source == b.url
    assert [health.state for health in adapter.endpoints()] == [Health.FAILING, Health.HEALTHY]


# ---------------------------------------------------------------- which chain


@pytest.mark.pitfall("P39")
async def test_a_known_chain_is_known_by_its_genesis(net: Net) -> None:
    fork = SimulatedChain(1, chain_id=1)
    with pytest.raises(Refused, match="serves another chain: block 0 is 0x"):
        await net.adapter(await net.node(fork)).connect()


@pytest.mark.pitfall("P39")
async def test_an_endpoint_of_another_chain_is_left_out(net: Net) -> None:
    chain = busy_chain()
    right = await net.node(chain)
    wrong = await net.node(SimulatedChain(99, chain_id=11155111))
    adapter = net.adapter(wrong, right, chain_id=chain.chain_id)
    assert await adapter.connect() == f"evm:{chain.chain_id}:0x{chain.branch()[0].hash.hex()}"
    assert (await adapter.tip()).source == right.url
    first = adapter.endpoints()[0]
    assert first.state is Health.EXCLUDED
    assert first.error == f"{wrong.url} serves chain 11155111, not {chain.chain_id}"


@pytest.mark.pitfall("P39")
async def test_two_endpoints_must_share_their_genesis(net: Net) -> None:
    one, other = SimulatedChain(1), SimulatedChain(2)
    a, b = await net.node(one), await net.node(other)
    adapter = net.adapter(a, b)
    await adapter.connect()
    assert sorted(health.state for health in adapter.endpoints()) == ["excluded", "healthy"]


@pytest.mark.pitfall("P39")
async def test_an_url_that_leads_to_another_chain_by_now_is_noticed(net: Net) -> None:
    node = await net.node(busy_chain())
    adapter = net.adapter(node)
    await adapter.connect()
    node.spoil = on("eth_chainId", lambda chain_id: "0x1")
    with pytest.raises(Unavailable, match=f"{node.url} serves chain 1 now"):
        await adapter.tip()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await adapter.tip()
    assert adapter.endpoints()[0].state is Health.EXCLUDED


async def test_nobody_there_may_be_there_later(net: Net, unused_tcp_port: int) -> None:
    node = await net.node(busy_chain())
    node.server.url = f"http://127.0.0.1:{unused_tcp_port}"
    with pytest.raises(Unavailable, match="can't be reached: Connection refused"):
        await net.adapter(node).connect()


# ---------------------------------------------------------------- what it can serve


@pytest.mark.parametrize(
    ("method", "rules"),
    [
        ("eth_getBlockReceipts", {}),
        ("debug_traceBlockByHash", {"native": "traces"}),
        ("eth_getLogs", {"native": "off", "verify": "bloom"}),
    ],
)
async def test_an_endpoint_that_lacks_a_method_is_refused(
    net: Net, method: str, rules: dict[str, str]
) -> None:
    node = await net.node(busy_chain())
    node.spoil = unsupported(method)
    with pytest.raises(Refused, match=f'{method} with error -32601.*verify = ".*native = '):
        await net.adapter(node, **rules).connect()


async def test_traces_are_asked_for_although_the_last_blocks_are_empty(net: Net) -> None:
    chain = SimulatedChain(3)
    for _ in range(4):
        chain.mine()
    node = await net.node(chain)
    node.spoil = unsupported("debug_traceBlockByHash")
    with pytest.raises(Refused, match="debug_traceBlockByHash"):
        await net.adapter(node, native="traces").connect()


async def test_a_chain_of_its_genesis_alone_connects(net: Net) -> None:
    node = await net.node(SimulatedChain(3))
    adapter = net.adapter(node, native="traces")
    await adapter.connect()
    assert (await adapter.tip()).height == 0


@pytest.mark.pitfall("P46")
async def test_a_node_that_cannot_say_what_is_final_is_refused_under_network(net: Net) -> None:
    def no_tags(method: str, params: Sequence[Any], reply: Json) -> Json:
        return fault(reply, -32602, "invalid block tag") if "finalized" in params else reply

    node = await net.node(busy_chain())
    node.spoil = no_tags
    with pytest.raises(Refused, match='can\'t say what is final, which finality = "network" needs'):
        await net.adapter(node, finality="network").connect()
    await net.adapter(node, finality="depth").connect()


@pytest.mark.parametrize("answer", [None, -32000, -39001])
@pytest.mark.pitfall("P46")
async def test_no_finalized_block_yet_is_no_failure(net: Net, answer: int | None) -> None:
    def not_yet(method: str, params: Sequence[Any], reply: Json) -> Json:
        if "finalized" not in params:
            return reply
        return {**reply, "result": None} if answer is None else fault(reply, answer)

    node = await net.node(busy_chain())
    node.spoil = not_yet
    adapter = net.adapter(node, finality="network")
    await adapter.connect()
    assert await adapter.finalized() is None
    node.spoil = honest
    finalized = await adapter.finalized()
    assert finalized is not None
    assert finalized.height == node.chain.head.number - 3


def unknown_fork(block: Json) -> Json:
    """As if headers had a field that is unknown here: they hash to something else."""
    if block["number"] == "0x0":
        return block
    return {**block, "extraData": "0x99"}


@pytest.mark.pitfall("P51", "P64")
async def test_a_chain_that_does_not_prove_is_refused_by_the_settings_name(net: Net) -> None:
    chain = busy_chain()
    a, b = await net.node(chain), await net.node(chain)
    a.spoil = b.spoil = on("eth_getBlockByNumber", unknown_fork)
    with pytest.raises(Refused, match=r'prove under verify = "full".*another `verify`'):
        await net.adapter(a, b).connect()
    await net.adapter(a, b, verify="off").connect()
    b.spoil = honest
    adapter = net.adapter(a, b)
    await adapter.connect()
    assert (await adapter.tip()).source == b.url


async def test_an_endpoint_far_behind_is_not_returned_to(net: Net, time: FakeTime) -> None:
    chain = busy_chain()
    a, b = await net.node(chain), await net.node(chain)
    adapter = net.adapter(a, b)
    await adapter.connect()
    a.spoil = unsupported("eth_getBlockByNumber", -32000)
    for _ in range(FAILURES - 1):
        with pytest.raises(Unavailable):
            await adapter.tip()
    assert (await adapter.tip()).source == b.url
    a.spoil, a.chain = honest, chain
    b.chain = busy_chain(steps=STEPS + LAG_BLOCKS + 5)
    time.now += COMPARE_SECONDS
    async with asyncio.timeout(SOON):  # they are compared beside the work
        while "blocks behind" not in str(adapter.endpoints()[0].error):
            await adapter.tip()
            await asyncio.sleep(0.01)
    time.now += 100
    assert (await adapter.tip()).source == b.url
    assert adapter.endpoints()[0].state is Health.FAILING


# ---------------------------------------------------------------- heads


async def test_headers_are_named_in_the_order_asked(net: Net) -> None:
    chain = busy_chain()
    adapter = net.adapter(await net.node(chain))
    await adapter.connect()
    top = chain.head.number
    found = await adapter.headers([3, top + 5, 1])
    assert [None if header is None else header.hash for header in found] == [
        chain.branch()[3].hash,
        None,
        chain.branch()[1].hash,
    ]
    assert await adapter.header(top + 1) is None


@pytest.mark.pitfall("P62")
async def test_a_head_that_is_not_its_hash_is_not_believed(net: Net) -> None:
    node = await net.node(busy_chain())
    adapter = net.adapter(node)
    await adapter.connect()
    node.spoil = on("eth_getBlockByNumber", lambda block: {**block, "timestamp": "0x1"})
    with pytest.raises(Unavailable, match="does not prove"):
        await adapter.tip()
    node.spoil = on("eth_getBlockByNumber", lambda block: block | {"hash": None})
    with pytest.raises(Unavailable, match="unknown shape"):
        await adapter.tip()


async def test_another_height_than_asked_is_refused(net: Net) -> None:
    node = await net.node(busy_chain())
    adapter = net.adapter(node)
    await adapter.connect()
    other = EvmNode(node.chain).answer(
        {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x2", True]}
    )["result"]
    node.spoil = on("eth_getBlockByNumber", lambda block: json.loads(json.dumps(other)))
    with pytest.raises(Unavailable, match="names 2 as 3"):
        await adapter.header(3)
    with pytest.raises(Unavailable, match="is at 0x2, not at 3"):
        await read(adapter, 3, 3)


# ---------------------------------------------------------------- quorum


@pytest.mark.pitfall("P62", "P63")
async def test_a_forged_block_that_proves_does_not_count_where_another_must_agree(
    net: Net,
) -> None:
    honest_chain, forged = busy_chain(), busy_chain()
    forged.reorg(2, longer=1)
    liar, witness = await net.node(forged), await net.node(honest_chain)
    top = honest_chain.head.number
    believing = net.adapter(liar)
    await believing.connect()
    assert hashes(await read(believing, top, top)) != truth(honest_chain, top, top)
    careful = net.adapter(liar, witness, quorum=2)
    await careful.connect()
    with pytest.raises(Unavailable) as failed:
        await read(careful, top, top)
    assert f"1 of the 2 endpoints needed name block {top} as {liar.url} does" in str(failed.value)
    assert f"{witness.url} names another" in str(failed.value)


@pytest.mark.pitfall("P55", "P62")
async def test_a_witness_that_lags_is_waited_for(net: Net) -> None:
    chain = busy_chain()
    top = chain.head.number
    followed, witness = await net.node(chain), await net.node(chain)
    adapter = net.adapter(followed, witness, quorum=2)
    await adapter.connect()
    witness.spoil = on("eth_getBlockByNumber", nothing)
    with pytest.raises(Unavailable, match=f"{witness.url} doesn't have it"):
        await read(adapter, top, top)
    witness.spoil = honest
    assert hashes(await read(adapter, 1, top)) == truth(chain, 1, top)


@pytest.mark.pitfall("P61", "P62")
async def test_one_against_two_is_left_alone(net: Net) -> None:
    chain, forged = busy_chain(), busy_chain()
    forged.reorg(2)
    top = chain.head.number
    nodes = [await net.node(each) for each in (forged, chain, chain)]
    adapter = net.adapter(*nodes, quorum=2)
    await adapter.connect()
    for _ in range(FAILURES):
        with pytest.raises(Unavailable):
            await read(adapter, top, top)
    assert hashes(await read(adapter, top, top)) == truth(chain, top, top)


@pytest.mark.pitfall("P61")
async def test_an_endpoint_that_stands_still_is_left_and_returned_to(
    net: Net, time: FakeTime
) -> None:
    chain, still = busy_chain(), busy_chain()
    stuck, other = await net.node(still), await net.node(chain)
    adapter = net.adapter(stuck, other)
    await adapter.connect()
    assert (await adapter.tip()).source == stuck.url
    for _ in range(LAG_BLOCKS + 1):
        chain.mine()
    time.now += COMPARE_SECONDS
    async with asyncio.timeout(SOON):  # the others are asked beside the work
        while (await adapter.tip()).source == stuck.url:
            await asyncio.sleep(0.01)
    assert await adapter.tip() == await adapter.header(chain.head.number)
    assert "blocks behind" in str(adapter.endpoints()[0].error)
    stuck.chain = chain
    time.now += RETURN_SECONDS
    assert (await adapter.tip()).source == stuck.url


# ---------------------------------------------------------------- logs alone


def tokens_of(chain: SimulatedChain) -> set[bytes]:
    return {
        log.address
        for block in chain.branch()
        for executed in block.executed
        for log in executed.logs
        if log.topics[:1] == (TRANSFER_TOPIC,)
    }


def found(adapter: EvmChain, blocks: Sequence[Block], assets: set[bytes]) -> list[Transfer]:
    watch = Watching(assets)
    return [each for block in blocks for each in adapter.transfers(block, watch)]


@pytest.mark.parametrize("verify", ["bloom", "off"])
async def test_logs_alone_find_the_same_tokens(net: Net, verify: str) -> None:
    chain = busy_chain(steps=20)
    node, top = await net.node(chain), chain.head.number
    full = net.adapter(node)
    logs = net.adapter(node, native="off", verify=verify, reorg_window=6)
    for adapter in (full, logs):
        await adapter.connect()
    tokens = tokens_of(chain)
    expected = found(full, await read(full, 1, top), tokens)
    assert found(logs, await read(logs, 1, top), tokens) == expected
    assert expected


@pytest.mark.parametrize("verify", ["full", "bloom", "off"])
async def test_a_native_coin_that_is_off_is_not_followed_whatever_is_read(
    net: Net, verify: str
) -> None:
    chain = busy_chain(steps=20)
    node, top = await net.node(chain), chain.head.number
    both, tokens = net.adapter(node), net.adapter(node, native="off", verify=verify)
    assets = tokens_of(chain) | {NATIVE}
    for adapter in (both, tokens):
        await adapter.connect()
    everything = found(both, await read(both, 1, top), assets)
    expected = [each for each in everything if each.asset != NATIVE]
    assert found(tokens, await read(tokens, 1, top), assets) == expected
    assert len(everything) > len(expected)


async def test_bodies_without_proof_find_the_same(net: Net) -> None:
    chain = busy_chain(steps=20)
    node, top = await net.node(chain), chain.head.number
    assets = tokens_of(chain) | {NATIVE}
    results = []
    for verify in ("full", "bloom", "off"):
        adapter = net.adapter(node, native="traces", verify=verify)
        await adapter.connect()
        results.append(found(adapter, await read(adapter, 1, top), assets))
    assert results[0] == results[1] == results[2]


async def test_only_what_cannot_be_replaced_is_asked_by_range(net: Net) -> None:
    chain = busy_chain(steps=30)
    node, top = await net.node(chain), chain.head.number
    adapter = net.adapter(node, native="off", verify="off", reorg_window=10)
    await adapter.connect()
    before = len(node.asked("eth_getLogs"))
    await read(adapter, 1, top)
    filters = [query for (query,) in node.asked("eth_getLogs")[before:]]
    ranges = [int(query["toBlock"], 16) for query in filters if "toBlock" in query]
    by_hash = [query["blockHash"] for query in filters if "blockHash" in query]
    assert ranges
    assert max(ranges) <= top - 10
    assert set(by_hash) >= {"0x" + block.hash.hex() for block in chain.branch(top - 9, top)}


@pytest.mark.pitfall("P55", "P59")
async def test_empty_logs_under_a_filled_bloom_are_refused(net: Net) -> None:
    chain = busy_chain()
    node = await net.node(chain)
    adapter = net.adapter(node, native="off", verify="bloom")
    await adapter.connect()
    node.spoil = on("eth_getLogs", empty)
    with pytest.raises(Unavailable, match="its logs bloom gives"):
        await read(adapter, 1, chain.head.number)
    node.spoil = on("eth_getLogs", lambda logs: logs[1:])
    with pytest.raises(Unavailable, match="has the logIndex"):
        await read(adapter, 1, chain.head.number)


@pytest.mark.pitfall("P59")
async def test_receipts_without_their_logs_do_not_fill_the_bloom(net: Net) -> None:
    chain = busy_chain()
    node = await net.node(chain)
    adapter = net.adapter(node, verify="bloom")
    await adapter.connect()
    node.spoil = on("eth_getBlockReceipts", lambda all_: [{**each, "logs": []} for each in all_])
    with pytest.raises(Unavailable, match="its logs bloom gives"):
        await read(adapter, 1, chain.head.number)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blockHash": "0x" + "ab" * 32}, "foreign block|is of block"),
        ({"removed": True}, "marked as removed"),
        ({"logIndex": "0x0"}, "has the logIndex 0 where"),
    ],
)
@pytest.mark.pitfall("P57", "P60")
async def test_logs_that_are_not_of_the_block_are_refused(
    net: Net, change: Json, message: str
) -> None:
    chain = busy_chain(steps=30)
    node = await net.node(chain)
    adapter = net.adapter(node, native="off", verify="off", reorg_window=10)
    await adapter.connect()
    node.spoil = on("eth_getLogs", lambda logs: [{**log, **change} for log in logs])
    for first, last in ((1, 15), (21, chain.head.number)):
        with pytest.raises(Unavailable, match=message):
            await read(adapter, first, last)


@pytest.mark.pitfall("P58")
async def test_an_answer_of_a_round_count_is_asked_for_again_in_parts(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = busy_chain(steps=40)
    node = await net.node(chain)
    adapter = net.adapter(node, native="off", verify="off", reorg_window=10)
    await adapter.connect()
    tokens = tokens_of(chain)
    whole = found(adapter, await read(adapter, 1, 20), tokens)
    assert len(whole) > 5
    cap = 5
    monkeypatch.setattr("indexer.chains.evm_fetch.ROUND_COUNT", cap)
    node.spoil = on("eth_getLogs", lambda logs: logs[:cap])
    assert found(adapter, await read(adapter, 1, 20), tokens) == whole


# ---------------------------------------------------------------- the deepest call


@pytest.mark.pitfall("P25")
def test_a_trace_as_deep_as_the_evm_allows_is_decoded() -> None:
    limit = sys.getrecursionlimit()
    try:
        EvmChain(Rules([OneEndpoint("http://node")], 1, native="traces"))
        assert sys.getrecursionlimit() >= DECODER_DEPTH
        call = '{"type":"CALL","from":"0x1","to":"0x2","calls":['
        text = call * 1025 + "]}" * 1025
        assert msgspec.json.decode(text, type=WireFrame).type == "CALL"
    finally:
        sys.setrecursionlimit(limit)


# ---------------------------------------------------------------- tokens

STRING = "0x" + "20".rjust(64, "0")


def abi_string(text: bytes) -> str:
    padded = text.hex().ljust(-(-len(text) // 32) * 64, "0")
    return STRING + hex(len(text))[2:].rjust(64, "0") + padded


def contract(**answers: str | int) -> Spoil:
    """`eth_call` by getter: returned data, or an error code."""
    selectors = {"0x313ce567": "decimals", "0x95d89b41": "symbol", "0x06fdde03": "name"}

    def spoil(method: str, params: Sequence[Any], reply: Json) -> Json:
        if method == "eth_getCode":
            return {"jsonrpc": "2.0", "id": reply["id"], "result": "0x6000"}
        if method != "eth_call":
            return reply
        answer = answers.get(selectors[params[0]["data"][:10]], 3)
        if isinstance(answer, int):
            return fault(reply, answer, "execution reverted")
        return {"jsonrpc": "2.0", "id": reply["id"], "result": answer}

    return spoil


SIX = "0x" + "06".rjust(64, "0")
MKR = "0x" + b"MKR".hex().ljust(64, "0")


@asynccontextmanager
async def reading(net: Net, spoil: Spoil) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    node = await net.node(busy_chain())
    adapter = net.adapter(node)
    await adapter.connect()
    node.spoil = spoil
    yield lambda: adapter.token(b"\x70" * 20)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            {"decimals": SIX, "symbol": abi_string(b"USDT"), "name": abi_string(b"Tether USD")},
            ("Tether USD", "USDT", 6),
        ),
        ({"decimals": SIX, "symbol": MKR, "name": MKR}, ("MKR", "MKR", 6)),
        ({"decimals": SIX, "symbol": abi_string(b"X")}, ("X", "X", 6)),
        ({"decimals": SIX, "symbol": abi_string(b" A\x00\x1b[2J\nB ")}, ("A[2JB", "A[2JB", 6)),
    ],
)
async def test_a_token_says_its_name_in_either_way(
    net: Net, answers: dict[str, str], expected: tuple[str, str, int]
) -> None:
    async with reading(net, contract(**answers)) as token:
        said = await token()
        assert (said.name, said.symbol, said.decimals) == expected


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "no decimals that make sense"),
        ({"decimals": "0x"}, "no decimals that make sense"),
        ({"decimals": "0x" + "ff" * 32, "symbol": MKR}, "no decimals that make sense"),
        ({"decimals": SIX}, "has no symbol"),
        ({"decimals": SIX, "symbol": abi_string(b"")}, "has no symbol"),
        ({"decimals": SIX, "symbol": abi_string(b"\xff\xfe")}, "has no symbol"),
        ({"decimals": SIX, "symbol": "0x" + "ff" * 96}, "has no symbol"),
        ({"decimals": SIX, "symbol": abi_string(b"A" * 5000)}, "its symbol has 5000 characters"),
        ({"decimals": SIX, "symbol": MKR, "name": abi_string(b"A" * 101)}, "its name has 101"),
    ],
)
async def test_what_is_no_token_is_refused(net: Net, answers: dict[str, str], message: str) -> None:
    async with reading(net, contract(**answers)) as token:
        with pytest.raises(Refused, match=f"^0x7070.* is no token: .*{message}"):
            await token()


async def test_an_account_without_code_is_no_token(net: Net) -> None:
    async with reading(net, honest) as token:
        with pytest.raises(Refused, match="is no token: there is no contract"):
            await token()


async def test_a_node_that_fails_says_nothing_of_the_token(net: Net) -> None:
    async with reading(net, unsupported("eth_getCode", -32000)) as token:
        with pytest.raises(Unavailable, match="can't be read"):
            await token()


async def test_a_contract_cannot_send_us_elsewhere(net: Net) -> None:
    """EIP-3668: a revert with OffchainLookup names URLs that a client would fetch."""
    async with serving() as elsewhere:
        url = (elsewhere.url + "/{sender}/{data}").encode()
        words = [
            "70" * 20,  # sender
            "a0",  # offset of urls
            "120",  # offset of callData
            "12345678",  # callback
            "140",  # offset of extraData
        ]
        head = "".join(word.rjust(64, "0") for word in words[:3])
        head += words[3].ljust(64, "0") + words[4].rjust(64, "0")
        urls = "1".rjust(64, "0") + "20".rjust(64, "0") + hex(len(url))[2:].rjust(64, "0")
        data = "0x556f1830" + head + urls + url.hex().ljust(128, "0") + "0" * 256

        def lookup(method: str, params: Sequence[Any], reply: Json) -> Json:
            if method == "eth_getCode":
                return {"jsonrpc": "2.0", "id": reply["id"], "result": "0x6000"}
            if method != "eth_call":
                return reply
            error = {"code": 3, "message": "execution reverted", "data": data}
            return {"jsonrpc": "2.0", "id": reply["id"], "error": error}

        async with reading(net, lookup) as token:
            with pytest.raises(Refused, match="is no token"):
                await token()
        await asyncio.sleep(0)
        assert elsewhere.requests == []
