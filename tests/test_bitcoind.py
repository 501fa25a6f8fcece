"""The whole engine before a real node in regtest: litecoind, and bitcoind where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from indexer.chains.utxo_codec import UtxoCodec
from indexer.chains.utxo_network import NETWORKS
from indexer.chains.utxo_script import hash160, p2pkh
from tests.harness.api import ApiError
from tests.harness.bitcoind import MINER, MWEB_HEIGHT, USERS, Bitcoind, programs, running
from tests.harness.utxo import RealWorld, real_world

DEPTHS = range(1, 11)
PEGOUT_MATURITY = 6  # blocks


@pytest.fixture(scope="module", params=programs())
def program(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A coin and its node's program."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def node_url(program: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node for the module: each test follows it from where it stands."""
    with running(program[1], tmp_path_factory.mktemp("node") / "node") as url:
        yield url


@pytest.fixture(scope="module")
def rival_url(program: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(program[1], tmp_path_factory.mktemp("rival") / "node") as url:
        yield url


@pytest.fixture
async def w(
    dsn: str, tmp_path: Path, program: tuple[str, str], node_url: str
) -> AsyncIterator[RealWorld]:
    async with Bitcoind(node_url) as node, real_world(dsn, tmp_path, program[0], node) as world:
        yield world


@pytest.fixture
async def rival(rival_url: str) -> AsyncIterator[Bitcoind]:
    """A second node of the same network."""
    async with Bitcoind(rival_url) as node:
        yield node


def row_of(rows: list[dict[str, Any]], txid: str) -> dict[str, Any]:
    (found,) = [row for row in rows if row["transactionHash"] == txid]
    return found


@pytest.mark.pitfall("P87", "P91", "P92", "P93", "P97")
async def test_an_address_of_each_kind_is_paid(w: RealWorld, program: tuple[str, str]) -> None:
    codec = UtxoCodec(NETWORKS[program[0], "regtest"])
    key = bytes.fromhex(
        (await w.node.wallet(USERS, "getaddressinfo", await w.node.address()))["pubkey"]
    )
    addresses = [
        *[await w.node.address(kind) for kind in ("legacy", "p2sh-segwit", "bech32")],
        *[await w.node.multisig(kind) for kind in ("legacy", "p2sh-segwit", "bech32")],
        codec.format_address(b"\x51\x20" + key[1:]),  # taproot
    ]
    for address in addresses:
        assert codec.parse_address(address) == await w.node.script(address)
    await w.watch(*addresses)
    bare, of_key = b"\x21" + key + b"\xac", codec.format_address(p2pkh(hash160(key)))
    await w.register({bare: of_key})
    shouted = (await w.node.address()).upper()
    await w.register({await w.node.script(shouted): shouted.lower()})
    amounts = ("0.00123456", "1", "20.99769999", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6")
    paid: list[str | bytes] = [*addresses, bare, shouted]
    either = b"\x51\x21" + key + b"\x21\x02" + key[1:] + b"\x52\xae"  # never ours alone
    txid = await w.node.pay(*zip(paid, amounts, strict=True), (either, "5"))
    await w.follow()
    assert await w.deposits() == []  # unconfirmed
    await w.mine()
    rows = await w.agree()
    assert [(row["transactionHash"], row["ordinal"]) for row in rows] == [
        (txid, number) for number in range(9)
    ]
    assert [row["amount"] for row in rows][:3] == ["0.00123456", "1.00000000", "20.99769999"]
    await w.mine()
    histories = await w.histories()
    for row in await w.agree():
        odd = row["toAddress"] == of_key
        assert histories[row["id"]] == (["held"] if odd else ["detected", "confirmed"])
    await w.delivered()


@pytest.mark.pitfall("P93")
async def test_an_address_inside_the_extension_block_can_t_be_watched(
    w: RealWorld, program: tuple[str, str]
) -> None:
    if program[0] != "ltc":
        pytest.skip("only Litecoin has extension blocks")
    with pytest.raises(ApiError, match="400"):
        await w.register({b"": await w.node.address("mweb")})


@pytest.mark.pitfall("P89")
async def test_three_equal_outputs_to_one_address_are_three_deposits(w: RealWorld) -> None:
    address = await w.node.address()
    await w.watch(address)
    txid = await w.node.pay(*[(address, "0.5")] * 3)
    await w.mine(2)
    rows = await w.agree()
    assert [(row["transactionHash"], row["ordinal"], row["amount"]) for row in rows] == [
        (txid, number, "0.50000000") for number in range(3)
    ]
    assert list((await w.histories()).values()) == [["detected", "confirmed"]] * 3
    await w.delivered()


@pytest.mark.pitfall("P19", "P113")
@pytest.mark.parametrize("kind", ["legacy", "p2sh-segwit", "bech32"])
async def test_who_paid_is_known_by_what_spending_reveals(w: RealWorld, kind: str) -> None:
    user = await w.node.address()
    payer, own = [await w.node.address(kind, MINER) for _ in range(2)]
    await w.watch(user)
    await w.watch(own, role="own")
    await w.node.pay((payer, "1"), (payer, "1"), (own, "1"), (own, "1"))
    await w.mine()
    assert await w.agree() == []
    theirs, ours = [await w.node.unspent(address) for address in (payer, own)]
    for spending in (theirs[:1], ours[:1], [theirs[1], ours[1]]):
        await w.node.send(await w.node.signed((user, "0.999"), spending=spending))
    await w.mine()
    assert {(row["fromAddress"], row["status"], row["reason"]) for row in await w.agree()} == {
        (payer, "detected", None),
        (own, "ignored", "internal"),
        (None, "held", "mixed_inputs"),
    }


@pytest.mark.pitfall("P87", "P98")
async def test_a_payment_replaced_by_fee_is_never_a_deposit(w: RealWorld) -> None:
    address = await w.node.address()
    await w.watch(address)
    replaced = await w.node.wallet(MINER, "sendtoaddress", address, 1)
    await w.follow()
    assert await w.deposits() == []
    bumped = (await w.node.wallet(MINER, "bumpfee", replaced))["txid"]
    await w.mine(2)
    assert bumped != replaced
    (row,) = await w.agree()
    assert row["transactionHash"] == bumped
    assert await w.types(row["id"]) == ["detected", "confirmed"]
    await w.delivered()
    assert {call.event["data"]["transactionHash"] for call in w.receiver.requests} == {bumped}


@pytest.mark.pitfall("P88")
async def test_a_coinbase_counts_once_the_node_lets_it_be_spent(w: RealWorld) -> None:
    miner, address = await w.node.address(owner=MINER), await w.node.address()
    await w.watch(miner)
    await w.node.mine(1, miner)
    await w.mine(98)
    (row,) = await w.agree()
    assert (row["status"], row["requiredConfirmations"]) == ("detected", 100)
    coin = await w.node.call("getblock", row["blockHash"])
    early = [{"txid": coin["tx"][0], "vout": 0}]
    spending = await w.node.signed((address, "0.01"), spending=early)
    (verdict,) = await w.node.call("testmempoolaccept", [spending], 0)
    assert verdict["reject-reason"] == "bad-txns-premature-spend-of-coinbase"
    await w.mine()
    (verdict,) = await w.node.call("testmempoolaccept", [spending], 0)
    assert verdict["allowed"]
    (row,) = await w.agree()
    assert await w.types(row["id"]) == ["detected", "confirmed", "finalized"]


@pytest.mark.pitfall("P99", "P109")
async def test_reorganisations_of_every_depth_are_quiet_where_all_is_mined_again(
    w: RealWorld,
) -> None:
    for depth in DEPTHS:
        address = await w.node.address()
        await w.watch(address)
        before = await w.node.height()
        txid = await w.node.pay((address, "0.25"))
        await w.mine(depth)
        told = await w.types(row_of(await w.agree(), txid)["id"])
        await w.node.call("invalidateblock", await w.node.hash(before + 1))
        await w.mine(depth + 1)
        row = row_of(await w.agree(), txid)
        assert told == ["detected", "confirmed"][:depth]
        assert await w.types(row["id"]) == ["detected", "confirmed"]
    await w.delivered()


@pytest.mark.pitfall("P87", "P109")
async def test_reorganisations_of_every_depth_between_two_nodes(
    w: RealWorld, rival: Bitcoind
) -> None:
    """Both mine on their own: one payment is in either branch, another only spent otherwise."""
    await w.node.hand_over(rival)
    for depth in DEPTHS:
        both, lost, other = [await w.node.address() for _ in range(3)]
        await w.watch(both, lost)
        funds = await w.node.address(owner=MINER)
        await w.node.pay((funds, "1"), (funds, "1"))
        await w.node.mine()
        await w.node.hand_over(rival)
        first, second = await w.node.unspent(funds)
        again = await w.node.signed((both, "0.999"), spending=[first])
        here = await w.node.signed((lost, "0.999"), spending=[second])
        there = await w.node.signed((other, "0.998"), spending=[second])
        for node, raw in ((w.node, here), (rival, there), (w.node, again), (rival, again)):
            await node.send(raw)
        await w.mine(depth)
        assert len(await w.agree()) == depth + 1
        await rival.mine(depth + 1)
        await rival.hand_over(w.node)
        await w.follow()
        rows = {row["toAddress"]: row for row in await w.deposits()}
        assert await w.types(rows[both]["id"]) == ["detected", "confirmed"]
        told = await w.types(rows[lost]["id"])
        assert told == [*["detected", "confirmed"][:depth], "orphaned"]
        assert len(await w.agree()) == depth
    await w.delivered()


@pytest.mark.pitfall("P109")
async def test_a_branch_that_comes_back_leaves_what_it_had(w: RealWorld) -> None:
    address = await w.node.address()
    await w.watch(address)
    before = await w.node.height()
    for _ in range(6):
        await w.node.pay((address, "0.1"))
        await w.mine()
    rows = await w.agree()
    dropped = await w.node.hash(before + 1)
    await w.node.call("invalidateblock", dropped)
    for _ in range(7):  # the payments wait: none is mined in these
        await w.node.call("generateblock", await w.node.address(owner=MINER), [])
    await w.follow()
    assert await w.agree() == []
    await w.node.call("invalidateblock", await w.node.hash(before + 1))
    await w.node.call("reconsiderblock", dropped)
    await w.mine(2)
    again = await w.agree()
    places = ("id", "blockHash", "blockHeight", "amount")
    assert [[row[each] for each in places] for row in again] == [
        [row[each] for each in places] for row in rows
    ]
    for types in (await w.histories()).values():
        assert types[-2:] == ["detected", "confirmed"]
        assert types.count("orphaned") == 1


@pytest.mark.pitfall("P88", "P101")
async def test_what_leaves_an_extension_block_is_a_deposit(
    w: RealWorld, program: tuple[str, str]
) -> None:
    if program[0] != "ltc":
        pytest.skip("only Litecoin has extension blocks")
    address = await w.node.address("legacy")
    await w.watch(address)
    await w.node.mine(max(0, MWEB_HEIGHT - 1 - await w.node.height()))
    inside = await w.node.address("mweb", MINER)
    await w.node.wallet(MINER, "sendtoaddress", inside, 10)
    await w.node.mine()
    coins = await w.node.wallet(MINER, "listunspent", 0)
    outside = [{"txid": c["txid"], "vout": c["vout"]} for c in coins if "vout" in c]
    await w.node.wallet(MINER, "lockunspent", False, outside)  # it must pay from inside
    await w.node.wallet(MINER, "sendtoaddress", address, 5)
    await w.node.wallet(MINER, "lockunspent", True, outside)
    await w.mine(PEGOUT_MATURITY - 1)
    (row,) = await w.agree()
    assert row["ordinal"] > 0
    assert (row["amount"], row["fromAddress"]) == ("5.00000000", None)
    assert (row["status"], row["requiredConfirmations"]) == ("detected", PEGOUT_MATURITY)
    await w.mine()
    assert await w.types(row["id"]) == ["detected", "confirmed"]
