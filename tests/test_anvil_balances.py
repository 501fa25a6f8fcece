"""`balanceCheck` on a real node: what a token's events say, against what its balances do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.contracts import Deployed, contracts
from tests.harness.faults import Call, Error, Scripted
from tests.harness.world import World, world

pytestmark = pytest.mark.node

ALICE = "0x" + "a1" * 20
PAYER = 1  # an account of the node


async def checked(w: World, name: str, *arguments: Any, **settings: Any) -> Deployed:
    """A contract of which an account has plenty, listed with `balanceCheck`."""
    made = await w.node.deploy(contracts()[name], *arguments)
    await made.send("mint", w.node.accounts[PAYER], 10**9)
    await w.mine()
    await w.list_coin(made, balanceCheck=True, **settings)
    await w.watch(ALICE)
    return made


async def states(w: World) -> list[tuple[str, str, str | None]]:
    rows = [(row["amountUnits"], row["status"], row["reason"]) for row in await w.deposits()]
    return sorted(rows, key=lambda row: int(row[0]))


def stateless(call: Call, result: Any) -> Any:
    """A node that forgot the state of all blocks but its newest."""
    asked = call["method"] == "eth_call" and isinstance(call["params"][1], dict)
    return Error(-32000, "missing trie node") if asked else result


@pytest.mark.pitfall("P7", "P13")
async def test_what_balances_show_is_credited_and_what_they_don_t_is_held(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        plain = await checked(w, "Token", "Plain", "PLN", 6)
        fee = await checked(w, "FeeToken", coin="fee")
        phantom = await checked(w, "PhantomToken", coin="phantom")
        await plain.send("transfer", ALICE, 10, sender=PAYER)
        await plain.send("transfer", ALICE, 11, sender=PAYER)
        await fee.send("transfer", ALICE, 100, sender=PAYER)
        await phantom.send("pretend", ALICE, 1000)
        await w.mine()
        await phantom.send("transfer", ALICE, 2000, sender=PAYER)  # it can pay as well
        await w.mine()
        await w.confirm()
        mismatch = ("held", "balance_mismatch")
        assert await states(w) == [
            ("10", "confirmed", None),
            ("11", "confirmed", None),
            ("100", *mismatch),
            ("1000", *mismatch),
            ("2000", "confirmed", None),
        ]
        await w.agree()
        await w.delivered()
        told = {(each.type, each.event["data"]["reason"]) for each in w.receiver.accepted}
        assert ("deposit.held", "balance_mismatch") in told


async def test_what_was_sent_on_in_the_same_block_is_taken_into_account(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await checked(w, "Token", "Plain", "PLN", 6)
        own = w.node.accounts[2]
        await w.watch(own)
        await token.send("transfer", own, 10, sender=PAYER)
        await token.send("transfer", w.node.accounts[3], 7, sender=2)
        await token.send("transfer", own, 5, sender=2)
        await w.mine()
        assert await states(w) == [("10", "detected", None)]


async def test_a_balance_that_changes_without_a_word_is_held(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await checked(w, "RebasingToken")
        await token.send("transfer", ALICE, 10, sender=PAYER)
        await w.mine()
        await token.send("rebase")
        await token.send("transfer", ALICE, 20, sender=PAYER)
        await w.mine()
        assert await states(w) == [
            ("10", "confirmed", None),
            ("20", "held", "balance_mismatch"),
        ]


async def test_what_no_node_can_say_is_held_until_a_person_decides(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        silent = await w.node.deploy(contracts()["Emitter"])
        await w.list_coin(silent, balanceCheck=True)
        token = await checked(w, "Token", "Plain", "PLN", 6)
        await silent.send("standard", w.node.accounts[0], ALICE, 1)
        await w.mine()
        with w.proxy.fault(Scripted(stateless)) as fault:
            await token.send("transfer", ALICE, 2, sender=PAYER)
            await w.mine()
            assert fault.hits
        unknown = ("held", "balance_unknown")
        assert await states(w) == [("1", *unknown), ("2", *unknown)]
        assert await w.state() == "following"
        for row in await w.deposits():
            await w.admin.post(f"/v1/deposits/{row['id']}/release", {"note": "seen"})
        await w.confirm()
        assert {row[1] for row in await states(w)} == {"confirmed"}


async def test_what_one_node_forgot_another_says(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, honest=True) as w:
        token = await checked(w, "Token", "Plain", "PLN", 6)
        with w.proxy.fault(Scripted(stateless)) as fault:
            await token.send("transfer", ALICE, 2, sender=PAYER)
            await w.mine()
            assert fault.hits
        assert await states(w) == [("2", "detected", None)]


async def test_a_branch_that_replaces_ours_is_checked_at_its_own_blocks(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await checked(w, "RebasingToken")
        stays = await w.node.raw(await token.send("transfer", ALICE, 10, sender=PAYER))
        await w.mine()
        assert await states(w) == [("10", "detected", None)]
        async with w.proxy.paused():
            await w.node.rollback(1)
            await w.node.put([stays])
            await token.send("rebase")
            await token.send("transfer", ALICE, 20, sender=PAYER)
            await w.node.mine(2)
        await w.follow()
        assert await states(w) == [
            ("10", "confirmed", None),
            ("20", "held", "balance_mismatch"),
        ]
