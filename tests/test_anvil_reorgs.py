"""Reorgs on a real node: what left the chain is taken back once, what stayed is left in peace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.harness import faults
from tests.harness.anvil import EPOCH, anvil
from tests.harness.api import Client
from tests.harness.engine import ADMIN_KEY, Engine, engine
from tests.harness.scene import WINDOW, open_account, started
from tests.harness.world import NETWORK, World, network, world

pytestmark = pytest.mark.node

ALICE = "0x" + "a1" * 20
BOB = "0x" + "b2" * 20
STILL = 0.6  # seconds in which a follower that would act on it would have acted: a dozen polls


async def _position(w: World) -> tuple[int, str]:
    """The follower's cursor."""
    row = await w.database.fetchrow("select height, hash from cursor where network = $1", NETWORK)
    return row["height"], "0x" + row["hash"].hex()


@pytest.mark.pitfall("P47", "P48")
@pytest.mark.parametrize("depth", [1, 2, 7, 30])
async def test_a_dropped_deposit_is_taken_back_with_one_callback(
    dsn: str, tmp_path: Path, depth: int
) -> None:
    async with world(dsn, tmp_path, fail=0.2, delay=0.05) as w:
        token = await w.token()
        await w.watch(ALICE)
        kept = await w.node.pay(ALICE, 1)
        await w.mine()
        dropped = [await token.send("transfer", ALICE, 2), await w.node.pay(ALICE, 3)]
        raw = [await w.node.raw(sent) for sent in dropped]
        await w.mine(depth)
        before = {row["transactionHash"]: row for row in await w.deposits()}
        await w.swap(depth)
        await w.follow()
        after = {row["transactionHash"]: row for row in await w.deposits()}
        assert after[kept]["status"] == "confirmed"
        for sent in dropped:
            assert (after[sent]["status"], after[sent]["id"]) == ("orphaned", before[sent]["id"])
            assert after[sent]["previousStatus"] == before[sent]["status"]
            assert after[sent]["confirmations"] == 0
        await w.agree()
        await w.node.put(raw)
        await w.mine()
        await w.confirm()
        await w.agree()
        first = ["detected", "confirmed"][: 1 if depth == 1 else 2]
        for sent in dropped:
            assert await w.types(before[sent]["id"]) == [
                *first,
                "orphaned",
                "detected",
                "confirmed",
            ]
        await w.delivered()
        for sent in dropped:
            types = w.receiver.of(before[sent]["id"])
            assert types.count("deposit.orphaned") == 1


@pytest.mark.pitfall("P22", "P47")
@pytest.mark.parametrize("depth", [1, 5, 30])
async def test_mined_again_elsewhere_keeps_its_id_and_fires_nothing(
    dsn: str, tmp_path: Path, depth: int
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        sent = await token.send("repeat", ALICE, 7, 2)
        noise = await token.send("repeat", BOB, 1, 3, sender=0)
        raw = await w.node.raw(sent)
        await w.mine(depth)
        before = await w.deposits()
        events = len(await w.account.events())
        first = (await w.node.receipt(sent) or {})["logs"][0]["logIndex"]
        async with w.proxy.paused():
            await w.node.rollback(depth)
            await token.send("mint", BOB, 5, sender=1)
            if depth > 1:
                await w.node.mine()
                await token.send("mint", BOB, 5, sender=1)
            await w.node.put([raw])
            await w.node.mine(depth + 1)
        await w.follow()
        assert noise  # it was not mined again, and moved the logs' numbers
        assert (await w.node.receipt(sent) or {})["logs"][0]["logIndex"] != first
        after = await w.deposits()
        assert [row["id"] for row in after] == [row["id"] for row in before]
        assert [row["blockHash"] for row in after] != [row["blockHash"] for row in before]
        await w.agree()
        await w.confirm()
        new = [each["type"] for each in (await w.account.events())[events:]]
        assert new == (["deposit.confirmed"] * 2 if depth == 1 else [])


@pytest.mark.pitfall("P1", "P47")
async def test_what_fails_on_the_other_branch_is_orphaned(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        await token.send("setRate", 5, sender=1)
        sent = await token.send("payRated", ALICE)
        raw = await w.node.raw(sent)
        await w.mine(2)
        assert [row["status"] for row in await w.deposits()] == ["confirmed"]
        await w.swap(2, [raw])  # without a rate it has nothing to pay
        await w.follow()
        assert (await w.node.receipt(sent) or {})["status"] == "0x0"
        row = (await w.deposits())[0]
        assert (row["status"], row["previousStatus"]) == ("orphaned", "confirmed")
        assert await w.types(row["id"]) == ["detected", "confirmed", "orphaned"]
        await w.agree()


async def test_what_pays_another_amount_this_time_is_orphaned_and_found_anew(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        await token.send("setRate", 5, sender=1)
        sent = await token.send("payRated", ALICE)
        raw = await w.node.raw(sent)
        await w.mine(2)
        before = (await w.deposits())[0]
        async with w.proxy.paused():
            await w.node.rollback(2)
            await token.send("setRate", 9, sender=1)
            await w.node.put([raw])
            await w.node.mine(3)
        await w.follow()
        after = (await w.deposits())[0]
        assert (before["amountUnits"], after["amountUnits"]) == ("5", "9")
        assert (before["id"], after["status"]) == (after["id"], "confirmed")
        types = await w.types(after["id"])
        assert types == ["detected", "confirmed", "orphaned", "detected", "confirmed"]
        amounts = [each["data"]["amountUnits"] for each in await w.account.events()]
        assert amounts == ["5", "5", "5", "9", "9"]
        await w.agree()
        await w.delivered()


@pytest.mark.parametrize("change", ["address deleted", "coin inactive", "role own", "minimum"])
async def test_what_was_changed_since_causes_no_false_orphan(
    dsn: str, tmp_path: Path, change: str
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token(coin="usdt")
        await w.watch(ALICE)
        sent = await token.send("transfer", ALICE, 5)
        raw = await w.node.raw(sent)
        await w.mine(2)
        match change:
            case "address deleted":
                await w.account.delete(f"/v1/addresses/{NETWORK}/{ALICE}")
            case "coin inactive":
                await w.admin.put("/v1/coins", {"coin": "usdt", "status": "INACTIVE"})
            case "role own":
                await w.watch(ALICE, role="own")
            case "minimum":
                await w.admin.put("/v1/coins", {"coin": "usdt", "minDepositAmount": "1"})
        await w.mine()
        before = (await w.deposits())[0]
        events = await w.account.events()
        await w.swap(3, [], [raw])
        await w.follow()
        after = (await w.deposits())[0]
        assert after["blockHash"] != before["blockHash"]
        assert (after["id"], after["status"]) == (before["id"], "confirmed")
        assert await w.account.events() == events
        await w.swap(4)  # and once it is really gone, that is said, whatever was changed
        await w.follow()
        assert [row["status"] for row in await w.deposits()] == ["orphaned"]


async def test_an_ignored_deposit_leaves_and_returns_without_a_word(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token("USDT", 6, minDepositAmount="1")
        await w.watch(ALICE)
        sent = await token.send("transfer", ALICE, 5)
        raw = await w.node.raw(sent)
        await w.mine()
        assert [row["status"] for row in await w.deposits()] == ["ignored"]
        await w.swap(1)
        await w.follow()
        assert [row["status"] for row in await w.deposits()] == ["orphaned"]
        await w.node.put([raw])
        await w.mine()
        assert [row["status"] for row in await w.deposits()] == ["ignored"]
        assert await w.account.events() == []


@pytest.mark.pitfall("P48")
async def test_a_swap_at_equal_height_on_an_idle_network_is_seen(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE, BOB)
        old = await w.node.pay(ALICE, 1)
        await w.mine()
        async with w.proxy.paused():
            await w.node.rollback(1)
            new = await w.node.pay(BOB, 2, sender=1)
            await w.node.mine()
        await w.follow()
        rows = {row["transactionHash"]: row["status"] for row in await w.deposits()}
        assert rows == {old: "orphaned", new: "detected"}
        await w.agree()


@pytest.mark.pitfall("P60", "P61")
@pytest.mark.parametrize("fault", [faults.Lag(5), faults.NullBlock()], ids=["lag", "null block"])
async def test_a_node_that_lacks_blocks_swaps_nothing(
    dsn: str, tmp_path: Path, fault: faults.Fault
) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        await w.mine(2)
        before, events = await w.deposits(), await w.account.events()
        position = await _position(w)
        with w.proxy.fault(fault):
            await w.node.pay(ALICE, 2)
            await w.node.mine()
            await asyncio.sleep(STILL)
            assert fault.hits
            assert await _position(w) == position
            assert await w.deposits() == before
        await w.follow()
        assert (await w.account.events())[: len(events)] == events
        assert "orphaned" not in [row["status"] for row in await w.deposits()]
        await w.agree()


@pytest.mark.pitfall("P60", "P61")
async def test_a_head_that_shrinks_swaps_nothing(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE)
        sent = await w.node.pay(ALICE, 1)
        raw = await w.node.raw(sent)
        await w.mine(3)
        position, before = await _position(w), await w.deposits()
        await w.node.rollback(2)
        await asyncio.sleep(STILL)
        assert await _position(w) == position
        assert await w.deposits() == before
        await w.node.rollback(1)
        await asyncio.sleep(STILL)
        assert await w.deposits() == before
        await w.node.put([raw])
        await w.node.mine(4)
        await w.follow()
        assert await w.types(before[0]["id"]) == ["detected", "confirmed"]
        await w.agree()


@pytest.mark.pitfall("P47", "P61")
async def test_a_shorter_fork_swaps_nothing_until_it_is_as_long(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE, BOB)
        await w.node.pay(ALICE, 1)
        await w.mine(3)
        position, before = await _position(w), await w.deposits()
        async with w.proxy.paused():
            await w.node.rollback(3)
            await w.node.pay(BOB, 2, sender=1)
            await w.node.mine(2)
        await w.until_state("forked")
        await asyncio.sleep(STILL)
        assert await _position(w) == position
        assert await w.deposits() == before
        await w.mine()
        assert sorted(row["status"] for row in await w.deposits()) == ["confirmed", "orphaned"]
        await w.agree()


@pytest.mark.pitfall("P47", "P48")
async def test_a_reorg_in_the_first_minute_of_a_fresh_install(dsn: str, tmp_path: Path) -> None:
    async with anvil() as node:
        await node.pay(ALICE, 9)
        await node.mine(12)
        async with (
            engine(tmp_path, dsn, {NETWORK: network(node.url)}) as running,
            Client(running.base, ADMIN_KEY) as admin,
            Client(running.base, await open_account(admin)) as account,
        ):
            await _reach(admin, 12)
            await account.post("/v1/addresses", {"network": NETWORK, "addresses": [ALICE]})
            await node.rollback(6)
            sent = await node.pay(ALICE, 1, sender=1)
            await node.mine(9)
            await _reach(admin, 15)
            rows = await account.all("/v1/deposits")
            assert rows == []  # mined below what was covered
            sent = await node.pay(ALICE, 2, sender=1)
            await node.mine(2)
            await _reach(admin, 17)
            rows = await account.all("/v1/deposits")
            assert [(row["transactionHash"], row["status"]) for row in rows] == [
                (sent, "confirmed")
            ]


@pytest.mark.pitfall("P47")
async def test_a_reorg_beyond_the_window_halts_one_network_and_rewind_brings_it_back(
    dsn: str, tmp_path: Path
) -> None:
    async with anvil(31337) as broken, anvil(31338) as sound:
        networks = {
            "broken": network(broken.url, coin="one", reorg_window=6),
            "sound": network(sound.url, coin="two", chain_id=31338),
        }
        await broken.mine(3)
        await sound.mine()
        async with (
            engine(tmp_path, dsn, networks) as running,
            Client(running.base, ADMIN_KEY) as admin,
            Client(running.base, await open_account(admin)) as account,
        ):
            await started(admin, *networks)
            for name in networks:
                body = {"network": name, "addresses": [ALICE, BOB]}
                await account.post("/v1/addresses", body)
            stays = await broken.raw(await broken.pay(ALICE, 1))
            await broken.mine()
            gone = await broken.pay(BOB, 2)
            await broken.mine(10)
            await _reach(admin, 14, "broken")
            before = await account.events()
            await broken.rollback(11)
            await broken.put([stays])
            await broken.mine(14)
            await _in_state(admin, "broken", "halted")
            await sound.pay(ALICE, 5)
            await sound.mine(2)
            await _reach(admin, 3, "sound")
            assert await account.events() != before  # the other network's
            await _rewind_and_look(running, admin, account, gone)


async def _rewind_and_look(running: Engine, admin: Client, account: Client, gone: str) -> None:
    code, said = await running.run("rewind", "broken", "3")
    assert code == 0, said
    await _reach(admin, 17, "broken")
    rows = {row["transactionHash"]: row for row in await account.all("/v1/deposits")}
    events = await account.events()
    by_deposit: dict[str, list[str]] = {}
    for event in events:
        by_deposit.setdefault(event["data"]["id"], []).append(event["type"])
    for sent, row in rows.items():
        expected = ["deposit.detected", "deposit.confirmed"]
        if sent == gone:
            expected.append("deposit.orphaned")
        types = [each for each in by_deposit[row["id"]] if each != "deposit.finalized"]
        assert types == expected
        assert row["status"] == ("orphaned" if sent == gone else "confirmed")
    assert len(rows) == 3


@pytest.mark.pitfall("P46", "P47")
async def test_a_reorg_below_the_finalized_block_halts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, reorg_window=3 * EPOCH) as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        await w.mine(2 * EPOCH + 2)
        await w.until_all("finalized")
        await w.swap(2 * EPOCH + 2)
        await w.until_state("halted")
        assert [row["status"] for row in await w.deposits()] == ["finalized"]
        assert WINDOW < 2 * EPOCH + 2 < 3 * EPOCH  # the window alone would have allowed it


async def _reach(admin: Client, height: int, name: str = NETWORK) -> None:
    """Wait until the network's cursor is at a height."""
    async with asyncio.timeout(30):
        while True:
            items = (await admin.get("/v1/networks"))["items"]
            if any(each["network"] == name and each["cursor"] == height for each in items):
                return
            await asyncio.sleep(0.05)


async def _in_state(admin: Client, name: str, state: str) -> None:
    async with asyncio.timeout(30):
        while True:
            items = (await admin.get("/v1/networks"))["items"]
            if any(each["network"] == name and each["state"] == state for each in items):
                return
            await asyncio.sleep(0.05)
