"""TRON blocks a second through the whole pipeline, beside their bytes fetched and parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import msgspec
import orjson

from indexer import config
from indexer.chains import NATIVE
from indexer.chains.families import open_chain
from indexer.chains.pipeline import REQUESTS
from indexer.chains.tron_wire import WireBlocks, WireInfo
from indexer.devnet.evm_contracts import Token, call_data
from indexer.devnet.tron_block import Block
from indexer.devnet.tron_chain import SimulatedTron
from tests.bench import engine
from tests.bench.blocks import listed_tokens, watched_addresses
from tests.bench.http import Answer
from tests.bench.process import Clock, Served
from tests.bench.results import Figure, Run, check_count
from tests.bench.suite import SEED, Suite

# About mainnet's block 60,954,080: 208 transactions, a quarter of them USDT's.
PAYMENTS: Final = 150  # of TRX a block
CALLS: Final = 55  # of a token a block
WATCHED_EACH: Final = 2  # of them, a block: one of each kind
PLENTY: Final = 10**17
BLOCKS_AT_ONCE: Final = 20  # what the adapter's pace comes to

_blocks: Final = msgspec.json.Decoder(WireBlocks)
_infos: Final = msgspec.json.Decoder(list[WireInfo])


def figures(suite: Suite) -> Iterator[Figure]:
    blocks, watched = suite.sizes.blocks, suite.sizes.watched
    with Served(answers, blocks, watched) as url:
        yield suite.figure(
            "catch-up, TRON",
            "blocks",
            lambda: suite.alone(measure, suite.database(), url, watched, blocks),
            "same bytes, fetched and parsed",
            lambda: suite.alone(floor, url, blocks),
        )


async def measure(database: str, url: str, watched: int, blocks: int) -> Run:
    """Follow a node from block 1 to its tip at `blocks`, into a fresh database."""
    table = {
        "id": engine.NETWORK,
        "family": "tron",
        "endpoints": [url],
        "confirmations": engine.CONFIRMATIONS,
        "reorg_window": engine.REORG_WINDOW,
        "start": 1,
    }
    network = config.TronNetwork.model_validate(config.TronNetwork.filled(table))
    chain = open_chain(engine.NETWORK, network)
    async with engine.following(database, network, chain, watched) as follower:
        clock = Clock()
        await engine.follow(follower)
        run = Run.of(clock, blocks)
    check_count("deposits", await engine.deposits(database), WATCHED_EACH * blocks)
    return run


async def floor(url: str, blocks: int) -> Run:
    """Blocks 1..`blocks` and their infos over a bare session, into the adapter's own types."""
    spans = iter(range(1, blocks + 1, BLOCKS_AT_ONCE))
    async with aiohttp.ClientSession(read_bufsize=2**20) as session:

        async def ask(name: str, question: dict[str, Any]) -> bytes:
            body = msgspec.json.encode(question)
            async with session.post(f"{url}/wallet/{name}", data=body) as response:
                return await response.read()

        async def worker() -> int:
            parsed = 0
            for first in spans:
                end = min(first + BLOCKS_AT_ONCE, blocks + 1)
                asked = {"startNum": first, "endNum": end}
                found = _blocks.decode(await ask("getblockbylimitnext", asked)).block
                infos = [
                    _infos.decode(await ask("gettransactioninfobyblocknum", {"num": height}))
                    for height in range(first, end)
                ]
                parsed += sum(
                    len(block.transactions) == len(of_block)
                    for block, of_block in zip(found, infos, strict=True)
                )
            return parsed

        clock = Clock()
        parsed = sum(await asyncio.gather(*(worker() for _ in range(REQUESTS))))
        run = Run.of(clock, blocks)
    check_count("blocks", parsed, blocks)
    return run


def answers(blocks: int, watched: int) -> Answer:
    """A node at rest about so many blocks, every answer serialised before."""
    branch = make_branch(blocks, watched)
    full = [orjson.dumps(block.json) for block in branch]
    infos = [orjson.dumps(block.infos) for block in branch]
    headers = [
        orjson.dumps({k: v for k, v in block.json.items() if k != "transactions"})
        for block in branch
    ]

    def answer(head: bytes, body: bytes) -> list[bytes]:
        question = orjson.loads(body)
        name = head.split(b" ", 2)[1].rpartition(b"/")[2]
        if name == b"getblock":
            return [headers[int(question.get("id_or_num", blocks))]]
        if name == b"getblockbynum":
            return [full[question["num"]]]
        if name == b"gettransactioninfobyblocknum":
            return [infos[question["num"]]]
        found = full[question["startNum"] : question["endNum"]]
        return [b'{"block":[', b",".join(found), b"]}"]

    return answer


def make_branch(blocks: int, watched: int) -> list[Block]:
    """Genesis and so many full blocks; in each, one payment of each kind to a watched address."""
    chain = SimulatedTron(SEED, lambda: 1_700_000_000)
    payer, token = chain.wallet("payer"), listed_tokens()[0]
    chain.contracts[token] = Token("Bench", "BEN", 6)
    for asset in (NATIVE, token):
        chain.endow(asset, payer.address, PLENTY)
    keys = watched_addresses(watched)
    for height in range(1, blocks + 1):
        for number in range(PAYMENTS + CALLS):
            first = number in (0, PAYMENTS)
            stranger = (b"%d %d" % (height, number)).rjust(20, b"\xee")
            to = keys[height % len(keys)] if first else stranger
            if number < PAYMENTS:
                chain.send(payer, to, 1)
            else:
                chain.send(payer, token, 0, call_data("transfer(address,uint256)", to, 1))
        chain.mine()
    return list(chain.branch())
