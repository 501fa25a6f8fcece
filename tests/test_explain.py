"""`explain`: every way in which a deposit can fail to arrive, and the sentence that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg
import pytest

from indexer.chains import Chain, Sighting
from indexer.explain import Explainer, Explanation
from indexer.explain.steps import Step
from indexer.explain.ways import Way
from indexer.model import Reason, Refused, Tier, Unavailable
from indexer.secret import Vault
from tests import callback_rows
from tests.followed import HOT, World
from tests.scripted import ADDRESSES, STRANGER, TOKEN, HexCodec, Payment, ScriptedChain, payment

ALICE: Final = ADDRESSES[0]  # alice's, where a test registers it
UNITS: Final = 150_000_000  # of 10^8 to a coin
TX: Final = payment(1).tx


class Unindexed(dict[bytes, Sighting]):
    """A node's sightings that can't be looked up."""

    def get(self, *_: Any) -> Any:
        raise Refused("it keeps no index")


@dataclass
class Explained:
    """A followed chain, and what is explained of it."""

    world: World
    vault: Vault
    chains: dict[str, Chain | Exception] = field(default_factory=dict)

    async def ask(self, account: str | None = None) -> Explanation:
        networks = dict.fromkeys(self.chains, self.world.rules)
        codecs: Mapping[str, HexCodec] = dict.fromkeys(self.chains, HexCodec())
        explainer = Explainer(self.world.pool, self.vault, networks, codecs, self._reach)
        return await explainer.explain("net", TX.hex(), account)

    async def stopped(self, account: str | None = None) -> Step:
        """Where the transaction itself stopped."""
        explanation = await self.ask(account)
        return stop(explanation["stoppedAt"], explanation["steps"])

    async def way(self, account: str | None = None) -> Way:
        (found,) = (await self.ask(account))["transfers"]
        return found

    async def way_stopped(self, account: str | None = None) -> Step:
        """Where the only transfer's way stopped."""
        found = await self.way(account)
        return stop(found["stoppedAt"], found["steps"])

    async def pay(self, units: int = UNITS, **more: Any) -> None:
        """Mined and read."""
        self.world.chain.mine(replace(payment(1, (ALICE, units)), **more))
        await self.world.step()

    async def paid(self, units: int = UNITS) -> None:
        """To an address that alice has registered."""
        await self.world.register("alice", ALICE)
        await self.settle()
        await self.pay(units)

    async def settle(self, blocks: int = 0) -> None:
        for _ in range(blocks):
            self.world.chain.mine()
        for _ in range(3):
            await self.world.step()
            await self.world.scan()

    async def endpoint(self, **given: Any) -> str:
        name, _ = await callback_rows.endpoint(
            self.world.pool, self.vault, "https://shop.example/", account="alice", **given
        )
        return name

    async def run(self, statement: str, *values: object) -> None:
        await self.world.pool.execute(statement, *values)

    @asynccontextmanager
    async def _reach(self, network: str) -> AsyncIterator[Chain]:
        chain = self.chains[network]
        if isinstance(chain, Exception):
            raise chain
        yield chain


def stop(name: str | None, steps: list[Step]) -> Step:
    """The step at which it stopped."""
    assert name is not None, steps
    return next(each for each in steps if each["result"] != "passed" and each["step"] == name)


def told(step: Step) -> tuple[str, str, str]:
    return step["step"], step["result"], step["sentence"]


@pytest.fixture
async def explained(pool: asyncpg.Pool, vault: Vault) -> Explained:
    world = await World.begin(pool)
    await pool.execute("insert into dispatcher (id, seen_at) values (gen_random_uuid(), clock())")
    made = Explained(world, vault, {"net": world.chain})
    await made.settle()
    await pool.execute("update network set state = 'following'")
    return made


# ------------------------------------------------------------------------------ the transaction


async def test_a_transaction_that_nobody_knows(explained: Explained) -> None:
    explained.chains |= {"other": ScriptedChain(), "third": Unavailable("down")}
    step = await explained.stopped()
    assert told(step) == (
        "transaction",
        "ended",
        "no node of net knows it, other neither; third could not be asked",
    )
    assert "replaced" in (step["advice"] or "")


async def test_one_that_was_sent_on_another_network(explained: Explained) -> None:
    other = ScriptedChain()
    other.mine(payment(1, (ALICE, 5)))
    explained.chains["other"] = other
    step = await explained.stopped()
    assert told(step) == (
        "transaction",
        "ended",
        "no node of net knows it, other has it: it was sent on another network",
    )
    assert f"`depositd explain other {TX.hex()}`" in (step["advice"] or "")


async def test_one_that_waits_to_be_mined(explained: Explained) -> None:
    explained.world.chain.sightings[TX] = Sighting("node-a")
    assert told(await explained.stopped()) == (
        "transaction",
        "waits",
        "node-a has it, but in no block yet: it waits to be mined",
    )


async def test_one_that_was_replaced(explained: Explained) -> None:
    explained.world.chain.sightings[TX] = Sighting("node-a", trouble="it was replaced")
    assert told(await explained.stopped()) == (
        "transaction",
        "ended",
        "node-a has it in no block, and it never will be in one: it was replaced",
    )


async def test_one_that_failed(explained: Explained) -> None:
    header = explained.world.chain.mine()
    await explained.settle()
    explained.world.chain.sightings[TX] = Sighting(
        "node-a", header.height, header.hash, executed=False, trouble="it was reverted"
    )
    assert told(await explained.stopped()) == (
        "execution",
        "ended",
        "it failed: it was reverted; a failed transaction moves nothing",
    )


async def test_one_that_moves_nothing_says_what_is_not_seen(explained: Explained) -> None:
    header = explained.world.chain.mine()
    await explained.settle()
    explained.world.chain.sightings[TX] = Sighting(
        "node-a", header.height, header.hash, executed=True, unseen="what contracts paid"
    )
    step = await explained.stopped()
    assert told(step) == (
        "transfers",
        "ended",
        "it moves no coin to anybody in a way that can be a deposit",
    )
    assert step["advice"] == "not seen: what contracts paid"


async def test_one_whose_block_left_the_node_s_chain(explained: Explained) -> None:
    explained.world.chain.sightings[TX] = Sighting("node-a", 1, b"\7" * 32, executed=True)
    assert told(await explained.stopped()) == (
        "block",
        "ended",
        "its block 1 is not on the node's chain any more: it was orphaned",
    )


async def test_one_whose_block_is_on_a_branch_that_we_do_not_follow(explained: Explained) -> None:
    await explained.paid()
    explained.world.chain.cut(1)
    await explained.world.pool.execute("update network set state = 'forked'")
    explained.world.chain.mine(payment(1, (ALICE, UNITS)))
    step = await explained.stopped()
    height = len(explained.world.chain.view) - 1
    assert told(step) == (
        "block",
        "waits",
        f"our chain has another block {height}: the node of net is on another branch than ours, "
        "not longer yet",
    )


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("halted", "net is halted: because"),
        ("refused", "net is refused: because"),
        ("unreachable", "net is unreachable: because"),
        ("catching_up", "net is behind: at block {cursor} of 900"),
        ("following", "net is about to read it"),
    ],
)
async def test_one_whose_block_is_not_read_yet(
    explained: Explained, state: str, sentence: str
) -> None:
    height = explained.world.chain.mine(payment(1, (ALICE, UNITS))).height
    await explained.run("update network set state = $1, reason = 'because', head = 900", state)
    assert told(await explained.stopped()) == (
        "block",
        "waits",
        f"its block {height} is not read yet: {sentence.format(cursor=height - 1)}",
    )


async def test_one_on_a_network_that_no_process_follows(explained: Explained) -> None:
    height = explained.world.chain.mine(payment(1, (ALICE, UNITS))).height
    await explained.run("update network set updated_at = clock() - interval '5 minutes'")
    step = await explained.stopped()
    assert told(step) == (
        "block",
        "waits",
        f"its block {height} is not read yet: net is unreachable: no process has spoken of it "
        "for 300 s; then it was following",
    )
    assert "`depositd run` has to be running" in (step["advice"] or "")


async def test_one_on_a_network_that_has_not_started(explained: Explained) -> None:
    height = explained.world.chain.mine(payment(1, (ALICE, UNITS))).height
    await explained.run("delete from cursor")
    assert told(await explained.stopped()) == (
        "block",
        "waits",
        f"its block {height} is not read yet: net has not started yet",
    )


async def test_what_the_database_knows_is_told_without_a_node(explained: Explained) -> None:
    await explained.paid()
    explained.chains["net"] = Unavailable("http://node:1 refuses connections")
    explanation = await explained.ask()
    assert told(explanation["steps"][0]) == (
        "transaction",
        "waits",
        "no node of net could say: http://node:1 refuses connections",
    )
    (way,) = explanation["transfers"]
    assert (way["status"], way["account"], way["amount"]) == ("detected", "alice", "1.50000000")


async def test_a_node_without_an_index_finds_it_by_its_deposit(explained: Explained) -> None:
    await explained.paid()
    explained.world.chain.sightings = Unindexed()
    explanation = await explained.ask()
    assert explanation["stoppedAt"] is None
    assert explanation["steps"][-1]["sentence"] == "it has 1 transfer"
    explained.world.chain.cut(1)
    explained.world.chain.mine()
    explanation = await explained.ask()
    assert told(explanation["steps"][0])[1:] == (
        "waits", "no node of net could say: it keeps no index",
    )  # fmt: skip
    assert len(explanation["transfers"]) == 1


# ------------------------------------------------------------------------------ coin, address


async def test_a_token_that_is_no_coin_is_named(explained: Explained) -> None:
    await explained.world.register("alice", ALICE)
    await explained.settle()
    await explained.pay(asset=TOKEN)
    way = await explained.way()
    assert (way["coin"], way["contractAddress"], way["amountUnits"]) == (
        None, TOKEN.hex(), str(UNITS),
    )  # fmt: skip
    assert told(stop(way["stoppedAt"], way["steps"])) == (
        "coin",
        "ended",
        f"{TOKEN.hex()} is no registered coin on net: a token counts by its contract alone",
    )


async def test_a_coin_that_was_registered_too_late(explained: Explained) -> None:
    await explained.world.register("alice", ALICE)
    await explained.settle()
    await explained.pay(asset=TOKEN)
    height = len(explained.world.chain.view) - 1
    await explained.world.register_coin()
    step = await explained.way_stopped()
    assert told(step) == (
        "coin",
        "ended",
        f"tok is covered from block {height + 1}: block {height} is below that",
    )
    assert "--all-history" in (step["advice"] or "")


async def test_an_address_that_nobody_registered(explained: Explained) -> None:
    await explained.pay()
    height = len(explained.world.chain.view) - 1
    step = await explained.way_stopped()
    assert told(step) == ("address", "ended", f"{ALICE.hex()} is not registered on net")
    assert f"fromBlock {height}" in (step["advice"] or "")


async def test_an_address_that_is_registered_on_another_network(explained: Explained) -> None:
    await explained.pay()
    await explained.run("insert into network (id, family) values ('other', 'scripted')")
    await explained.run(
        """
        insert into watched_address (network, address, account, covered_from)
        values ('other', $1, 'alice', 0)
        """,
        ALICE,
    )
    sentence = f"{ALICE.hex()} is not registered on net; it is on other"
    assert told(await explained.way_stopped()) == ("address", "ended", sentence)
    step = await explained.way_stopped("bob")
    assert step["sentence"] == f"{ALICE.hex()} is not registered by bob on net"


async def test_an_address_that_was_registered_too_late(explained: Explained) -> None:
    await explained.pay()
    height = len(explained.world.chain.view) - 1
    await explained.world.register("alice", ALICE)
    step = await explained.way_stopped()
    assert told(step) == (
        "address",
        "ended",
        f"{ALICE.hex()} is watched by alice from block {height + 1}: block {height} is below "
        "that, it was registered too late",
    )
    assert f"fromBlock {height}" in (step["advice"] or "")


async def test_an_address_that_was_removed_before(explained: Explained) -> None:
    await explained.world.register("alice", ALICE)
    await explained.settle()
    await explained.world.remove("alice", ALICE)
    await explained.pay()
    height = len(explained.world.chain.view) - 1
    assert told(await explained.way_stopped()) == (
        "address",
        "ended",
        f"{ALICE.hex()} was removed: alice has not watched it from block {height} on",
    )


async def test_an_own_wallet_receives_no_deposit(explained: Explained) -> None:
    await explained.world.register("alice", ALICE, role="own")
    await explained.settle()
    await explained.pay()
    assert told(await explained.way_stopped()) == (
        "address",
        "ended",
        f"{ALICE.hex()} is an own wallet of alice: what it receives is no deposit",
    )


# ------------------------------------------------------------------------------ the deposit


async def test_one_below_the_minimum(explained: Explained) -> None:
    await explained.world.change_coin(b"", minimum=2 * UNITS)
    await explained.paid()
    way = await explained.way()
    assert told(stop(way["stoppedAt"], way["steps"])) == (
        "deposit",
        "ended",
        f"{way['deposit']} is ignored: it is below the coin's minDepositAmount",
    )


async def test_what_is_below_the_minimum_is_said_before_it_is_read(explained: Explained) -> None:
    await explained.world.change_coin(b"", minimum=2 * UNITS)
    await explained.world.register("alice", ALICE)
    await explained.settle()
    explained.world.chain.mine(payment(1, (ALICE, UNITS)))
    assert told(await explained.way_stopped()) == (
        "amount",
        "ended",
        "1.50000000 NAT (minimum 3.00000000, no maximum): it is below the minimum and will be "
        "ignored",
    )


async def test_one_from_an_own_wallet(explained: Explained) -> None:
    await explained.world.register("alice", ALICE)
    await explained.world.register("alice", HOT, role="own")
    await explained.settle()
    await explained.pay(sender=HOT)
    way = await explained.way()
    assert told(stop(way["stoppedAt"], way["steps"])) == (
        "deposit",
        "ended",
        f"{way['deposit']} is ignored: the account's own address sent it",
    )


async def test_one_that_is_held_above_the_cap(explained: Explained) -> None:
    await explained.world.change_coin(b"", cap=1)
    await explained.paid()
    way = await explained.way()
    step = stop(way["stoppedAt"], way["steps"])
    assert told(step) == (
        "deposit",
        "waits",
        f"{way['deposit']} is held: it is above the coin's maxAutoAmount",
    )
    assert "release" in (step["advice"] or "")


async def test_one_of_an_inactive_coin(explained: Explained) -> None:
    await explained.world.change_coin(b"", active=False)
    await explained.paid()
    way = await explained.way()
    step = stop(way["stoppedAt"], way["steps"])
    assert told(step) == (
        "deposit",
        "waits",
        f"{way['deposit']} is held: its coin was inactive",
    )
    assert step["advice"] == "an admin sets it ACTIVE: `PUT /v1/coins`"


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            Reason.UNKNOWN_SHAPE,
            "it is shaped unlike its standard, so that nobody can be sure of it",
        ),
        (Reason.BALANCE_MISMATCH, "the address's balance does not show what the event says"),
        (Reason.BALANCE_UNKNOWN, "no node could say the address's balance at its block"),
        (Reason.MIXED_INPUTS, "the account's own wallets and others paid it together"),
    ],
)
async def test_one_that_no_rule_decides(
    explained: Explained, reason: Reason, sentence: str
) -> None:
    await explained.paid()
    await explained.run("update deposit set state = 'held', reason = $1", reason)
    way = await explained.way()
    expected = ("deposit", "waits", f"{way['deposit']} is held: {sentence}")
    assert told(stop(way["stoppedAt"], way["steps"])) == expected


async def test_one_that_an_admin_refused(explained: Explained) -> None:
    await explained.paid()
    await explained.run("update deposit set state = 'rejected'")
    way = await explained.way()
    expected = ("deposit", "ended", f"{way['deposit']} is rejected: an admin refused it")
    assert told(stop(way["stoppedAt"], way["steps"])) == expected


async def test_one_that_was_orphaned(explained: Explained) -> None:
    await explained.paid()
    height = len(explained.world.chain.view) - 1
    explained.world.chain.cut(1)
    await explained.settle(blocks=2)
    explanation = await explained.ask()
    assert explanation["steps"][0]["sentence"] == "no node of net knows it"
    (way,) = explanation["transfers"]
    assert told(stop(way["stoppedAt"], way["steps"])) == (
        "deposit",
        "ended",
        f"{way['deposit']} is orphaned: block {height} left the chain, and what replaced it does "
        "not have it",
    )


async def test_one_that_a_rewind_has_not_found_again(explained: Explained) -> None:
    await explained.paid()
    await explained.settle(blocks=1)
    await explained.world.rewind(3)
    way = await explained.way()
    assert told(stop(way["stoppedAt"], way["steps"])) == (
        "deposit",
        "waits",
        f"{way['deposit']} is detected, but net was rewound and it is not found again yet",
    )


async def test_one_that_waits_for_confirmations(explained: Explained) -> None:
    await explained.paid()
    assert told(await explained.way_stopped()) == (
        "confirmations",
        "waits",
        "1 of 3 confirmations",
    )
    await explained.run("update network set state = 'halted', reason = 'a deep reorganisation'")
    assert told(await explained.way_stopped()) == (
        "confirmations",
        "waits",
        "1 of 3 confirmations; net is halted: a deep reorganisation",
    )


async def test_the_amount_says_which_rule_asks_for_how_many_confirmations(
    explained: Explained,
) -> None:
    await explained.world.change_coin(b"", tiers=[Tier(2 * UNITS, 5)], cap=10 * UNITS)
    await explained.paid()
    step = next(each for each in (await explained.way())["steps"] if each["step"] == "amount")
    assert step["sentence"] == (
        "1.50000000 NAT (minimum 0.00000000, maximum without a person 15.00000000): "
        "5 confirmations (of amounts up to 3.00000000)"
    )


async def test_one_that_was_lost(explained: Explained) -> None:
    await explained.paid()
    height = len(explained.world.chain.view) - 1
    await explained.run("delete from event")
    await explained.run("delete from deposit")
    step = await explained.way_stopped()
    assert told(step) == ("deposit", "ended", "there should be a deposit, and there is none")
    assert f"`depositd scan net --from {height} --to {height}`" in (step["advice"] or "")


async def test_one_whose_block_a_scan_has_still_to_read(explained: Explained) -> None:
    await explained.pay()
    await explained.world.register("alice", ALICE, from_block=0)
    assert "about to turn active" in (await explained.way_stopped())["sentence"]
    await explained.world.step()
    height = len(explained.world.chain.view) - 1
    assert told(await explained.way_stopped()) == (
        "deposit",
        "waits",
        f"block {height} is to be read again for what was registered since: a scan is on its way",
    )
    await explained.settle()
    assert (await explained.way())["status"] == "detected"


# ------------------------------------------------------------------------------ callbacks


async def deliveries(explained: Explained) -> list[Step]:
    return [each for each in (await explained.way())["steps"] if each["step"] == "delivery"]


async def delivery(explained: Explained) -> tuple[str, str]:
    (step,) = await deliveries(explained)
    return step["result"], step["sentence"]


async def test_an_account_without_endpoints(explained: Explained) -> None:
    await explained.paid()
    assert await delivery(explained) == ("ended", "account alice has no endpoint")


async def test_an_endpoint_that_asks_for_other_events(explained: Explained) -> None:
    await explained.endpoint(events=["deposit.held"])
    await explained.paid()
    assert await delivery(explained) == (
        "ended",
        "no endpoint of account alice asks for deposit.detected of this deposit",
    )


async def test_an_endpoint_that_was_made_later(explained: Explained) -> None:
    await explained.paid()
    name = await explained.endpoint()
    assert await delivery(explained) == ("ended", f"endpoint {name} was made after it happened")


async def test_a_registration_without_callbacks(explained: Explained) -> None:
    await explained.endpoint()
    await explained.pay()
    await explained.world.register("alice", ALICE, from_block=0, silent=True)
    await explained.settle()
    assert await delivery(explained) == (
        "ended",
        "nobody is told: its address was registered with callbacks: false",
    )


async def test_an_event_that_is_left_out_ends_nothing_where_others_are_sent(
    explained: Explained,
) -> None:
    await explained.endpoint(events=["deposit.confirmed"])
    await explained.paid()
    await explained.settle(blocks=2)
    left_out, sent = await deliveries(explained)
    assert (left_out["result"], sent["result"]) == ("passed", "waits")


async def test_a_delivery_that_is_on_its_way(explained: Explained) -> None:
    name = await explained.endpoint()
    await explained.paid()
    expected = ("waits", f"on its way to endpoint {name}, next try now")
    assert await delivery(explained) == expected


async def test_nobody_who_sends(explained: Explained) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.run("update dispatcher set seen_at = clock() - interval '1 minute'")
    expected = ("waits", f"no process sends callbacks to endpoint {name}")
    assert await delivery(explained) == expected


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_an_endpoint_that_takes_nothing(explained: Explained, state: str) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.run(
        """
        update endpoint set state = $1, state_reason = 'it said so',
                            state_since = '2026-11-21T07:00:00Z'
        """,
        state,
    )
    assert await delivery(explained) == (
        "waits",
        f"held: endpoint {name} is {state} since 2026-11-21T07:00:00.000000Z: it said so",
    )


async def test_a_receiver_that_fails(explained: Explained) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.run(
        """
        update delivery set attempts = 3, last_error = 'HTTP 500', due_at = '2099-01-01T00:00:00Z'
        """
    )
    assert await delivery(explained) == (
        "waits",
        f"endpoint {name} failed 3 attempts: HTTP 500; next try at 2099-01-01T00:00:00.000000Z",
    )


async def test_a_receiver_that_is_left_alone_for_a_while(explained: Explained) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.run(
        """
        insert into endpoint_health (endpoint, failures, open_until)
        values ($1, 5, '2099-01-01T00:00:00Z')
        """,
        name,
    )
    assert await delivery(explained) == (
        "waits",
        f"endpoint {name} takes nothing now: its last 5 attempts failed; "
        "next try at 2099-01-01T00:00:00.000000Z",
    )


async def test_a_delivery_that_waits_for_an_earlier_one(explained: Explained) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.settle(blocks=2)
    first, second = await deliveries(explained)
    assert first["sentence"] == f"on its way to endpoint {name}, next try now"
    assert second["sentence"] == f"endpoint {name} is sent event 1 of this deposit first"


@pytest.mark.parametrize(
    ("state", "result", "sentence"),
    [
        ("delivered", "passed", "delivered to endpoint {name} at {at}, after 2 attempts"),
        ("exhausted", "ended", "given up to endpoint {name} at {at}, after 2 attempts: HTTP 500"),
        ("cancelled", "ended", "cancelled to endpoint {name} at {at}: no more"),
    ],
)
async def test_a_delivery_that_is_finished(
    explained: Explained, state: str, result: str, sentence: str
) -> None:
    name = await explained.endpoint()
    await explained.paid()
    await explained.run("update delivery set attempts = 2, last_error = 'HTTP 500'")
    await explained.run(
        "select end_deliveries(array(select id from delivery), $1, 'no more')", state
    )
    await explained.run("update delivery_done set done_at = '2026-11-21T07:00:00Z'")
    at = "2026-11-21T07:00:00.000000Z"
    assert await delivery(explained) == (result, sentence.format(name=name, at=at))


async def test_all_the_way(explained: Explained) -> None:
    await explained.endpoint()
    await explained.paid()
    await explained.settle(blocks=2)
    await explained.run("select end_deliveries(array(select id from delivery), 'delivered', null)")
    explanation = await explained.ask()
    (way,) = explanation["transfers"]
    assert (explanation["stoppedAt"], way["stoppedAt"]) == (None, None)
    names = [each["step"] for each in (*explanation["steps"], *way["steps"])]
    assert names == [
        "transaction", "block", "execution", "transfers",
        "coin", "address", "amount", "deposit", "confirmations",
        "event", "delivery", "event", "delivery",
    ]  # fmt: skip
    assert way["status"] == "confirmed"


# ------------------------------------------------------------------------------ whose


async def test_an_account_learns_nothing_of_another(explained: Explained) -> None:
    await explained.endpoint()
    await explained.paid()
    await explained.world.register("bob", ADDRESSES[1])
    assert (await explained.way("alice"))["account"] == "alice"
    explanation = await explained.ask("bob")
    assert "alice" not in repr(explanation)
    (way,) = explanation["transfers"]
    assert (way["account"], way["deposit"], way["stoppedAt"]) == (None, None, "address")
    explained.chains["net"] = Unavailable("down")
    assert (await explained.ask("bob"))["transfers"] == []


async def test_an_address_of_two_accounts_is_explained_for_each(explained: Explained) -> None:
    await explained.world.register("bob", ALICE)
    await explained.paid()
    ways = (await explained.ask())["transfers"]
    assert [(way["account"], way["status"]) for way in ways] == [
        ("alice", "detected"), ("bob", "detected"),
    ]  # fmt: skip


async def test_what_concerns_somebody_is_shown_first_and_the_rest_is_counted(
    explained: Explained,
) -> None:
    await explained.world.register("alice", ALICE)
    await explained.settle()
    crowd = tuple((bytes([9, n]) * 10, 1) for n in range(120))
    explained.world.chain.mine(Payment(TX, (*crowd, (ALICE, UNITS))))
    await explained.world.step()
    explanation = await explained.ask()
    assert (len(explanation["transfers"]), explanation["omitted"]) == (100, 21)
    assert explanation["transfers"][0]["account"] == "alice"
    assert STRANGER.hex() not in repr(explanation)
