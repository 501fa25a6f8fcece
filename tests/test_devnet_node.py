"""The simulated node over HTTP: web3.py as a real client, and raw calls where it must refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from hexbytes import HexBytes
from web3 import AsyncWeb3
from web3.providers import AsyncHTTPProvider

from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_contracts import TRANSFER, Token, call_data
from indexer.devnet.evm_node import EvmNode

ABI: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": "", "type": kind} for kind in takes],
        "outputs": [{"name": "", "type": returns}],
    }
    for name, takes, returns in (
        ("name", [], "string"),
        ("symbol", [], "string"),
        ("decimals", [], "uint8"),
        ("balanceOf", ["address"], "uint256"),
    )
]


class Scene:
    def __init__(self, node: EvmNode, session: aiohttp.ClientSession) -> None:
        self.node, self.chain, self._session = node, node.chain, session
        self.payer, self.payee = self.chain.wallet("payer"), self.chain.wallet("payee")
        self.token = self.chain.deploy("token", Token("Some Token", "TOK", 6))
        self.chain.endow(self.token, self.payer.address, 1000)
        self.web3 = AsyncWeb3(AsyncHTTPProvider(node.url))

    async def post(self, body: Any) -> Any:
        async with self._session.post(self.node.url, json=body) as response:
            return await response.json()

    async def ask(self, method: str, *params: Any) -> Any:
        reply = await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert reply["id"] == 1
        return reply["error"]["code"] if "error" in reply else reply["result"]

    def pay(self, units: int) -> bytes:
        data = call_data("transfer(address,uint256)", self.payee.address, units)
        return self.chain.send(self.payer, self.token, 0, data).hash


@pytest_asyncio.fixture
async def scene() -> AsyncIterator[Scene]:
    async with EvmNode(SimulatedChain(1)) as node, aiohttp.ClientSession() as session:
        scene = Scene(node, session)
        yield scene
        await scene.web3.provider.disconnect()


async def test_web3_reads_blocks_receipts_and_logs(scene: Scene) -> None:
    tx = scene.pay(7)
    block = scene.chain.mine()
    web3 = scene.web3
    assert await web3.eth.chain_id == scene.chain.chain_id
    assert await web3.eth.block_number == 1
    shown = await web3.eth.get_block("latest", full_transactions=True)
    assert shown["hash"] == block.hash
    assert [dict(each)["hash"] for each in shown["transactions"]] == [tx]  # type: ignore[arg-type]
    receipt = await web3.eth.get_transaction_receipt(HexBytes(tx))
    assert (receipt["status"], receipt["blockHash"]) == (1, block.hash)
    logs = await web3.eth.get_logs(
        {"fromBlock": 0, "toBlock": 1, "address": web3.to_checksum_address(scene.token)}
    )
    assert [int.from_bytes(log["data"], "big") for log in logs] == [7]


async def test_web3_reads_a_tokens_metadata_and_balances_of_then_and_now(scene: Scene) -> None:
    web3 = scene.web3
    token = web3.eth.contract(web3.to_checksum_address(scene.token), abi=ABI)
    functions = token.functions
    assert await functions.name().call() == "Some Token"
    assert await functions.symbol().call() == "TOK"
    assert await functions.decimals().call() == 6
    scene.pay(7)
    block = scene.chain.mine()
    balance = functions.balanceOf(scene.payee.address)
    assert await balance.call() == 7
    assert await balance.call(block_identifier=0) == 0
    assert await balance.call(block_identifier=block.json["hash"]) == 7
    assert await web3.eth.get_code(web3.to_checksum_address(scene.token)) != b""
    assert await web3.eth.get_code(web3.to_checksum_address(scene.payee.address)) == b""


async def test_a_contract_that_is_none_answers_nothing_and_a_wrong_call_reverts(
    scene: Scene,
) -> None:
    call = {"to": scene.payee.address.hex().join(("0x", "")), "data": "0x06fdde03"}
    assert await scene.ask("eth_call", call, "latest") == "0x"
    call = {"to": "0x" + scene.token.hex(), "data": "0xffffffff"}
    assert await scene.ask("eth_call", call, "latest") == 3


async def test_blocks_have_tags_and_unknown_ones_are_null(scene: Scene) -> None:
    scene.chain.finality = 2
    blocks = [scene.chain.mine() for _ in range(3)]
    expected = {"earliest": 0, "latest": 3, "safe": 1, "finalized": 1, "0x2": 2}
    for tag, number in expected.items():
        shown = await scene.ask("eth_getBlockByNumber", tag, False)
        assert shown["number"] == hex(number)
    for answer in (
        await scene.ask("eth_getBlockByNumber", "0x4", False),
        await scene.ask("eth_getBlockByHash", "0x" + "ab" * 32, False),
        await scene.ask("eth_getBlockReceipts", "0x" + "ab" * 32),
        await scene.ask("eth_getTransactionByHash", "0x" + "ab" * 32),
        await scene.ask("eth_getTransactionReceipt", "0x" + "ab" * 32),
    ):
        assert answer is None
    scene.chain.finality = None
    assert await scene.ask("eth_getBlockByNumber", "finalized", False) == -39001
    assert blocks[0].json == await scene.ask("eth_getBlockByHash", blocks[0].json["hash"], True)


async def test_receipts_and_traces_are_asked_by_hash_or_number(scene: Scene) -> None:
    tx = scene.pay(7)
    block = scene.chain.mine()
    block_hash = block.json["hash"]
    for name in ("0x1", "latest", block_hash, {"blockHash": block_hash}, {"blockNumber": "0x1"}):
        assert await scene.ask("eth_getBlockReceipts", name) == block.receipts
    tracer = {"tracer": "callTracer"}
    for method, name in (("Hash", block_hash), ("Number", "0x1")):
        assert await scene.ask(f"debug_traceBlockBy{method}", name, tracer) == block.traces
    assert await scene.ask("debug_traceBlockByHash", "0x" + "ab" * 32, tracer) == -32000
    shown = await scene.ask("eth_getTransactionByHash", "0x" + tx.hex())
    assert (shown["blockHash"], shown["from"]) == (block_hash, "0x" + scene.payer.address.hex())


async def test_logs_are_filtered_by_address_topics_and_block(scene: Scene) -> None:
    scene.pay(1)
    scene.chain.send(scene.payer, scene.payee.address, 5)
    first = scene.chain.mine()
    scene.pay(2)
    scene.chain.mine()
    topic, payee = "0x" + TRANSFER.hex(), "0x" + scene.payee.address.hex().rjust(64, "0")
    everything = {"fromBlock": "0x0", "toBlock": "0x2"}

    async def units(**query: Any) -> Any:
        logs = await scene.ask("eth_getLogs", query)
        return [int(log["data"], 16) for log in logs] if isinstance(logs, list) else logs

    assert await units(**everything) == [1, 2]
    assert await units(**everything, topics=[[topic, payee], None, payee]) == [1, 2]
    assert await units(**everything, topics=[payee]) == []
    assert await units(**everything, topics=[topic, None, payee, None]) == []
    assert await units(**everything, address=["0x" + scene.token.hex().upper()]) == [1, 2]
    assert await units(**everything, address="0x" + "11" * 20) == []
    assert await units(blockHash=first.json["hash"]) == [1]
    assert await units(blockHash="0x" + "ab" * 32) == -32000
    assert await units(fromBlock="0x2", toBlock="0x1") == -32602
    assert await units(blockHash=first.json["hash"], fromBlock="0x0") == -32602


async def test_a_replaced_block_is_still_served_by_hash_but_not_by_number(scene: Scene) -> None:
    old = scene.chain.mine()
    (new,) = scene.chain.reorg(1)
    assert (await scene.ask("eth_getBlockByNumber", "0x1", True)) == new.json != old.json
    assert await scene.ask("eth_getBlockByHash", old.json["hash"], True) == old.json
    assert (
        await scene.ask("eth_getBalance", "0x" + "11" * 20, {"blockHash": old.json["hash"]})
        == -32000
    )
    assert await scene.ask("eth_getBalance", "0x" + scene.payer.address.hex()) == hex(10**24)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("eth_nonsense", [], -32601),
        ("eth_getBlockByNumber", [], -32602),
        ("eth_getBlockByNumber", ["0x1"], -32602),
        ("eth_getBlockByNumber", ["0x1", "yes"], -32602),
        ("eth_getBlockByNumber", ["1", False], -32602),
        ("eth_getBlockByNumber", ["0x01", False], -32602),
        ("eth_getBlockByNumber", [1, False], -32602),
        ("eth_getBlockByHash", ["0xab", False], -32602),
        ("eth_getBlockByHash", [None, False], -32602),
        ("eth_getLogs", ["0x1"], -32602),
        ("eth_getLogs", [{"address": 5}], -32602),
        ("eth_call", [{}], -32602),
        ("eth_call", [{"to": "0x" + "11" * 20}, "0x99"], -32000),
        ("eth_chainId", ["0x1"], -32602),
        ("debug_traceBlockByNumber", ["0x0", {"tracer": "callTracer"}], -32000),
        ("debug_traceBlockByNumber", ["0x0", {"tracer": "prestateTracer"}], -32000),
    ],
)
async def test_bad_calls_are_refused_as_real_nodes_do(
    scene: Scene, method: str, params: list[Any], code: int
) -> None:
    assert await scene.ask(method, *params) == code


async def test_batches_answer_each_call_in_order(scene: Scene) -> None:
    names = ["eth_chainId", "eth_nonsense", "net_version", "web3_clientVersion", "eth_syncing"]
    batch = [{"jsonrpc": "2.0", "id": n, "method": name} for n, name in enumerate(names)]
    replies = await scene.post(batch)
    assert [reply["id"] for reply in replies] == list(range(len(names)))
    assert ["error" in reply for reply in replies] == [False, True, False, False, False]
    assert replies[0]["result"] == hex(scene.chain.chain_id)
    assert replies[2]["result"] == str(scene.chain.chain_id)
    assert (await scene.post([]))["error"]["code"] == -32600
    assert (await scene.post([5]))[0]["error"]["code"] == -32600
    assert (await scene.post([batch[0]] * 1001))[0]["error"]["code"] == -32600


async def test_what_is_not_json_is_a_parse_error(scene: Scene) -> None:
    async with aiohttp.ClientSession() as session, session.post(scene.node.url, data=b"{") as reply:
        assert (await reply.json())["error"]["code"] == -32700
