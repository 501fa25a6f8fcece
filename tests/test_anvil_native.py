"""Native deposits on a real node: values, internal payments, kinds of transactions, depths."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from eth_abi.packed import encode_packed
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.harness.anvil import EPOCH, anvil
from tests.harness.api import Client
from tests.harness.contracts import Deployed, contracts
from tests.harness.engine import ADMIN_KEY, engine
from tests.harness.scene import CONFIRMATIONS, open_account, started
from tests.harness.world import World, network, world

pytestmark = pytest.mark.node

ALICE = "0x" + "a1" * 20
BOB = "0x" + "b2" * 20
CAROL = "0x" + "c3" * 20
ETHER = 10**18
DEV_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's own


async def _deploy(w: World, name: str, *arguments: Any, value: int = 0) -> Deployed:
    made = await w.node.deploy(contracts()[name], *arguments, value=value)
    await w.follow()
    return made


async def _amounts(w: World) -> list[int]:
    """What stands, after it was held against the chain, in the order of ordinals."""
    rows = await w.agree(traces=True)
    return [int(rows[each]["amountUnits"]) for each in sorted(rows, key=lambda at: at.ordinal)]


@pytest.mark.pitfall("P1", "P26")
async def test_what_a_failed_transaction_would_have_paid_is_nothing(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path, native="traces") as w:
        closed = await _deploy(w, "Closed")
        disperse = await _deploy(w, "Disperse")
        await w.watch(closed.checksummed, ALICE, BOB)
        failed = await w.node.pay(closed.address, 5 * ETHER)
        reverted = await disperse.send(
            "pay", [ALICE, BOB, closed.address], [1, 2, 3], value=6
        )  # pays two, then fails
        await w.mine()
        for sent in (failed, reverted):
            assert (await w.node.receipt(sent) or {})["status"] == "0x0"
        assert await _amounts(w) == []


@pytest.mark.pitfall("P24", "P25", "P37", "P38")
async def test_internal_payments_count_where_they_were_not_undone(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, native="traces") as w:
        closed = await _deploy(w, "Closed")
        disperse = await _deploy(w, "Disperse")
        library = await _deploy(w, "Library")
        await w.watch(ALICE, BOB)
        await disperse.send("pay", [ALICE, BOB, ALICE], [1, 2, 1], value=4)
        await disperse.send("payWhatGoes", [ALICE, closed.address, BOB], [3, 4, 5], value=12)
        await disperse.send(
            "handle", [ALICE, ALICE, BOB], [6, 100, 7], [False, True, False], value=113
        )
        await disperse.send("payThroughDelegate", library.address, ALICE, value=16)
        await w.mine()
        assert sorted(await _amounts(w)) == [1, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.pitfall("P24")
async def test_without_traces_internal_payments_are_not_seen(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        disperse = await _deploy(w, "Disperse")
        await w.watch(ALICE)
        await disperse.send("pay", [ALICE], [1], value=1)
        await w.node.pay(ALICE, 2)
        await w.mine()
        assert [row["amountUnits"] for row in await w.deposits()] == ["2"]
        await w.agree()


@pytest.mark.pitfall("P27")
async def test_a_contract_that_destroys_itself_pays_its_heir(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, native="traces") as w:
        estate = await _deploy(w, "Estate", value=3 * ETHER)
        to_itself = await _deploy(w, "Estate", value=2)
        await w.watch(ALICE, to_itself.checksummed)
        await estate.send("bequeath", ALICE)
        await to_itself.send("bequeath", to_itself.address)
        await w.mine()
        rows = await w.deposits()
        assert [(row["toAddress"].lower(), row["amountUnits"]) for row in rows] == [
            (ALICE, str(3 * ETHER))
        ]
        assert rows[0]["fromAddress"].lower() == estate.address


@pytest.mark.pitfall("P34", "P35")
async def test_contracts_created_with_value_and_those_that_forward_it(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path, native="traces") as w:
        factory = await _deploy(w, "Factory")
        estate, forwarder = contracts()["Estate"], contracts()["Forwarder"]
        salt = b"\x01" * 32
        create2 = _create2(factory.address, salt, estate.creation())
        creator = w.node.accounts[-1]
        nonce = int(await w.node.call("eth_getTransactionCount", creator, "latest"), 16)
        plain = _created(creator, nonce)
        forwarding = _created(creator, nonce + 1)
        hot = w.node.accounts[7]
        await w.watch(create2, plain, forwarding)
        await w.watch(hot, role="own")
        await factory.send("create", salt, value=5)
        await w.node.deploy(estate, value=6)
        swept = await w.node.deploy(forwarder, hot, value=7)
        assert swept.address == forwarding
        await w.node.pay(forwarding, 8)
        await w.mine()
        found = {(row["toAddress"].lower(), row["amountUnits"]) for row in await w.deposits()}
        assert found == {(create2, "5"), (plain, "6"), (forwarding, "7"), (forwarding, "8")}
        await w.agree(traces=True)


@pytest.mark.pitfall("P21")
async def test_a_transactions_own_value_comes_before_what_its_contract_pays(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path, native="traces") as w:
        disperse = await _deploy(w, "Disperse")
        back = await _deploy(w, "Forwarder", disperse.address)
        await w.watch(disperse.checksummed, ALICE)
        await disperse.send("pay", [ALICE, back.address], [1, 2], value=10)
        await disperse.send("pay", [ALICE] * 3, [4, 4, 4], value=12)
        await w.node.pay(ALICE, 4, sender=2)
        await w.mine()
        rows = await w.agree(traces=True)
        values = sorted((each.ordinal, int(row["amountUnits"])) for each, row in rows.items())
        assert values == [(0, 1), (0, 4), (0, 4), (0, 10), (0, 12), (1, 2), (1, 4), (2, 4)]


async def test_what_an_address_sends_to_itself_is_no_deposit(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(w.node.accounts[0])
        await w.node.pay(w.node.accounts[0], 5)
        await token.send("transfer", w.node.accounts[0], 5)
        await w.node.pay(w.node.accounts[0], 6, sender=1)
        await w.mine()
        assert [row["amountUnits"] for row in await w.deposits()] == ["6"]


@pytest.mark.pitfall("P23")
async def test_of_a_replaced_transaction_only_the_mined_one_exists(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE)
        gwei = 10**9
        slow = await w.node.pay(ALICE, 1, nonce=0, gasPrice=3 * gwei)
        fast = await w.node.pay(ALICE, 2, nonce=0, gasPrice=9 * gwei)
        await w.mine()
        await w.confirm()
        assert slow != fast
        assert [row["transactionHash"] for row in await w.deposits()] == [fast]
        await w.agree()


@pytest.mark.pitfall("P33")
async def test_every_kind_of_transaction_pays(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        await w.watch(ALICE)
        signer = Account.from_key(DEV_KEY)
        fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}
        granted = signer.sign_authorization(
            {"chainId": 31337, "address": to_checksum_address(BOB), "nonce": 5}
        )
        kinds: list[dict[str, Any]] = [
            {"gasPrice": 10**11},
            {"gasPrice": 10**11, "type": 1, "accessList": []},
            {**fees, "type": 2},
            {**fees, "type": 4, "authorizationList": [granted]},
        ]
        to = to_checksum_address(ALICE)
        for nonce, kind in enumerate(kinds):
            common = {"chainId": 31337, "nonce": nonce, "to": to, "value": nonce + 1}
            signed = signer.sign_transaction({**common, "gas": 100_000, **kind})
            await w.node.put(["0x" + signed.raw_transaction.hex()])
        await w.mine()
        types = [each["type"] for each in (await w.node.head())["transactions"]]
        assert types == ["0x0", "0x1", "0x2", "0x4"]
        await w.agree()
        assert sorted(row["amountUnits"] for row in await w.deposits()) == ["1", "2", "3", "4"]


@pytest.mark.pitfall("P33")
async def test_a_blob_transaction_pays(dsn: str, tmp_path: Path) -> None:
    """Without the proof of roots: anvil's transactions root is over the form with the blobs."""
    async with world(dsn, tmp_path, verify="bloom") as w:
        await w.watch(ALICE)
        fields = {
            "type": 3,
            "chainId": 31337,
            "nonce": 0,
            "to": to_checksum_address(ALICE),
            "value": 7,
            "gas": 100_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
            "maxFeePerBlobGas": 10**11,
        }
        blob = b"\0" * 4096 * 32
        signed = Account.from_key(DEV_KEY).sign_transaction(fields, blobs=[blob])
        await w.node.put(["0x" + signed.raw_transaction.hex()])
        await w.mine()
        assert [row["amountUnits"] for row in await w.deposits()] == ["7"]


@pytest.mark.pitfall("P40")
async def test_an_address_is_watched_on_its_network_only(dsn: str, tmp_path: Path) -> None:
    async with anvil(31337) as one, anvil(31338) as other:
        networks = {
            "one": network(one.url, coin="one"),
            "other": network(other.url, coin="other", chain_id=31338),
        }
        await one.mine()
        await other.mine()
        async with (
            engine(tmp_path, dsn, networks) as running,
            Client(running.base, ADMIN_KEY) as admin,
            Client(running.base, await open_account(admin)) as account,
        ):
            await started(admin, *networks)
            await account.post("/v1/addresses", {"network": "one", "addresses": [ALICE]})
            await account.post("/v1/addresses", {"network": "other", "addresses": [BOB]})
            for node in (one, other):
                await node.pay(ALICE, 1)
                await node.pay(BOB, 2)
                await node.mine(CONFIRMATIONS)
            await _until_rows(account, 2)
            rows = await account.all("/v1/deposits")
            found = {(row["network"], row["coin"], row["amountUnits"]) for row in rows}
            assert found == {("one", "one", "1"), ("other", "other", "2")}


async def _until_rows(account: Client, count: int) -> None:
    """Both networks have confirmed what they have."""
    async with asyncio.timeout(30):
        while len(await account.all("/v1/deposits", status="confirmed")) < count:
            await asyncio.sleep(0.05)


@pytest.mark.pitfall("P45")
async def test_each_confirmation_counts_and_the_last_one_credits(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, confirmations=4) as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        for confirmations in (1, 2, 3, 4):
            await w.mine()
            row = (await w.deposits())[0]
            assert row["confirmations"] == confirmations
            assert row["status"] == ("confirmed" if confirmations == 4 else "detected")


@pytest.mark.pitfall("P45", "P110", "P124")
async def test_larger_amounts_need_more_confirmations(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, confirmations=1) as w:
        tiers = [{"upTo": "1.00", "confirmations": 2}, {"upTo": "10.00", "confirmations": 4}]
        token = await w.token("T", 2, confirmationTiers=tiers, maxAutoAmount="1000")
        await w.watch(ALICE)
        for amount in (100, 101, 1001, 100_001):
            await token.send("transfer", ALICE, amount)
        await w.mine()
        required = {row["amount"]: row["requiredConfirmations"] for row in await w.deposits()}
        assert (required["1.00"], required["1.01"], required["10.01"]) == (2, 4, 4)
        await w.mine(3)
        states = {row["amount"]: (row["status"], row["reason"]) for row in await w.deposits()}
        assert states == {
            "1.00": ("confirmed", None),
            "1.01": ("confirmed", None),
            "10.01": ("confirmed", None),
            "1000.01": ("held", "above_cap"),
        }


@pytest.mark.pitfall("P46")
async def test_safe_is_not_final_and_finalized_credits(dsn: str, tmp_path: Path) -> None:
    events = ["deposit.*"]
    async with world(dsn, tmp_path, events=events, confirmations="finalized") as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        height = await w.mine()
        await w.mine(2 * EPOCH - 1)  # `safe` passed it an epoch ago
        assert await w.node.finalized() == height - 1
        row = (await w.deposits())[0]
        assert (row["status"], row["requiredConfirmations"]) == ("detected", None)
        await w.mine()
        await w.until_all("finalized")
        await w.delivered()
        assert w.receiver.of(row["id"]) == [
            "deposit.detected",
            "deposit.confirmed",
            "deposit.finalized",
        ]


async def test_finality_by_depth_needs_no_word_of_the_node(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path, finality="depth", reorg_window=6) as w:
        await w.watch(ALICE)
        await w.node.pay(ALICE, 1)
        await w.mine(6)  # a reorg of six blocks could still replace it
        await asyncio.sleep(0.3)
        assert [row["status"] for row in await w.deposits()] == ["confirmed"]
        await w.mine()
        await w.until_all("finalized")
        await w.delivered()
        types = {received.type for received in w.receiver.accepted}
        assert types == {"deposit.detected", "deposit.confirmed"}


def _created(creator: str, nonce: int) -> str:
    """Where a transaction of `creator` puts a contract; nonces below 128 only."""
    encoded = b"\xd6\x94" + bytes.fromhex(creator[2:]) + bytes([nonce or 0x80])
    return "0x" + keccak(encoded)[12:].hex()


def _create2(creator: str, salt: bytes, creation: str) -> str:
    types = ["bytes1", "address", "bytes32", "bytes32"]
    packed = encode_packed(types, [b"\xff", creator, salt, keccak(hexstr=creation)])
    return "0x" + keccak(packed)[12:].hex()
