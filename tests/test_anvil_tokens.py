"""Token deposits on a real node: what counts, how often, and what never does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.harness.api import ApiError
from tests.harness.contracts import Deployed, contracts
from tests.harness.scene import CONFIRMATIONS, open_account
from tests.harness.world import NETWORK, World, world

pytestmark = pytest.mark.node

ALICE = "0x" + "a1" * 20
BOB = "0x" + "b2" * 20
CAROL = "0x" + "c3" * 20
MIRROR = "0xfffffffffffffffffffffffffffffffffffffffe"  # EIP-7708's logs come from here


async def _emitter(w: World, **settings: Any) -> Deployed:
    """A listed contract that emits whatever it is asked to."""
    made = await w.node.deploy(contracts()["Emitter"])
    await w.list_coin(made, **settings)
    return made


async def _deploy(w: World, name: str, *arguments: Any) -> Deployed:
    made = await w.node.deploy(contracts()[name], *arguments)
    await w.follow()
    return made


async def _allowed(w: World, name: str, *tokens: Deployed) -> Deployed:
    """A contract that may spend the first account's tokens."""
    made = await w.node.deploy(contracts()[name])
    for token in tokens:
        await token.send("approve", made.address, 10**40)
    await w.mine()
    return made


@pytest.mark.pitfall("P41", "P43", "P45", "P119")
async def test_a_deposit_is_detected_confirmed_and_called_back_once(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        six = await w.token("USDT", 6)
        eighteen = await w.token("USDT", 18, coin="usdt_18")
        await w.watch("0x" + ALICE[2:].upper(), reference="user-42")
        await six.send("transfer", ALICE, 1_500_000)
        await eighteen.send("transfer", ALICE, 10**18)
        await w.mine()
        rows = await w.deposits()
        assert [(row["status"], row["amount"]) for row in rows] == [
            ("detected", "1.500000"),
            ("detected", "1.000000000000000000"),
        ]
        assert {row["confirmations"] for row in rows} == {1}
        assert {row["requiredConfirmations"] for row in rows} == {CONFIRMATIONS}
        assert {row["reference"] for row in rows} == {"user-42"}
        assert [row["symbol"] for row in rows] == ["USDT", "USDT"]
        assert rows[0]["coin"] != rows[1]["coin"]
        await w.confirm()
        await w.delivered()
        assert {row["status"] for row in await w.deposits()} == {"confirmed"}
        assert {each.ordinal for each in await w.agree()} == {0}
        for row in rows:
            assert w.receiver.of(row["id"]) == ["deposit.detected", "deposit.confirmed"]
        assert len(w.receiver.accepted) == 4
        bodies = [received.event["data"] for received in w.receiver.accepted]
        assert {body["amountUnits"] for body in bodies} == {"1500000", str(10**18)}


@pytest.mark.pitfall("P1", "P3", "P4")
async def test_only_what_was_executed_and_logged_counts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        liar = await _deploy(w, "FalseToken")
        contrary = await _deploy(w, "ContraryToken")
        await w.list_coin(liar, coin="liar")
        await w.list_coin(contrary, coin="contrary")
        await contrary.send("mint", w.node.accounts[0], 10)
        await w.watch(ALICE)
        failed = await token.send("transfer", ALICE, 10**40)
        silent = await liar.send("transfer", ALICE, 7)
        paid = await contrary.send("transfer", ALICE, 10)
        await w.mine()
        statuses = [(await w.node.receipt(sent) or {})["status"] for sent in (failed, silent, paid)]
        assert statuses == ["0x0", "0x1", "0x1"]
        assert [row["coin"] for row in await w.deposits()] == ["contrary"]
        await w.agree()


@pytest.mark.pitfall("P5", "P36", "P37")
async def test_a_contract_that_pays_several_addresses_is_read_by_its_logs(
    dsn: str, tmp_path: Path
) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        disperse = await _allowed(w, "Disperse", token)
        await w.watch(ALICE, BOB, CAROL)
        await disperse.send("payToken", token.address, [ALICE, BOB, CAROL], [1, 2, 3])
        await token.send("approve", w.node.accounts[5], 50)
        relayed = await token.send(
            "transferFrom", w.node.accounts[0], ALICE, 50, sender=5
        )  # account 5 pays the gas
        await w.mine()
        await w.agree()
        rows = await w.deposits()
        assert sorted(int(row["amountUnits"]) for row in rows) == [1, 2, 3, 50]
        by_relay = next(row for row in rows if row["transactionHash"] == relayed)
        assert by_relay["fromAddress"].lower() == w.node.accounts[0]


@pytest.mark.pitfall("P38")
async def test_of_a_batch_only_what_happened_counts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        disperse = await _allowed(w, "Disperse", token)
        await w.watch(ALICE)
        too_much = 10**39
        values = [1, too_much, 2, 3, too_much, 4, 5, too_much, 6, 7]
        await disperse.send("payTokenWhatGoes", token.address, [ALICE] * len(values), values)
        await w.mine()
        await w.agree()
        rows = sorted(await w.deposits(), key=lambda row: int(row["ordinal"]))
        assert [int(row["amountUnits"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.pitfall("P6", "P8", "P18")
async def test_a_token_is_its_contract_and_never_its_symbol(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token("USDT", 6)
        fake = await _deploy(w, "Token", "USDT coin", "USDT", 6)
        await fake.send("mint", w.node.accounts[0], 10**30)
        spam = await _deploy(w, "Emitter")
        both = await _allowed(w, "Disperse", token, fake)
        await w.watch(ALICE)
        await both.send("payTokens", [token.address, fake.address], ALICE, [1, 10**6])
        await fake.send("transfer", ALICE, 10**12)
        await spam.send("spam", BOB, ALICE, 5, 500)
        await token.send("mint", ALICE, 9)
        await w.mine()
        await w.agree()
        assert sorted(row["amountUnits"] for row in await w.deposits()) == ["1", "9"]
        minted = next(row for row in await w.deposits() if row["amountUnits"] == "9")
        assert minted["fromAddress"] == "0x" + "0" * 40


@pytest.mark.pitfall("P9", "P10", "P11")
async def test_an_odd_shape_is_held_and_an_nft_is_nothing(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        odd = await _emitter(w)
        await w.watch(ALICE)
        await odd.send("nft", BOB, ALICE, 10**24)
        await w.mine()
        assert await w.deposits() == []
        for shape in ("unindexed", "halfIndexed", "dirty", "tooLong"):
            await odd.send(shape, BOB, ALICE, 7)
        await odd.send("tooShort", BOB, ALICE)
        await w.mine()
        await w.confirm()
        rows = await w.deposits()
        assert len(rows) == 5
        assert {(row["status"], row["reason"]) for row in rows} == {("held", "unknown_shape")}
        await w.delivered()
        assert {received.type for received in w.receiver.accepted} == {"deposit.held"}


@pytest.mark.pitfall("P12")
async def test_two_events_for_one_movement_are_one_deposit(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await _deploy(w, "TwoEventToken")
        await w.list_coin(token)
        await w.watch(ALICE)
        await token.send("send", ALICE, 10)
        await w.mine()
        assert [row["amountUnits"] for row in await w.deposits()] == ["10"]


@pytest.mark.pitfall("P17", "P16")
async def test_the_log_that_mirrors_a_native_payment_never_counts(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        emitter = contracts()["Emitter"]
        await w.node.set_code(MIRROR, emitter.runtime)
        mirror = Deployed(emitter, MIRROR, w.node)
        await w.watch(ALICE)
        await w.node.pay(ALICE, 10**18)
        await mirror.send("standard", w.node.accounts[0], ALICE, 10**18)
        await w.mine()
        with pytest.raises(ApiError) as refused:
            await w.list_coin(MIRROR, name="Mirror", symbol="M", decimals=18)
        assert refused.value.status == 400
        await mirror.send("standard", w.node.accounts[0], ALICE, 10**18)
        await w.mine()
        assert [row["coin"] for row in await w.deposits()] == ["eth"]
        await w.agree()


@pytest.mark.pitfall("P19", "P35")
async def test_our_own_money_is_no_deposit(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        hot = w.node.accounts[0]
        await w.watch(ALICE)
        await w.watch(hot, role="own")
        gas = await w.node.pay(ALICE, 2 * 10**15)
        sweep_back = await token.send("transfer", ALICE, 8)
        await w.node.pay(hot, 10**18, sender=3)
        paid = await w.node.pay(ALICE, 10**18, sender=3)
        await w.mine()
        await w.confirm()
        rows = {row["transactionHash"]: row for row in await w.deposits()}
        assert rows.keys() == {gas, sweep_back, paid}
        for sent in (gas, sweep_back):
            assert (rows[sent]["status"], rows[sent]["reason"]) == ("ignored", "internal")
        assert rows[paid]["status"] == "confirmed"
        await w.delivered()
        assert {received.deposit for received in w.receiver.accepted} == {rows[paid]["id"]}


@pytest.mark.pitfall("P20", "P44")
async def test_zero_and_dust_make_no_callback(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token("USDT", 6, minDepositAmount="0.000010")
        await w.watch(ALICE)
        await token.send("transferFrom", BOB, ALICE, 0)
        await token.send("transferFrom", ALICE, BOB, 0)
        await token.send("transferFrom", ALICE, ALICE, 0)
        await w.mine()
        assert await w.deposits() == []
        await token.send("repeat", ALICE, 8, 60)
        await token.send("transfer", ALICE, 10)
        await w.mine()
        await w.confirm()
        rows = await w.deposits()
        dust = [row for row in rows if row["status"] == "ignored"]
        assert len(dust) == 60
        assert sum(int(row["amountUnits"]) for row in dust) == 480
        assert {row["reason"] for row in dust} == {"below_minimum"}
        await w.delivered()
        assert {received.type for received in w.receiver.accepted} == {
            "deposit.detected",
            "deposit.confirmed",
        }
        assert len(w.receiver.accepted) == 2


@pytest.mark.pitfall("P21", "P114")
async def test_equal_transfers_in_one_transaction_are_told_apart(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        await w.watch(ALICE)
        await token.send("repeat", ALICE, 7, 3)
        await w.mine()
        rows = await w.agree()
        assert sorted(each.ordinal for each in rows) == [0, 1, 2]
        assert len({row["id"] for row in rows.values()}) == 3
        before = await w.account.events()
        assert (await w.engine.run("rewind", NETWORK, "2"))[0] == 0
        await w.mine()
        assert {row["id"] for row in (await w.agree()).values()} == {
            row["id"] for row in rows.values()
        }
        after = await w.account.events()
        assert after[: len(before)] == before
        assert {event["type"] for event in after[len(before) :]} <= {"deposit.confirmed"}


@pytest.mark.pitfall("P42")
async def test_the_largest_amount_is_exact_everywhere(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        odd = await _emitter(w, coin="huge")
        await w.watch(ALICE)
        largest = 2**256 - 1
        await odd.send("standard", BOB, ALICE, largest)
        await w.mine()
        await w.confirm()
        row = (await w.deposits())[0]
        text = f"{str(largest)[:-6]}.{str(largest)[-6:]}"
        assert (row["amountUnits"], row["amount"]) == (str(largest), text)
        await w.delivered()
        for received in w.receiver.accepted:
            assert received.event["data"]["amount"] == text


@pytest.mark.pitfall("P43")
async def test_a_bad_checksum_is_refused_and_nothing_is_written(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
        bad = good.replace("aA", "Aa")
        with pytest.raises(ApiError) as refused:
            await w.watch(ALICE, bad)
        assert refused.value.status == 400
        assert bad in str(refused.value.body["details"])
        assert await w.account.all("/v1/addresses") == []
        await w.watch(good)
        token = await w.token()
        await token.send("transfer", good.lower(), 3)
        await w.mine()
        assert [row["toAddress"] for row in await w.deposits()] == [good]


async def test_accounts_learn_only_of_their_own(dsn: str, tmp_path: Path) -> None:
    async with world(dsn, tmp_path) as w:
        token = await w.token()
        other = type(w.account)(w.engine.base, await open_account(w.admin, "other"))
        async with other:
            await w.watch(ALICE)
            both = {"network": NETWORK, "addresses": [ALICE, BOB]}
            await other.post("/v1/addresses", both)
            await token.send("transfer", ALICE, 1)
            await token.send("transfer", BOB, 2)
            await w.mine()
            await w.confirm()
            mine, theirs = await w.deposits(), await other.all("/v1/deposits")
            assert [row["amountUnits"] for row in mine] == ["1"]
            assert sorted(row["amountUnits"] for row in theirs) == ["1", "2"]
            assert not {row["id"] for row in mine} & {row["id"] for row in theirs}
            assert {event["data"]["account"] for event in await other.events()} == {"other"}
        await w.delivered()
        assert {received.event["data"]["account"] for received in w.receiver.accepted} == {"shop"}
