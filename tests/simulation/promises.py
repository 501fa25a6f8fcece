"""The design's seven promises, as what must hold of a world: at any moment, and in the end.

What is compared with is the chain itself and what owners asked for; nothing here is read by the
code that is tested.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from indexer.model import format_amount, make_id
from tests.simulation.truth import Identity, Movement

if TYPE_CHECKING:
    from tests.simulation.world import World

DECIMALS: Final = {b"": 18}  # else those of tokens
TOKEN_DECIMALS: Final = 6

# What may follow what in a deposit's events; None is the beginning. One that was ignored, which
# nobody is told, may have been anything between.
NEXT: Final[Mapping[str | None, set[str]]] = {
    None: {"detected", "held"},
    "detected": {"confirmed", "orphaned"},
    "confirmed": {"finalized", "orphaned"},
    "finalized": {"orphaned"},  # after a rewind
    "held": {"detected", "rejected", "orphaned"},
    "rejected": {"orphaned"},
    "orphaned": {"detected", "held", "rejected"},
}


class Promise(Enum):
    NO_DUPLICATE = "1 no duplicate"
    NO_HOLE = "2 no hole"
    SAME_ANSWER = "3 same answer"
    ORDER = "4 order"
    MONEY = "5 money is whole"
    BELIEF = "6 nothing unproved is believed"
    SECRETS = "7 no secret is shown"
    LIFE = "all goes on"


class Broken(Exception):
    """A promise was not kept; how, says the text."""

    def __init__(self, promise: Promise, text: str) -> None:
        super().__init__(promise, text)
        self.promise = promise
        self.text = text

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.text}"


class Watched(NamedTuple):
    """A registration, as it stands."""

    state: str
    own: bool
    covered_from: int
    active_from: int | None
    removed_from: int | None

    def covers(self, height: int) -> bool:
        before = self.removed_from is None or height < self.removed_from
        return not self.own and self.covered_from <= height and before


class Asked(NamedTuple):
    """What owners have asked for, as it stands."""

    watched: dict[tuple[str, bytes], Watched]
    coins: dict[bytes, Any]

    def covers(self, movement: Movement, height: int, *, active: bool = False) -> list[Identity]:
        """For whom a movement is covered; `active`: where new blocks are read for it, too."""
        _, recipient, asset, _ = movement
        coin = self.coins.get(asset)
        if coin is None or height < coin["covered_from"] or (active and coin["state"] != "active"):
            return []
        return [
            Identity(account, *movement)
            for (account, address), watched in self.watched.items()
            if address == recipient
            and watched.covers(height)
            and (not active or watched.state == "active")
        ]


class Stored(NamedTuple):
    """What the database holds, at one moment."""

    cursor: Any
    deposits: dict[Identity, Any]
    asked: Asked
    scans: list[Any]
    headers: dict[int, Any]


class Promises:
    """Checks that a world keeps them, and counts how often."""

    def __init__(self, world: World) -> None:
        self.checked: Counter[Promise] = Counter()
        self._world = world
        self._seen: set[Identity] = set()  # covered at some time

    def hold(self, promise: Promise, condition: object, text: str) -> None:
        self.checked[promise] += 1
        if not condition:
            raise Broken(promise, text)

    # ---------------------------------------------------------------- at any moment

    def look(self) -> Stored | None:
        """Hold the database against the chain; what was broken is the world's problem."""
        stored = self._load()
        if stored is None:
            return None
        self._hold_headers(stored)
        self._hold_rows(stored)
        self._hold_coverage(stored)
        return stored

    def _load(self) -> Stored | None:
        ask = self._world.database.server.ask
        cursors = ask("select * from cursor")
        if not cursors:
            return None
        deposits: dict[Identity, Any] = {}
        for row in ask("select * from deposit order by id"):
            identity = Identity(
                row["account"], row["tx"], row["address"], row["asset"], row["ordinal"]
            )
            self.hold(Promise.NO_DUPLICATE, identity not in deposits, f"twice: {identity}")
            deposits[identity] = row
        scans = ask("select * from scan where state = 'open'")
        headers = {row["height"]: row for row in ask("select * from block")}
        return Stored(cursors[0], deposits, self.note(), scans, headers)

    def note(self) -> Asked:
        """Remember what is covered now: that it may be found, whatever is asked for later."""
        ask = self._world.database.server.ask
        watched = {
            (row["account"], row["address"]): Watched(
                row["state"],
                row["role"] == "own",
                row["covered_from"],
                row["active_from"],
                row["removed_from"],
            )
            for row in ask("select * from watched_address")
        }
        asked = Asked(watched, {row["asset"]: row for row in ask("select * from coin")})
        for movement, due in self._world.truth.ever():
            self._seen.update(asked.covers(movement, due.height))
        return asked

    def _hold_headers(self, stored: Stored) -> None:
        """Every stored header is a block that somebody mined, each on the one below."""
        cursor = stored.cursor
        self.hold(
            Promise.BELIEF,
            self._world.truth.block(cursor["hash"]) is not None,
            f"the cursor stands on no block that there ever was, at {cursor['height']}",
        )
        for height, row in stored.headers.items():
            block = self._world.truth.block(row["hash"])
            self.hold(Promise.BELIEF, block is not None, f"no block ever was header {height}")
            below = stored.headers.get(height - 1)
            linked = below is None or below["hash"] == row["parent"]
            self.hold(Promise.SAME_ANSWER, linked, f"header {height} stands on another block")
        self.hold(Promise.SAME_ANSWER, stored.headers, "no header is stored")
        top = max(stored.headers)
        self.hold(
            Promise.SAME_ANSWER,
            (top, stored.headers[top]["hash"]) == (cursor["height"], cursor["hash"]),
            f"the cursor is at {cursor['height']}, the headers end at {top}",
        )

    def _hold_rows(self, stored: Stored) -> None:
        """Every row is a payment that truly was, and what stands stands on our branch."""
        truth = self._world.truth
        branch = {block.hash for block in truth.branch(stored.cursor["hash"])}
        for identity, row in stored.deposits.items():
            block = truth.block(row["hash"])
            due = None if block is None else truth.paid(block).get(identity.movement)
            self.hold(Promise.BELIEF, due is not None, f"{row['id']} was never paid so")
            assert due is not None
            self.hold(
                Promise.MONEY,
                (row["units"], row["sender"]) == (due.units, due.sender),
                f"{row['id']} says {row['units']}, the chain {due.units}",
            )
            self.hold(Promise.SAME_ANSWER, row["height"] == due.height, f"{row['id']}: its height")
            if row["state"] != "orphaned" and not row["unplaced"]:
                self.hold(
                    Promise.SAME_ANSWER,
                    row["hash"] in branch,
                    f"{row['id']} stands in block {row['height']} of another branch",
                )

    def _hold_coverage(self, stored: Stored) -> None:
        """What the cursor has passed, and no scan has still to read, is a row if it is covered."""
        for block in self._world.truth.branch(stored.cursor["hash"]):
            if any(s["next"] <= block.number <= s["last"] for s in stored.scans):
                continue
            for movement, due in self._world.truth.paid(block).items():
                for identity in stored.asked.covers(movement, block.number, active=True):
                    row = stored.deposits.get(identity)
                    there = row is not None and (row["state"] != "orphaned" or row["unplaced"])
                    self.hold(
                        Promise.NO_HOLE,
                        there and row is not None and row["units"] == due.units,
                        f"{due.units} in block {block.number} for {identity.account} is missing",
                    )

    # ---------------------------------------------------------------- in the end

    def hold_in_the_end(self) -> None:
        """Everything that must agree once all has come to rest."""
        stored = self.look()
        assert stored is not None
        self._hold_same_answer(stored)
        self._hold_events(stored)
        self._hold_totals()
        self._hold_delivered()
        self._hold_sealed()

    def _hold_same_answer(self, stored: Stored) -> None:
        final = self._world.truth.final()
        standing = {
            identity: (row["units"], row["hash"])
            for identity, row in stored.deposits.items()
            if row["state"] != "orphaned"
        }
        covered = {
            identity: (due.units, due.hash)
            for movement, due in final.items()
            for identity in stored.asked.covers(movement, due.height)
        }
        for identity, what in covered.items():
            self.hold(Promise.NO_HOLE, identity in standing, f"{identity} is missing: {what}")
            self.hold(Promise.SAME_ANSWER, standing[identity] == what, f"{identity} is not {what}")
        for identity in standing:
            self.hold(Promise.SAME_ANSWER, identity.movement in final, f"{identity} stands")
            known = identity in covered or identity in self._seen
            self.hold(Promise.SAME_ANSWER, known, f"nobody asked for {identity}")
        for row in stored.deposits.values():
            self._hold_state(stored, row)

    def _hold_state(self, stored: Stored, row: Any) -> None:
        """Neither earlier nor later than depth and finality say."""
        cursor = stored.cursor
        depth = cursor["height"] - row["height"] + 1
        right = {
            "detected": depth < row["required"],
            "confirmed": row["height"] > cursor["finalized"],
            "finalized": row["height"] <= cursor["finalized"],
        }.get(row["state"], True)
        self.hold(
            Promise.SAME_ANSWER,
            right and not row["unplaced"],
            f"{row['id']} is {row['state']} at depth {depth}, final is {cursor['finalized']}",
        )
        if row["reason"] == "coin_inactive":
            active = stored.asked.coins[row["asset"]]["status"] == "active"
            self.hold(Promise.SAME_ANSWER, not active, f"{row['id']} waits for its coin")

    def _hold_events(self, stored: Stored) -> None:
        rows = {row["id"]: row for row in stored.deposits.values()}
        told: dict[str, list[str]] = defaultdict(list)
        position: Counter[str] = Counter()
        for event in self._world.database.server.ask(
            "select * from event where deposit is not null order by account, position"
        ):
            position[event["account"]] += 1
            self.hold(
                Promise.ORDER,
                event["position"] == position[event["account"]],
                f"the feed of {event['account']} has {event['position']} twice or a gap before it",
            )
            kind = event["type"].removeprefix("deposit.")
            before = told[event["deposit"]]
            last = before[-1] if before else None
            legal = kind in NEXT[last] and (last != "finalized" or self._world.rewinds)
            self.hold(Promise.NO_DUPLICATE, legal, f"{event['deposit']}: {last} -> {kind}")
            self._hold_body(event, kind, before, rows[event["deposit"]])
            before.append(kind)
        for name, row in rows.items():
            quiet = row["state"] == "ignored" or row["previous"] == "ignored"
            ends = quiet or (bool(told[name]) and told[name][-1] == row["state"])
            self.hold(
                Promise.NO_DUPLICATE,
                len(told[name]) == row["sequence"] and ends,
                f"{name} is {row['state']} after {row['sequence']} events; told was {told[name]}",
            )

    def _hold_body(self, event: Any, kind: str, before: list[str], row: Any) -> None:
        data = orjson.loads(event["body"])["data"]
        name = make_id("evt_", event["deposit"], event["type"], str(before.count(kind)))
        self.hold(Promise.NO_DUPLICATE, event["id"] == name, f"{event['id']} is not {name}")
        sequences = {data["sequence"], event["sequence"]}
        self.hold(Promise.ORDER, sequences == {len(before) + 1}, f"{name}: {sequences}")
        decimals = DECIMALS.get(row["asset"], TOKEN_DECIMALS)
        amount = format_amount(int(data["amountUnits"]), decimals)
        self.hold(Promise.MONEY, data["amount"] == amount, f"{name}: {data['amount']}")
        if kind == "confirmed":
            deep = data["confirmations"] >= data["requiredConfirmations"]
            self.hold(Promise.SAME_ANSWER, deep, f"{name} came too early: {data}")
        paid = self._world.truth.block(bytes.fromhex(data["blockHash"][2:]))
        self.hold(Promise.BELIEF, paid is not None, f"{name} names a block that never was")

    def _hold_totals(self) -> None:
        differing = self._world.database.server.ask(
            """
            select * from (
                select account, coin,
                       coalesce(sum(units) filter (where state = 'detected'), 0) as detected,
                       coalesce(sum(units) filter (where state = 'held'), 0) as held,
                       coalesce(sum(units) filter (where state in ('confirmed', 'finalized')), 0)
                           as confirmed
                  from deposit group by account, coin) s
              full join total t using (account, coin)
             where (coalesce(s.detected, 0), coalesce(s.held, 0), coalesce(s.confirmed, 0))
                <> (coalesce(t.detected, 0), coalesce(t.held, 0), coalesce(t.confirmed, 0))
            """
        )
        self.hold(Promise.MONEY, not differing, f"sums differ: {differing}")

    def _hold_delivered(self) -> None:
        """Every event that an endpoint asked for came there, or was given up for a reason."""
        rows = self._world.database.server.ask(
            """
            select d.event, d.endpoint, d.state::text as state, d.reason,
                   count(*) over (partition by d.event, d.endpoint) as times
              from delivery_done d
            """
        )
        accepted = {each.endpoint: each.accepted for each in self._world.receivers.values()}
        for row in rows:
            came = row["event"] in accepted[row["endpoint"]]
            self.hold(
                Promise.ORDER,
                row["times"] == 1 and (came or row["state"] != "delivered"),
                f"{row['event']} is {row['state']} at {row['endpoint']}, and came: {came}",
            )
        for each in self._world.receivers.values():
            missing = self._world.database.server.ask(
                """
                select e.id from event e
                  join deposit d on d.id = e.deposit and not d.silent
                 where e.account = (select account from endpoint where id = $1)
                   and e.created_at > $2 and e.type <> 'deposit.finalized'
                   and not exists (select from delivery_done n
                                    where n.event = e.id and n.endpoint = $1)
                """,
                each.endpoint,
                each.since,
            )
            self.hold(Promise.ORDER, not missing, f"never sent to {each.endpoint}: {missing}")

    def _hold_sealed(self) -> None:
        """Stored secrets are encrypted."""
        rows = self._world.database.server.ask(
            """
            select secret as sealed from endpoint_secret
            union all select headers from endpoint where headers is not null
            """
        )
        plain = [text.encode() for text in self._world.secrets]
        plain += [key for each in self._world.receivers.values() for key in each.secrets]
        for row in rows:
            shown = any(each in row["sealed"] for each in plain)
            self.hold(Promise.SECRETS, not shown, "a stored secret can be read")
