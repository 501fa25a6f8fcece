"""The UTXO adapter over nodes that answer well, badly, or of another chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from indexer.chains import NATIVE, Block, Transfer
from indexer.chains.rpc import Transport
from indexer.chains.utxo import UtxoChain
from indexer.chains.utxo_network import NETWORKS
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.devnet.utxo_wallet import Kind
from indexer.model import Refused, Unavailable
from tests.evm_samples import Watching
from tests.rpc_server import FakeTime


@dataclass(frozen=True)
class OneEndpoint:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    zmq: str | None = None


@dataclass(frozen=True)
class Rules:
    endpoints: Sequence[OneEndpoint]
    coin: str = "btc"
    chain: str = "regtest"
    quorum: int = 1
    reorg_window: int = 20
    id: str = "net"


class Scripted(UtxoNode):
    """A simulated node that twists some answers."""

    def __init__(self, chain: SimulatedUtxoChain, *, rest: bool = True) -> None:
        super().__init__(chain, rest=rest)
        self.asked: list[str] = []

    def twist(self, method: str, change: Callable[[Any], Any]) -> None:
        truth = self._methods[method]
        self._methods[method] = lambda *params: change(truth(*params))

    def answer(self, request: object) -> dict[str, Any]:
        if isinstance(request, dict):
            self.asked.append(request["method"])
        return super().answer(request)


@asynccontextmanager
async def reading(*nodes: UtxoNode, **rules: Any) -> AsyncIterator[UtxoChain]:
    time = FakeTime()
    transport = Transport(clock=time.clock, sleep=time.sleep)
    endpoints = [OneEndpoint(node.url) for node in nodes]
    chain = UtxoChain(Rules(endpoints, **rules), transport)
    try:
        yield chain
    finally:
        await chain.close()


async def read(chain: UtxoChain, first: int, last: int) -> list[Block]:
    return [block async for block in chain.blocks(first, last)]


def grown(seed: int, blocks: int, coin: str = "btc") -> SimulatedUtxoChain:
    """A chain of blocks that each pay somebody: the same for the same seed, in any second."""
    chain = SimulatedUtxoChain(seed, coin, clock=lambda: 0)  # each block follows its parent
    payer = chain.wallet("payer")
    for number in range(blocks):
        chain.pay(payer, (chain.wallet(f"payee {number}").script, 1 + number))
        chain.mine()
    return chain


@pytest.mark.parametrize("coin", ["btc", "ltc", "doge"])
@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.pitfall("P87", "P89", "P92", "P93")
async def test_the_adapter_finds_exactly_what_was_paid(coin: str, rest: bool) -> None:
    chain, chance = SimulatedUtxoChain(3, coin), Random(3)
    kinds = [k for k in Kind if coin != "doge" or k in (Kind.P2PKH, Kind.P2SH, Kind.P2PK)]
    payers = [chain.wallet(f"payer {kind}", kind) for kind in kinds]
    wallets = [chain.wallet(f"watched {kind}", kind) for kind in kinds]
    for number in range(30):
        for _ in range(chance.randint(0, 4)):
            paid = chance.choices(wallets, k=chance.randint(1, 3))
            outputs = [(wallet.script, chance.randrange(0, 10**9)) for wallet in paid]
            chain.pay(chance.choice(payers), *outputs)
        chain.mine(reward=chance.choice(wallets).script)
        if number % 10 == 9:
            chain.reorg(3, longer=1)
    chain.pay(payers[0], (wallets[0].script, 5))  # stays unconfirmed
    due = {
        (block.number, tx.hash, index): (output.units, wallet.address, wallet.kind is Kind.P2PK)
        for block in chain.branch(1)
        for tx in block.transactions
        for index, output in enumerate(tx.outputs)
        for wallet in wallets
        if wallet.script == output.script and output.units
    }
    async with Scripted(chain, rest=rest) as node, reading(node, coin=coin) as reader:
        identity = await reader.connect()
        assert identity == f"utxo:{coin}:{chain.network.genesis[0]}"
        blocks = await read(reader, 1, chain.head.number)
        watch = Watching([NATIVE], {wallet.address for wallet in wallets})
        found = {
            (block.header.height, t.tx, t.ordinal): (t.units, t.recipient, t.odd)
            for block in blocks
            for t in reader.transfers(block, watch)
        }
        assert found == due
        assert len(due) > 30
        assert ("getblock" in node.asked) is not rest
        assert [b.header.hash for b in blocks] == [b.hash for b in chain.branch(1)]


@pytest.mark.pitfall("P106")
async def test_a_node_of_another_network_is_refused() -> None:
    async with UtxoNode(grown(5, 4)) as node:
        async with reading(node, chain="mainnet") as reader:
            with pytest.raises(Refused, match="serves the chain 'regtest', not btc mainnet"):
                await reader.connect()
        async with reading(node, coin="ltc") as reader:
            with pytest.raises(Refused, match="serves another chain: block 0 is 0f9188"):
                await reader.connect()


@pytest.mark.pitfall("P106")
async def test_a_node_that_changes_its_chain_under_us_is_not_believed() -> None:
    async with UtxoNode(grown(6, 4)) as node, reading(node) as reader:
        await reader.connect()
        node.chain = SimulatedUtxoChain(6, "ltc")
        with pytest.raises(Unavailable, match="another chain now"):
            await reader.tip()


@pytest.mark.pitfall("P100")
@pytest.mark.parametrize(
    ("method", "change", "sentence"),
    [
        ("getblockchaininfo", {"headers": 99}, "94 blocks behind"),
        ("getblockchaininfo", {"blocks": "5"}, "unknown shape"),
        ("getblockchaininfo", {"chain": None}, "unknown shape"),
        ("getnetworkinfo", {"version": 1}, "does not serve whole blocks"),
        ("getblockchaininfo", {"pruned": True, "pruneheight": 3}, "no block below 3"),
    ],
)
async def test_a_node_that_can_t_serve_what_is_needed_is_not_used(
    method: str, change: dict[str, Any], sentence: str
) -> None:
    async with Scripted(grown(7, 5)) as node, reading(node) as reader:
        node.twist(method, lambda truth: truth | change)
        with pytest.raises((Refused, Unavailable), match=sentence):
            await reader.connect()


@pytest.mark.pitfall("P100")
async def test_a_node_still_downloading_is_not_used_but_on_regtest() -> None:
    async with Scripted(grown(8, 5)) as node, reading(node) as reader:
        node.twist("getblockchaininfo", lambda truth: truth | {"initialblockdownload": True})
        await reader.connect()
        node.twist("getblockchaininfo", lambda truth: truth | {"chain": "test"})
        node.twist("getblockhash", lambda _: NETWORKS["btc", "testnet"].genesis[0])
        async with reading(node, chain="testnet") as other:
            with pytest.raises(Unavailable, match="still downloading"):
                await other.connect()


@pytest.mark.parametrize("rest", [True, False])
@pytest.mark.pitfall("P99", "P100", "P107")
async def test_a_block_that_is_not_what_was_asked_for_is_refused(rest: bool) -> None:
    chain = grown(9, 5)
    async with Scripted(chain, rest=rest) as node, reading(node) as reader:
        await reader.connect()
        chain._blocks[chain.branch()[2].hash] = chain.branch()[3]
        with pytest.raises(Unavailable, match="another hash"):
            await read(reader, 1, 4)


@pytest.mark.pitfall("P99")
async def test_stale_blocks_are_served_and_do_not_link() -> None:
    chain = grown(10, 5)
    stale = chain.head
    chain.reorg(1, longer=2)
    async with Scripted(chain) as node, reading(node) as reader:
        await reader.connect()
        node.twist("getblockhash", lambda h: stale.hash.hex() if h == _named(chain, 5) else h)
        with pytest.raises(Unavailable, match="don't link"):
            await read(reader, 3, 6)


def _named(chain: SimulatedUtxoChain, height: int) -> str:
    return chain.branch()[height].hash.hex()


@pytest.mark.pitfall("P100")
async def test_one_block_that_can_t_be_had_is_a_block_that_is_missing() -> None:
    chain = grown(11, 5)
    async with Scripted(chain) as node, reading(node) as reader:
        await reader.connect()
        del chain._blocks[chain.branch()[3].hash]
        with pytest.raises(Unavailable, match="Block not found"):
            await read(reader, 1, 5)


@pytest.mark.pitfall("P108")
async def test_a_header_without_work_is_not_believed() -> None:
    chain = grown(12, 5)
    async with Scripted(chain) as node, reading(node) as reader:
        await reader.connect()

        def easier(raw: Any) -> Any:
            return raw[:144] + "ffff7f21" + raw[152:] if isinstance(raw, str) else raw

        node.twist("getblockheader", easier)
        with pytest.raises(Unavailable, match="another hash"):
            await reader.tip()


@pytest.mark.pitfall("P108")
async def test_a_quorum_waits_for_a_second_node_with_the_same_block() -> None:
    chain = grown(13, 5)
    lagging = SimulatedUtxoChain(13)
    async with (
        UtxoNode(chain) as first,
        UtxoNode(lagging) as second,
        reading(first, second, quorum=2) as reader,
    ):
        await reader.connect()
        with pytest.raises(Unavailable, match=r"1 of the 2 endpoints.*doesn't have it"):
            await read(reader, 1, 5)
        second.chain = grown(14, 5)
        with pytest.raises(Unavailable, match="names another"):
            await read(reader, 1, 5)
        second.chain = chain
        assert len(await read(reader, 1, 5)) == 5


async def test_another_node_stands_in_for_one_that_went_away() -> None:
    chain = grown(15, 5)
    async with UtxoNode(chain) as second:
        async with UtxoNode(chain) as first, reading(first, second) as reader:
            await reader.connect()
            assert (await reader.tip()).source == first.url
            gone = first.url
        rules = Rules([OneEndpoint(gone), OneEndpoint(second.url)])
        reader = UtxoChain(rules)
        try:
            await reader.connect()
            assert (await reader.tip()).source == second.url
        finally:
            await reader.close()


async def test_no_secret_of_an_endpoint_is_shown() -> None:
    async with Scripted(grown(16, 5)) as node:
        secret = "s3cret:/@word"
        url = node.url.replace("http://", "http://someone:s3cret%3A%2F%40word@")
        for path in ("", "/wrong/path-with-key-4711"):
            chain = UtxoChain(Rules([OneEndpoint(url + path, {"X-Key": "hidden-key"})]))
            node.twist("getnetworkinfo", lambda truth: truth | {"subversion": secret})
            try:
                if not path:
                    await chain.connect()
                    continue
                with pytest.raises(Unavailable) as failure:
                    await chain.connect()
            finally:
                await chain.close()
            assert not [s for s in (secret, "s3cret", "4711", "hidden") if s in str(failure.value)]


async def test_control_calls_carry_the_endpoint_s_credentials_and_headers() -> None:
    chain = grown(17, 5)
    seen: list[Mapping[str, str]] = []

    class Noting(UtxoNode):
        async def _serve(self, request: Any) -> Any:
            seen.append(request.headers)
            return await super()._serve(request)

    async with Noting(chain) as node:
        url = node.url.replace("http://", "http://us%40er:p%3Ass@")
        reader = UtxoChain(Rules([OneEndpoint(url, {"X-Key": "k"})]))
        try:
            await reader.connect()
        finally:
            await reader.close()
    assert len(seen) >= 4  # three control calls, and data
    assert {headers["Authorization"] for headers in seen} == {"Basic dXNAZXI6cDpzcw=="}
    assert {headers["X-Key"] for headers in seen} == {"k"}


def test_transfers_of_other_assets_are_none() -> None:
    found: list[Transfer] = UtxoChain(Rules([OneEndpoint("http://127.0.0.1:1")])).transfers(
        Block(header=None, payload=None, size=0),  # type: ignore[arg-type]
        Watching([b"usdt"]),
    )
    assert found == []
