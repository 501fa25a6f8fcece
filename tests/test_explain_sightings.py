"""What nodes say of a transaction that came to nothing, or that they can't see all of."""

from __future__ import annotations

from typing import Any

import pytest

from indexer.chains import Chain, Sighting
from indexer.chains.failover import FAILURES
from indexer.chains.protobuf import field
from indexer.chains.tron_sighting import EXPIRATION
from indexer.devnet.contract_chain import ContractChain
from indexer.devnet.evm_chain import SimulatedChain
from indexer.devnet.evm_contracts import Disperser, Token, call_data
from indexer.devnet.tron_chain import SimulatedTron
from indexer.devnet.utxo_chain import SimulatedUtxoChain
from indexer.devnet.utxo_node import UtxoNode
from indexer.model import Refused, Unavailable
from tests.harness.tron import twisted_nodes
from tests.rpc_server import fault
from tests.test_evm_chain import Net, net, time
from tests.test_tron_chain import adapter as tron_adapter
from tests.test_tron_chain import at
from tests.test_utxo_chain import reading

__all__ = ["net", "time"]  # fixtures

ALICE = b"\xa1" * 20
DISPERSE = "disperseToken(address,address[],uint256[])"


async def seen(chain: Chain, tx: bytes) -> Sighting:
    found = await chain.transaction(tx)
    assert found is not None
    return found


def calling(chain: ContractChain[Any, Any, Any]) -> tuple[bytes, bytes]:
    """A transaction that pays Alice a token by a contract, and the token."""
    token = chain.deploy("token", Token("Token", "TKN", 6))
    vault = chain.deploy("vault", Disperser())
    chain.endow(token, vault, 100)
    data = call_data(DISPERSE, token, [ALICE], [1])
    return chain.send(chain.wallet("payer"), vault, 0, data).hash, token


# ------------------------------------------------------------------------------ EVM


@pytest.mark.parametrize(
    ("native", "unseen"),
    [("transactions", "what contracts paid"), ("off", "the native coin"), ("traces", None)],
)
async def test_what_the_settings_hide_is_named(net: Net, native: str, unseen: str | None) -> None:
    chain = SimulatedChain(1)
    tx, token = calling(chain)
    chain.mine()
    found = await seen(net.adapter(await net.node(chain), native=native), tx)
    assert found.assets == {b"", token}
    assert unseen is None if found.unseen is None else found.unseen.startswith(unseen or "nothing")


async def test_a_reverted_transaction_says_so(net: Net) -> None:
    chain = SimulatedChain(1)
    tx, _ = calling(chain)
    chain.failing.add(tx)
    chain.mine()
    found = await seen(net.adapter(await net.node(chain)), tx)
    assert (found.height, found.executed, found.trouble) == (1, False, "it was reverted")


async def test_a_nonce_that_another_transaction_used_is_a_replacement(net: Net) -> None:
    chain = SimulatedChain(1)
    tx = chain.send(chain.wallet("payer"), ALICE, 5).hash

    def used(method: str, params: Any, reply: dict[str, Any]) -> dict[str, Any]:
        return reply | {"result": "0x1"} if method == "eth_getTransactionCount" else reply

    node = await net.node(chain)
    reader = net.adapter(node)
    assert (await seen(reader, tx)).trouble is None
    node.spoil = used
    trouble = (await seen(reader, tx)).trouble
    assert trouble == ("another transaction with its sender's nonce 0 was mined: it was replaced")


async def test_a_node_that_can_t_say_is_asked_past_and_not_blamed(net: Net) -> None:
    chain = SimulatedChain(1)
    tx = chain.send(chain.wallet("payer"), ALICE, 5).hash

    def refuses(method: str, params: Any, reply: dict[str, Any]) -> dict[str, Any]:
        served = not method.startswith("eth_getTransaction")
        return reply if served else fault({"id": reply["id"]}, -32601)

    bad, good = await net.node(chain), await net.node(chain)
    bad.spoil = refuses
    reader = net.adapter(bad, good)
    for _ in range(2 * FAILURES):
        await seen(reader, tx)
        with pytest.raises(Unavailable, match="-32601"):
            await reader.transaction(bytes(32))
    assert [(each.followed, each.error) for each in reader.endpoints()] == [
        (True, None), (False, None),
    ]  # fmt: skip


# ------------------------------------------------------------------------------ TRON


async def test_a_failed_call_says_with_what() -> None:
    chain = SimulatedTron(1)
    tx, _ = calling(chain)
    chain.failing.add(tx)
    chain.mine()
    async with twisted_nodes(chain) as (node,), tron_adapter(at(node)) as reader:
        found = await seen(reader, tx)
    assert (found.executed, found.trouble) == (False, "it ended with OUT_OF_ENERGY")


async def test_a_node_that_may_keep_no_internal_transactions_says_so() -> None:
    chain = SimulatedTron(1)
    called, token = calling(chain)
    paid = chain.send(chain.wallet("payer"), ALICE, 5).hash
    chain.mine()
    async with twisted_nodes(chain) as (node,), tron_adapter(at(node)) as reader:
        assert (await seen(reader, called)).unseen is None
        node.node.keeps_internal = False
        found = await seen(reader, called)
        assert (await seen(reader, paid)).unseen is None
    assert found.assets == {b"", token}
    assert "saveInternalTx" in (found.unseen or "")


async def test_a_node_that_knows_not_yet_what_became_of_it_can_t_say() -> None:
    chain = SimulatedTron(1)
    tx = chain.send(chain.wallet("payer"), ALICE, 5).hash
    chain.mine()
    async with twisted_nodes(chain) as (node,), tron_adapter(at(node)) as reader:
        assert (await seen(reader, tx)).executed is True
        node.node.without_infos = 1
        with pytest.raises(Unavailable, match="what became of it"):
            await reader.transaction(tx)


async def test_a_trc10_token_is_among_what_it_moves() -> None:
    chain = SimulatedTron(1)
    payer = chain.wallet("payer")
    asset = chain.issue("ten", 3, [payer.address])
    tx = chain.send_trc10(payer, ALICE, asset, 7).hash
    chain.mine()
    async with twisted_nodes(chain) as (node,), tron_adapter(at(node)) as reader:
        assert (await seen(reader, tx)).assets == {b"", asset}


async def test_one_that_expired_is_never_mined() -> None:
    chain = SimulatedTron(1)
    tx = chain.send(chain.wallet("payer"), ALICE, 5).hash

    def expired(path: str, question: Any, said: Any) -> Any:
        if path.endswith("gettransactionfrompending"):
            said["raw_data_hex"] += field(EXPIRATION, 1).hex()
        return said

    def unserved(path: str, question: Any, said: Any) -> Any:
        return None if path.endswith("gettransactionfrompending") else said

    async with twisted_nodes(chain) as (node,), tron_adapter(at(node)) as reader:
        assert (await seen(reader, tx)).trouble is None
        with node.twisted(unserved), pytest.raises(Unavailable, match="404"):
            await reader.transaction(tx)
        with node.twisted(expired):
            assert (await seen(reader, tx)).trouble == "it expired before it was mined"


# ------------------------------------------------------------------------------ UTXO


@pytest.mark.parametrize("indexed", [True, False])
async def test_a_mined_transaction_is_found_with_and_without_an_index(indexed: bool) -> None:
    chain = SimulatedUtxoChain(1)
    payer = chain.wallet("payer")
    tx = chain.pay(payer, (chain.wallet("alice").script, 5)).hash
    for _ in range(3):
        chain.mine()
    async with UtxoNode(chain, indexed=indexed) as node, reading(node) as reader:
        found = await seen(reader, tx)
        assert (found.height, found.block) == (1, chain.branch(1)[0].hash)
        if indexed:
            assert await reader.transaction(bytes(32)) is None
        else:
            with pytest.raises(Refused, match="txindex"):
                await reader.transaction(bytes(32))


async def test_an_index_may_name_a_block_that_left_the_chain() -> None:
    chain = SimulatedUtxoChain(1)
    tx = chain.pay(chain.wallet("payer"), (chain.wallet("alice").script, 5)).hash
    stale = chain.mine()
    chain.reorg(1, longer=1, cancel={tx})

    class Stale(UtxoNode):
        def _transaction(self, name: object, verbose: bool = False) -> Any:
            return {"blockhash": stale.hash.hex(), "confirmations": 0}

    async with Stale(chain) as node, reading(node) as reader:
        found = await seen(reader, tx)
        assert (found.height, found.block) == (1, stale.hash)
        header = await reader.header(1)
        assert header is not None
        assert header.hash != stale.hash
