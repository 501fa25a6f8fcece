"""A TRON network from the outside: registered by API, told by callbacks."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from indexer.devnet.evm_contracts import Disperser, Rejecter, Token, call_data
from indexer.devnet.tron_traffic import TronTraffic
from tests.harness.tron import CODEC, FINALITY, NETWORK, TronWorld, tron_world

ALICE, BOB = b"\xa1" * 20, b"\xb0" * 20
DISPERSE = "disperseToken(address,address[],uint256[])"


async def listed(w: TronWorld, *, symbol: str = "USDT") -> bytes:
    """A listed token, in the hands of `payer` and `vault`, which pays many."""
    token = w.chain.deploy(symbol, Token(f"{symbol} coin", symbol, 6))
    vault = w.chain.deploy("vault", Disperser())
    for owner in (w.chain.wallet("payer").address, vault):
        w.chain.endow(token, owner, 10**12)
        w.chain.endow(b"", owner, 10**12)
    await w.list_coin(token)
    return token


@pytest.mark.pitfall("P67", "P69", "P75")
async def test_deposits_of_every_kind_are_told_and_nothing_else(dsn: str, tmp_path: Path) -> None:
    async with tron_world(dsn, tmp_path) as w:
        token, payer = await listed(w), w.chain.wallet("payer")
        vault = next(a for a, c in w.chain.contracts.items() if isinstance(c, Disperser))
        bitt = w.chain.issue("BitTorrent", 6, [payer.address])
        usdt = w.chain.issue("USDT", 6, [payer.address])
        await w.list_coin(bitt)
        await w.watch(ALICE)
        body = {"network": NETWORK, "addresses": ["41" + BOB.hex()]}
        await w.account.post("/v1/addresses", body)
        w.addresses.append(BOB)

        transfer = "transfer(address,uint256)"
        w.chain.send(payer, ALICE, 5_000_000)
        w.chain.send(payer, token, 0, call_data(transfer, BOB, 7_000_000))
        w.chain.send(payer, vault, 0, call_data(DISPERSE, token, [ALICE, BOB, ALICE], [1, 2, 1]))
        w.chain.send_trc10(payer, ALICE, bitt, 9)
        w.chain.send_trc10(payer, ALICE, usdt, 10**12)
        w.chain.delegate(payer, ALICE, 10**9)
        reverted = w.chain.send(payer, token, 0, call_data(transfer, ALICE, 10**15))
        out = w.chain.send(payer, token, 0, call_data(transfer, ALICE, 3))
        w.chain.failing = {out.hash}
        w.chain.mine()
        await w.mine(2)

        rows = await w.agree()
        assert len(rows) == 6
        assert {row["status"] for row in rows} == {"confirmed"}
        assert {reverted.hash.hex(), out.hash.hex()}.isdisjoint(r["transactionHash"] for r in rows)
        shown = {(r["coin"], r["contractAddress"], r["amount"]) for r in rows}
        assert ("trx", None, "5.000000") in shown
        assert ("usdt_trc20", CODEC.format_address(token), "7.000000") in shown
        assert ("bittorrent_trc10", bitt.decode(), "0.000009") in shown
        await w.delivered()
        assert {call.event["data"]["toAddress"] for call in w.receiver.requests} == {
            CODEC.format_address(ALICE),
            CODEC.format_address(BOB),
        }


async def test_a_token_says_what_it_is_before_it_is_listed(dsn: str, tmp_path: Path) -> None:
    async with tron_world(dsn, tmp_path) as w:
        token = w.chain.deploy("t", Token("Tether", "USDT", 6))
        body = {"network": NETWORK, "contractAddress": "41" + token.hex()}
        assert await w.admin.put("/v1/coins/precreate-token", body) == {
            "coin": "usdt_trc20",
            "symbol": "USDT",
            "name": "Tether",
            "decimals": 6,
        }


@pytest.mark.pitfall("P73", "P74")
async def test_what_contracts_pay_is_told_and_what_was_rejected_is_not(
    dsn: str, tmp_path: Path
) -> None:
    async with tron_world(dsn, tmp_path) as w:
        await listed(w)
        vault = next(a for a, c in w.chain.contracts.items() if isinstance(c, Disperser))
        never = w.chain.deploy("rejecter", Rejecter())
        await w.watch(ALICE, never)
        data = call_data("trickle(address[],uint256[])", [ALICE, never, ALICE], [5, 1_000, 6])
        w.chain.send(w.chain.wallet("payer"), vault, 0, data)
        await w.mine(2)
        rows = await w.agree()
        assert [(row["amountUnits"], row["ordinal"]) for row in rows] in (
            [("5", 0), ("6", 1)],
            [("6", 1), ("5", 0)],
        )


@pytest.mark.pitfall("P78")
async def test_a_fork_at_the_head_is_quiet_where_it_is_mined_again(
    dsn: str, tmp_path: Path
) -> None:
    async with tron_world(dsn, tmp_path) as w:
        await w.watch(ALICE)
        payer = w.chain.wallet("payer")
        for depth in range(1, 6):
            again = w.chain.send(payer, ALICE, depth)
            gone = w.chain.send(payer, ALICE, 1_000)
            await w.mine(depth)
            before = await w.histories()
            w.chain.reorg(depth, longer=1, cancel={gone.hash})
            await w.follow()
            rows = {row["transactionHash"]: row for row in await w.deposits()}
            kept, lost = rows[again.hash.hex()], rows[gone.hash.hex()]
            told, known = await w.histories(), before[kept["id"]]
            assert told[kept["id"]][: len(known)] == known
            assert "orphaned" not in told[kept["id"]]
            assert (lost["status"], told[lost["id"]][-1]) == ("orphaned", "orphaned")
            await w.agree()
        await w.delivered()


@pytest.mark.pitfall("P78")
async def test_what_waits_for_finality_waits_while_it_stalls(dsn: str, tmp_path: Path) -> None:
    async with tron_world(dsn, tmp_path, confirmations="finalized") as w:
        await w.watch(ALICE)
        w.chain.stalled = True
        w.chain.send(w.chain.wallet("payer"), ALICE, 5)
        await w.mine(FINALITY + 5)
        (row,) = await w.deposits()
        assert (row["status"], row["requiredConfirmations"]) == ("detected", None)
        w.chain.stalled = False
        await w.mine()

        async def final() -> bool:
            return [each["status"] for each in await w.deposits()] == ["finalized"]

        await w.until(final, "it never was finalized")
        assert list((await w.histories()).values()) == [["detected", "confirmed", "finalized"]]


@pytest.mark.pitfall("P76", "P86")
async def test_a_node_that_lags_delays_and_loses_nothing(dsn: str, tmp_path: Path) -> None:
    async with tron_world(dsn, tmp_path, nodes=2) as w:
        await w.watch(ALICE)
        payer = w.chain.wallet("payer")
        for number in range(1, 9):
            for node in w.nodes:
                node.node.hidden, node.node.without_infos = number % 3, number % 2
            w.chain.send(payer, ALICE, number)
            w.chain.mine()
        for node in w.nodes:
            node.node.hidden = node.node.without_infos = 0
        await w.mine(2)
        assert len(await w.agree()) == 8
        assert set(map(tuple, (await w.histories()).values())) == {("detected", "confirmed")}


@pytest.mark.parametrize("quorum", [1, 2])
async def test_traffic_with_forks_ends_as_the_chain_does(
    dsn: str, tmp_path: Path, quorum: int
) -> None:
    async with tron_world(dsn, tmp_path, nodes=2, quorum=quorum) as w:
        keys = [w.chain.wallet(f"watched {n}").address for n in range(4)]
        traffic = TronTraffic(w.chain, keys, Random(quorum))
        await w.watch(*keys)
        for asset in traffic.assets:
            await w.list_coin(asset)
        for _ in range(25):
            traffic.step()
        await w.mine(2)
        assert len(await w.agree()) > 15
        await w.delivered()


async def test_the_check_command_tells_how_each_endpoint_does(dsn: str, tmp_path: Path) -> None:
    async with tron_world(dsn, tmp_path, nodes=2) as w:
        code, shown = await w.engine.run("check")
        assert code == 0, shown
        assert all(node.url in shown for node in w.nodes)
        with w.nodes[1].twisted(lambda *_: {"Error": "no"}):
            _, shown = await w.engine.run("check")
            assert f"{w.nodes[1].url} answered wallet/getblock with an error: no" in shown
