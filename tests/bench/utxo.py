"""Bitcoin-like blocks a second through the whole pipeline, and their bytes fetched and parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import aiohttp
import orjson

from indexer import config
from indexer.chains.families import open_chain
from indexer.chains.pipeline import REQUESTS
from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_parse import HEADER_BYTES, parse_block
from indexer.chains.utxo_proof import double_sha256
from indexer.chains.utxo_script import p2pkh, p2sh, witness_program
from indexer.devnet.utxo_block import Input, Output, Transaction, assemble, coinbase
from indexer.devnet.utxo_genesis import genesis
from indexer.devnet.utxo_wallet import SIGNATURE
from tests.bench import engine
from tests.bench.http import Answer
from tests.bench.process import Clock, Served
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import SEED, Suite

COIN: Final = "btc"
NETWORK: Final = NETWORKS[COIN, "regtest"]
# About mainnet's block 702,861: 2,500 transactions with 6,500 inputs and 6,000 outputs, 1.4 MB.
INPUTS: Final = ([1, 2, 3, 25], [76, 14, 4, 6])  # of a transaction, and how often
OUTPUTS: Final = ([1, 2, 3, 9], [25, 60, 5, 10])
WITNESSED: Final = 0.8  # of the transactions
WATCHED_EACH: Final = 2  # payments to watched addresses a block
BLOCKS_AT_ONCE: Final = 4  # what the adapter's pace comes to
VERSION: Final = 280000  # of the node


def figures(suite: Suite) -> Iterator[Figure]:
    blocks, watched = suite.sizes.utxo_blocks, suite.sizes.watched
    with Served(answers, blocks, suite.sizes.utxo_transactions, watched) as url:
        yield suite.figure(
            "catch-up, UTXO",
            "blocks",
            lambda: suite.alone(measure, suite.database(), url, watched, blocks),
            "same bytes, fetched and parsed",
            lambda: suite.alone(floor, url, blocks),
        )


async def measure(database: str, url: str, watched: int, blocks: int) -> Run:
    """Follow a node from block 1 to its tip at `blocks`, into a fresh database."""
    table = {
        "id": engine.NETWORK,
        "family": "utxo",
        "coin": COIN,
        "chain": "regtest",
        "endpoints": [url],
        "confirmations": engine.CONFIRMATIONS,
        "reorg_window": engine.REORG_WINDOW,
        "start": 1,
    }
    network = config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table))
    chain = open_chain(engine.NETWORK, network)
    async with engine.following(database, network, chain, watched) as follower:
        clock = Clock()
        await engine.follow(follower)
        run = Run.of(clock, blocks)
    check_count("deposits", await engine.deposits(database), WATCHED_EACH * blocks)
    return run


async def floor(url: str, blocks: int) -> Run:
    """Blocks 1..`blocks` over a bare session, hash by hash, and where in them what lies."""
    spans = iter(range(1, blocks + 1, BLOCKS_AT_ONCE))
    async with aiohttp.ClientSession(read_bufsize=2**20) as session:

        async def worker() -> int:
            parsed = 0
            for first in spans:
                heights = range(first, min(first + BLOCKS_AT_ONCE, blocks + 1))
                calls = [{"method": "getblockhash", "params": [height]} for height in heights]
                async with session.post(url, data=orjson.dumps(calls)) as response:
                    hashes = [each["result"] for each in orjson.loads(await response.read())]
                for name in hashes:
                    async with session.get(f"{url}/rest/block/{name}.bin") as response:
                        parsed += bool(parse_block(await response.read(), NETWORK).txids)
            return parsed

        clock = Clock()
        parsed = sum(await asyncio.gather(*(worker() for _ in range(REQUESTS))))
        run = Run.of(clock, blocks)
    check_count("blocks", parsed, blocks)
    return run


def answers(blocks: int, transactions: int, watched: int) -> Answer:
    """A node at rest about so many blocks."""
    branch = make_branch(blocks, transactions, engine.watched_keys("utxo", watched))
    hashes = [double_sha256(raw[:HEADER_BYTES])[::-1].hex() for raw in branch]
    heights = {name: height for height, name in enumerate(hashes)}

    def header(name: str, words: bool) -> object:
        height = heights[name]
        return {"height": height} if words else branch[height][:HEADER_BYTES].hex()

    methods: dict[str, Callable[..., object]] = {
        "getblockchaininfo": lambda: {"chain": "regtest", "blocks": blocks, "headers": blocks},
        "getnetworkinfo": lambda: {"version": VERSION},
        "getbestblockhash": lambda: hashes[-1],
        "getblockcount": lambda: blocks,
        "getblockhash": lambda height: hashes[height],
        "getblockheader": header,
    }

    def reply(call: dict[str, Any]) -> dict[str, Any]:
        result = methods[call["method"]](*call["params"])
        return {"result": result, "error": None, "id": call.get("id")}

    def answer(head: bytes, body: bytes) -> list[bytes]:
        verb, path = head.split(b" ", 2)[:2]
        if verb == b"GET":
            return [branch[heights[path.rpartition(b"/")[2].removesuffix(b".bin").decode()]]]
        asked = orjson.loads(body)
        many = isinstance(asked, list)
        return [orjson.dumps([reply(call) for call in asked] if many else reply(asked))]

    return answer


def make_branch(blocks: int, transactions: int, keys: list[bytes]) -> list[bytes]:
    """Genesis and so many full blocks, each with its first payments to watched scripts."""
    random = Random(SEED)
    branch = [genesis(COIN)]
    for height in range(1, blocks + 1):
        paid = [Output(1, key) for key in random.sample(keys, WATCHED_EACH)]
        others = [_transaction(random, [*paid] if n == 0 else []) for n in range(transactions)]
        first = coinbase(height, b"bench", Output(50, p2pkh(random.randbytes(20))), others)
        parent, time = double_sha256(branch[-1][:HEADER_BYTES]), 1_700_000_000 + 600 * height
        branch.append(assemble(NETWORK, parent, time, [first, *others]))
    return branch


def _transaction(random: Random, paid: list[Output]) -> Transaction:
    """Strangers pay strangers, and whoever must be paid."""
    witnessed = random.random() < WITNESSED
    (inputs,), (outputs,) = random.choices(*INPUTS), random.choices(*OUTPUTS)
    spent = tuple(_input(random, witnessed=witnessed) for _ in range(inputs))
    return Transaction(spent, (*paid, *(_output(random) for _ in range(outputs))))


def _input(random: Random, *, witnessed: bool) -> Input:
    outpoint, pubkey = random.randbytes(36), b"\x02" + random.randbytes(32)
    if witnessed:
        return Input(outpoint, b"", (SIGNATURE, pubkey))
    return Input(outpoint, b"\x47" + SIGNATURE + b"\x21" + pubkey)


def _output(random: Random) -> Output:
    key = random.randbytes(20)
    scripts = (witness_program(0, key), p2sh(key), p2pkh(key))
    return Output(random.randrange(1, 10**9), random.choice(scripts))
