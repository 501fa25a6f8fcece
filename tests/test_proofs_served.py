"""Proofs from node to stranger, through a whole installation with a network of each family."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from indexer import config
from indexer.chains import NATIVE, Codec, Transfer
from indexer.chains.evm_codec import EvmCodec
from indexer.chains.tron_codec import PREFIX, TronCodec
from indexer.chains.utxo import UtxoChain
from indexer.chains.utxo_codec import UtxoCodec
from indexer.devnet.contract_chain import ContractChain
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.engine import Engine
from indexer.installation import Installation
from indexer.model import Refused
from tests.api.conftest import world
from tests.api.test_api_proofs import paid
from tests.api.world import World
from tests.harness import utxo
from tests.harness.api import ApiError, Client
from tests.harness.engine import ADMIN_KEY, engine
from tests.harness.faults import Call, Error, Scripted
from tests.harness.proxy import proxy
from tests.harness.scene import LOOK, PATIENCE, open_account, started
from tests.proofs import verify
from tests.test_families_together import Followed, one_of_each
from tests.test_proofs import Paid, paid_evm, paid_tron, paid_utxo

__all__ = ["world"]  # a fixture

UNITS: Final = 54_321


def alice(network: Followed) -> tuple[Codec, bytes]:
    """How her addresses are written on a network, and hers there."""
    chain = network.chain
    if isinstance(chain, SimulatedUtxoChain):
        return UtxoCodec(chain.network), chain.wallet("alice").script
    codec = TronCodec() if network.settings["family"] == "tron" else EvmCodec()
    return codec, b"\xa1" * 20


def pay(network: Followed) -> None:
    """Pay Alice in the network's own coin, in a block."""
    chain, (_, key) = network.chain, alice(network)
    if isinstance(chain, SimulatedUtxoChain):
        chain.pay(chain.wallet("payer"), (key, UNITS))
    elif isinstance(chain, ContractChain):
        chain.send(chain.wallet("payer"), key, UNITS)
    chain.mine()


def read(proof: Any) -> Paid:
    """Whom the bytes that are proved paid, and what."""
    match proof["family"], verify(proof):
        case "evm", (transaction, receipt):
            return paid_evm(proof, transaction, receipt)
        case "tron", transaction:
            to, units = paid_tron(transaction)
            return to.removeprefix(PREFIX), units
        case _, transaction:
            return paid_utxo(proof, transaction)


async def test_every_family_s_deposits_are_proved_to_a_stranger(dsn: str, tmp_path: Path) -> None:
    async with one_of_each() as networks:
        tables = {name: network.settings for name, network in networks.items()}
        async with (
            engine(tmp_path, dsn, tables) as running,
            Client(running.base, ADMIN_KEY) as admin,
            Client(running.base, await open_account(admin)) as shop,
        ):
            await started(admin, *networks)
            for name, network in networks.items():
                codec, key = alice(network)
                body = {"network": name, "addresses": [codec.format_address(key)]}
                await shop.post("/v1/addresses", body)
                pay(network)
            async with asyncio.timeout(PATIENCE):
                while len(deposits := await shop.all("/v1/deposits")) < len(networks):
                    await asyncio.sleep(LOOK)
            for deposit in deposits:
                proof = await shop.get(f"/v1/deposits/{deposit['id']}/proof")
                assert proof["proves"] == "amount"
                assert read(proof) == (alice(networks[deposit["network"]])[1], UNITS)
            await check_refusals(networks, deposits, admin, shop)


async def check_refusals(
    networks: dict[str, Followed], deposits: list[dict[str, Any]], admin: Client, shop: Client
) -> None:
    for deposit in deposits:
        with networks[deposit["network"]].away(), pytest.raises(ApiError) as refused:
            await shop.get(f"/v1/deposits/{deposit['id']}/proof")
        assert refused.value.status == 503
    token = {"network": "tron", "contractAddress": "1002000", "balanceCheck": True}
    with pytest.raises(ApiError) as refused:
        await admin.post("/v1/coins", {**token, "name": "T", "symbol": "T", "decimals": 6})
    assert "EVM networks only" in str(refused.value.body)


async def test_what_a_pruned_node_dropped_is_refused_and_no_failure_of_the_node() -> None:
    def pruned(call: Call, result: Any) -> Any:
        dropped = call["method"] == "getblock" and "rest" not in call
        return Error(-1, "Block not available (pruned data)") if dropped else result

    chain = SimulatedUtxoChain(1)
    async with UtxoNode(chain) as node, proxy(node.url) as before:
        table = {"id": "bitcoin", **utxo.settings("btc", before.url)}
        adapter = UtxoChain(config.UtxoNetwork.model_validate(config.UtxoNetwork.filled(table)))
        try:
            await adapter.connect()
            transfer = Transfer(bytes(32), NATIVE, b"", 0, 1, None)
            with before.fault(Scripted(pruned)) as fault, pytest.raises(Refused, match="no node"):
                await adapter.proof(chain.head.number, chain.head.hash, transfer)
            assert fault.hits
            assert [each.error for each in adapter.endpoints()] == [None]
        finally:
            await adapter.close()


async def test_a_process_that_does_not_run_the_network_says_so(world: World) -> None:
    deposit = await paid(world)
    api = config.Api(admin_key=ADMIN_KEY, listen="127.0.0.1:0")
    settings = world.context.settings.model_copy(update={"api": api})
    elsewhere = Engine(settings, Installation(world.pool, world.context.vault), ("api",), {})
    stop = asyncio.Event()
    running = asyncio.create_task(elsewhere.run(stop))
    try:
        path = f"{await elsewhere.api_url}/v1/deposits/{deposit['id']}/proof"
        async with world.session.get(path, headers=world.alice.headers) as answer:
            assert answer.status == 503
            assert "does not run network ethereum" in (await answer.json())["error"]
    finally:
        stop.set()
        assert await asyncio.wait_for(running, PATIENCE) == 0
