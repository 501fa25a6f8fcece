"""`explain` from node to reader: by API with a network of each family, and at a terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from indexer.chains.evm_codec import EvmCodec
from indexer.devnet.contract_chain import ContractChain
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_contracts import Token, call_data
from tests.harness.api import Client
from tests.harness.engine import ADMIN_KEY, engine
from tests.harness.scene import LOOK, PATIENCE, open_account, started
from tests.harness.terminal import Node, Terminal, settings
from tests.test_families_together import Followed, one_of_each
from tests.test_proofs_served import alice, pay

CODEC = EvmCodec()
ALICE = b"\xa1" * 20


async def deposits(shop: Client, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(PATIENCE):
        while len(found := await shop.all("/v1/deposits")) < count:
            await asyncio.sleep(LOOK)
    return found


async def explained(caller: Client, network: str, tx: str) -> dict[str, Any]:
    answer: dict[str, Any] = await caller.get(f"/v1/transactions/{network}/{tx}")
    return answer


async def test_every_family_s_deposits_are_explained(dsn: str, tmp_path: Path) -> None:
    async with one_of_each() as networks:
        tables = {name: network.settings for name, network in networks.items()}
        async with (
            engine(tmp_path, dsn, tables) as running,
            Client(running.base, ADMIN_KEY) as admin,
            Client(running.base, await open_account(admin)) as shop,
            Client(running.base, await open_account(admin, "stranger")) as stranger,
        ):
            await started(admin, *networks)
            for name, network in networks.items():
                codec, key = alice(network)
                body = {"network": name, "addresses": [codec.format_address(key)]}
                await shop.post("/v1/addresses", body)
                pay(network)
            for deposit in await deposits(shop, len(networks)):
                name, tx = deposit["network"], deposit["transactionHash"]
                said = await explained(shop, name, tx)
                assert [step["result"] for step in said["steps"]] == ["passed"] * 4
                way = said["transfers"][0]
                assert (way["deposit"], way["amount"]) == (deposit["id"], deposit["amount"])
                said = await explained(stranger, name, tx)
                assert "shop" not in repr(said)
                assert {way["stoppedAt"] for way in said["transfers"]} == {"address"}
                with networks[name].away():
                    said = await explained(shop, name, tx)
                    assert said["steps"][0]["result"] == "waits"
                    assert said["transfers"][0]["deposit"] == deposit["id"]
            await check_strange_tokens(networks, shop)
            await check_wrong_network(networks, shop)


async def check_strange_tokens(networks: dict[str, Followed], shop: Client) -> None:
    """A token that is no coin is named."""
    for name, network in networks.items():
        chain, (codec, key) = network.chain, alice(network)
        if not isinstance(chain, ContractChain):
            continue
        token = chain.deploy("fake", Token("Tether", "USDT", 6))
        payer = chain.wallet("payer")
        chain.endow(token, payer.address, 10)
        tx = chain.send(payer, token, 0, call_data("transfer(address,uint256)", key, 7)).hash
        chain.mine()
        (way,) = (await explained(shop, name, codec.format_hash(tx)))["transfers"]
        assert (way["contractAddress"], way["amountUnits"]) == (codec.format_asset(token), "7")
        assert way["stoppedAt"] == "coin"


async def check_wrong_network(networks: dict[str, Followed], shop: Client) -> None:
    """TRON's hashes are written as Bitcoin's are."""
    (paid,) = await shop.all("/v1/deposits", network="tron")
    (step,) = (await explained(shop, "bitcoin", paid["transactionHash"]))["steps"]
    assert "tron has it: it was sent on another network" in step["sentence"]


async def test_at_a_terminal(empty_dsn: str, tmp_path: Path) -> None:
    terminal, chain = Terminal(tmp_path), SimulatedChain(1)
    tx = CODEC.format_hash(chain.send(chain.wallet("payer"), ALICE, 5).hash)
    async with Node(chain) as node:
        terminal.write(settings({"sim": [node.address]}, database=empty_dsn))
        waiting = await terminal.run("explain", "sim", tx)
        first, line, advice = waiting.out.splitlines()
        assert first == f"sim {tx}"
        assert line.split()[:2] == ["waits", "transaction"]
        assert advice.strip() == "-> wait; the sender may raise its fee"
        chain.mine()
        chain.mine()
        said = (await terminal.run("explain", "sim", tx, "--json")).json
        assert (said["blockHeight"], said["stoppedAt"]) == (1, "block")
        assert "sim has not started yet" in said["steps"][1]["sentence"]
        (way,) = said["transfers"]
        assert (way["amountUnits"], way["account"]) == ("5", None)
        text = (await terminal.run("explain", "sim", tx)).out
        assert f"5 base units of the native coin to {CODEC.format_address(ALICE)}" in text
    assert "no node of sim could say" in (await terminal.run("explain", "sim", tx)).out
