"""Faults of a TRON node: nothing wrong is believed meanwhile, all is there once afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from indexer.devnet.evm_contracts import Disperser, Token, call_data
from tests.harness.scene import LOOK
from tests.harness.tron import TronWorld, Twist, tron_world

pytestmark = pytest.mark.usefixtures("impatient")

ALICE: Final = b"\xa1" * 20
HITS: Final = 8  # times that a fault must strike: an endpoint has to pass its check again
SECONDS: Final = 20.0  # that it has for it
TRANSFER: Final = "transfer(address,uint256)"


def blocks_in(path: str, said: Any) -> list[dict[str, Any]]:
    """The blocks of an answer that have transactions."""
    if "getblockby" not in path or not isinstance(said, dict):
        return []
    return [block for block in said.get("block", [said]) if block.get("transactions")]


def block_fault(alter: Callable[[dict[str, Any]], None]) -> Twist:
    def twist(path: str, question: dict[str, Any], said: Any) -> Any:
        for block in blocks_in(path, said):
            alter(block)
        return said

    return twist


def info_fault(alter: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Twist:
    def twist(path: str, question: dict[str, Any], said: Any) -> Any:
        return alter(said) if "infobyblocknum" in path and said else said

    return twist


def answer(make: Callable[[], Any]) -> Twist:
    return lambda path, question, said: make()


def raised(block: dict[str, Any]) -> None:
    block["transactions"][0]["raw_data_hex"] += "00"


def transactions_swapped(block: dict[str, Any]) -> None:
    block["transactions"][0]["txID"], block["transactions"][-1]["txID"] = "00" * 32, "11" * 32


def both_dropped(path: str, question: dict[str, Any], said: Any) -> Any:
    """A transaction and its info are missing, as if they had never been."""
    for block in blocks_in(path, said):
        del block["transactions"][-1]
    return said[:-1] if "infobyblocknum" in path else said


def other_id(path: str, question: dict[str, Any], said: Any) -> Any:
    if isinstance(said, dict) and "blockID" in said:
        said["blockID"] = "ff" * 32
    return said


def other_parent(block: dict[str, Any]) -> None:
    block["block_header"]["raw_data"]["parentHash"] = "00" * 32


def failed(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [info | {"result": "FAILED"} for info in infos]


def renamed(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [info | {"id": "00" * 32} for info in infos]


def moved(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [info | {"blockNumber": info["blockNumber"] + 1} for info in infos]


FAULTS: Final[dict[str, Twist]] = {
    "transactions left out": block_fault(lambda block: block.update(transactions=[])),
    "a transaction dropped": block_fault(lambda block: block["transactions"].pop()),
    "a transaction and its info dropped": both_dropped,
    "a transaction altered": block_fault(raised),
    "ids exchanged": block_fault(transactions_swapped),
    "another block id": other_id,
    "another parent": block_fault(other_parent),
    "no infos": info_fault(lambda infos: []),
    "an info dropped": info_fault(lambda infos: infos[:-1]),
    "infos of other transactions": info_fault(renamed),
    "infos of another block": info_fault(moved),
    "infos that say it failed": info_fault(failed),
    "an error": answer(lambda: {"Error": "class java.lang.NullPointerException : null"}),
    "nothing": answer(dict),
    "no such method": answer(lambda: web.Response(status=404, text="<h2>Not Found</h2>")),
    "a broken gateway": answer(lambda: web.Response(status=502, text="<html>Bad Gateway</html>")),
    "an overloaded node": answer(
        lambda: web.Response(status=429, headers={"Retry-After": "0"}, text="slow down")
    ),
    "half an answer": answer(lambda: web.Response(text='{"blockID": "00')),
    "another shape": answer(lambda: [{"blockID": 1}]),
}


async def prepare(w: TronWorld) -> bytes:
    token = w.chain.deploy("token", Token("Token", "TKN", 6))
    w.chain.endow(token, w.chain.wallet("payer").address, 10**9)
    w.chain.deploy("vault", Disperser())
    await w.list_coin(token)
    await w.watch(ALICE)
    return token


def pay(w: TronWorld, token: bytes) -> None:
    """Two blocks with three deposits, and one that failed."""
    payer = w.chain.wallet("payer")
    w.chain.send(payer, ALICE, 5)
    w.chain.send(payer, token, 0, call_data(TRANSFER, ALICE, 6))
    w.chain.mine()
    w.chain.send(payer, token, 0, call_data(TRANSFER, ALICE, 10**12))
    w.chain.send(payer, token, 0, call_data(TRANSFER, ALICE, 7))
    w.chain.mine()


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.pitfall("P68", "P76", "P86")
async def test_after_the_fault_every_deposit_is_there_once_and_during_it_none_is_wrong(
    dsn: str, tmp_path: Path, name: str
) -> None:
    async with tron_world(dsn, tmp_path) as w:
        token = await prepare(w)
        pay(w, token)
        await w.follow()
        with w.nodes[0].twisted(FAULTS[name]):
            pay(w, token)
            async with asyncio.timeout(SECONDS):
                while w.nodes[0].hits < HITS:
                    await w.nothing_wrong()
                    await asyncio.sleep(LOOK)
            await w.nothing_wrong()
        await w.mine(2)
        assert len(await w.agree()) == 6
        histories = (await w.histories()).values()
        assert set(map(tuple, histories)) == {("detected", "confirmed")}


@pytest.mark.parametrize("name", list(FAULTS)[::3])
@pytest.mark.pitfall("P76", "P79")
async def test_another_endpoint_stands_in_while_the_fault_lasts(
    dsn: str, tmp_path: Path, name: str
) -> None:
    async with tron_world(dsn, tmp_path, nodes=2) as w:
        token = await prepare(w)
        with w.nodes[0].twisted(FAULTS[name]):
            pay(w, token)
            await w.follow()
            assert len(await w.agree()) == 3
            assert w.nodes[0].hits


@pytest.mark.pitfall("P79")
async def test_an_invented_log_needs_a_second_witness(dsn: str, tmp_path: Path) -> None:
    def million(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for log in (log for info in infos for log in info.get("log", [])):
            log["data"] = (10**12).to_bytes(32, "big").hex()
        return infos

    async with tron_world(dsn, tmp_path, nodes=2, quorum=2) as w:
        token = await prepare(w)
        with w.nodes[0].twisted(info_fault(million)):
            pay(w, token)
            async with asyncio.timeout(SECONDS):
                while w.nodes[0].hits < HITS:
                    await asyncio.sleep(LOOK)
            assert await w.nothing_wrong() == []
        await w.mine(2)
        assert len(await w.agree()) == 3
