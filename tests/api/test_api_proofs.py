"""`GET /v1/deposits/{id}/proof`: whose deposit, of which state, and what its nodes can't give."""

from __future__ import annotations

from typing import Any, Final

import pytest

from indexer.chains.evidence import Branch, Proof, TreeEvidence, TrieEvidence
from indexer.model import Unavailable
from tests.api.world import CODEC, STRANGER, World, address, block, tx_hash

ALICE: Final = address(1)
TRIE: Final = TrieEvidence(b"\x01", b"\x80", [b"\x02", b"\x03"], [b"\x04"], 7)


async def paid(world: World) -> dict[str, Any]:
    """A deposit of alice's, as she sees it."""
    await world.alice.register("ethereum", ALICE)
    await world.activate("ethereum")
    await world.pay(1, ALICE, 5)
    found: dict[str, Any] = (await world.alice.get("/v1/deposits")).body["items"][0]
    return found


async def test_a_proof_says_what_it_is_of_and_what_it_proves(world: World) -> None:
    deposit = await paid(world)
    world.proof = Proof(TRIE, amount=True)
    answer = await world.alice.get(f"/v1/deposits/{deposit['id']}/proof")
    assert answer.body == {
        "id": deposit["id"],
        "network": "ethereum",
        "family": "evm",
        "contractAddress": None,
        "transactionHash": deposit["transactionHash"],
        "ordinal": 0,
        "toAddress": deposit["toAddress"],
        "amountUnits": "5",
        "blockHeight": deposit["blockHeight"],
        "blockHash": deposit["blockHash"],
        "proves": "amount",
        "evidence": {
            "header": "01",
            "key": "80",
            "transaction": ["02", "03"],
            "receipt": ["04"],
            "logIndex": 7,
        },
    }
    ((height, name, transfer),) = world.proved
    assert (height, name) == (deposit["blockHeight"], block("ethereum", height).hash)
    assert CODEC.format_hash(transfer.tx) == tx_hash("ethereum", 1)
    assert (transfer.ordinal, transfer.units, transfer.sender) == (0, 5, STRANGER)


async def test_a_branch_shows_where_a_hash_has_no_partner(world: World) -> None:
    deposit = await paid(world)
    world.proof = Proof(TreeEvidence(b"\x01", Branch(b"\x02", 2, [None, b"\x03"])), amount=False)
    answer = await world.alice.get(f"/v1/deposits/{deposit['id']}/proof")
    assert answer.body["proves"] == "transaction"
    assert answer.body["evidence"] == {
        "header": "01",
        "transaction": "02",
        "position": 2,
        "branch": [None, "03"],
        "coinbase": None,
    }


async def test_another_account_s_deposit_is_not_there(world: World) -> None:
    deposit = await paid(world)
    world.proof = Proof(TRIE, amount=True)
    path = f"/v1/deposits/{deposit['id']}/proof"
    theirs, none = await world.bob.get(path), await world.bob.get("/v1/deposits/dep_no/proof")
    assert (theirs.status, none.status) == (404, 404)
    assert theirs.error.replace(deposit["id"], "dep_no") == none.error
    assert world.proved == []
    assert (await world.admin.get(path)).status == 200
    assert (await world.admin.get(path, account="alice")).status == 200
    assert (await world.admin.get(path, account="bob")).status == 404
    assert (await world.nobody.get(path)).status == 401


async def test_an_orphaned_deposit_has_no_proof(world: World) -> None:
    deposit = await paid(world)
    world.proof = Proof(TRIE, amount=True)
    await world.pool.execute("update deposit set state = 'orphaned', previous = 'detected'")
    answer = await world.alice.get(f"/v1/deposits/{deposit['id']}/proof")
    assert (answer.status, "left the chain" in answer.error) == (409, True)
    assert world.proved == []


@pytest.mark.parametrize("fails", [None, Unavailable("no endpoint answers")])
async def test_what_no_node_gives_is_said(world: World, fails: Exception | None) -> None:
    deposit = await paid(world)
    world.node_fails = fails
    answer = await world.alice.get(f"/v1/deposits/{deposit['id']}/proof")
    assert answer.status == (503 if fails else 409)
    assert answer.error == ("no endpoint answers" if fails else "no node gives that block any more")
